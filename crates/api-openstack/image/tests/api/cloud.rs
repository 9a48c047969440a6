//! What the tests share: a cloud, its clients and short ways to say things.

use serde_json::{Value, json};
use tempfile::TempDir;
use unkai_image::bytes::Images;
use unkai_image::{Settings, images, routes_with};
use unkai_openstack::Cloud;
use unkai_openstack::testing::{Answer, Client, cloud};

pub const OCTETS: (&str, &str) = ("content-type", "application/octet-stream");

/// A cloud with clients of two projects, a reader and an administrator.
pub struct Fixture {
    pub dir: TempDir,
    pub cloud: Cloud,
    pub images: Images,
    pub member: Client,
    pub other: Client,
    pub reader: Client,
    pub admin: Client,
}

pub fn fixture() -> Fixture {
    fixture_with(Settings::default())
}

pub fn fixture_with(settings: Settings) -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let cloud = cloud(dir.path());
    let member = Client::new(&cloud, routes_with(&cloud, settings.clone()), "p1/alice/member,reader");
    let (other, reader) = (member.with_token("p2/bob/member,reader"), member.with_token("p1/rita/reader"));
    let admin = member.with_token("p0/root/admin,member,reader");
    let images = images(&cloud, &settings);
    Fixture { dir, cloud, images, member, other, reader, admin }
}

impl Fixture {
    /// A queued image of the member's project.
    pub async fn queued(&self, body: Value) -> Value {
        let mut whole = json!({ "name": "x", "disk_format": "raw", "container_format": "bare" });
        whole.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
        let answer = self.member.call("POST", "/v2/images", whole).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.body
    }

    /// An active one.
    pub async fn active(&self, body: Value, data: &[u8]) -> String {
        let id = id(&self.queued(body).await);
        let answer = self.put(&id, data).await;
        assert_eq!(answer.status, 204, "{answer:?}");
        id
    }

    pub async fn put(&self, id: &str, data: &[u8]) -> Answer {
        self.member.send("PUT", &format!("/v2/images/{id}/file"), &[OCTETS], data.to_vec()).await
    }

    pub async fn show(&self, id: &str) -> Value {
        self.member.get(&format!("/v2/images/{id}")).await.body
    }

    pub async fn patch(&self, client: &Client, id: &str, changes: Value) -> Answer {
        let kind = ("content-type", "application/openstack-images-v2.1-json-patch");
        client.send("PATCH", &format!("/v2/images/{id}"), &[kind], changes.to_string().into_bytes()).await
    }

    /// Names of files in the image directory.
    pub fn files(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.dir.path().join("images")) else { return Vec::new() };
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

pub fn id(image: &Value) -> String {
    image["id"].as_str().unwrap().to_owned()
}

/// Waits until `check` holds; for what happens beside a request.
pub async fn eventually(what: &str, mut check: impl AsyncFnMut() -> bool) {
    for _ in 0..200 {
        if check().await {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    panic!("{what} did not happen");
}
