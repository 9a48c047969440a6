//! The dialect, asked over its routes: shapes, refusals and who may.

mod actions;
mod attachments;
mod backups;
mod lists;
mod quotas;
mod snapshots;
mod transfers;
mod types;
mod volumes;

use serde_json::{Value, json};
use unkai_model::identity::Project;
use unkai_model::volume::{Backend, Pool, Reached, Volume, VolumePhase, VolumeType};
use unkai_model::{Error, Id, Meta};
use unkai_openstack::Cloud;
use unkai_openstack::testing::{self, Answer, Client};
use unkai_store::Tx;

pub const ADMIN: &str = "ops/root/admin,member,reader";
pub const MEMBER: &str = "p/ann/member,reader";
pub const READER: &str = "p/eve/reader";
pub const OTHER: &str = "q/bob/member,reader";

/// A cloud with a pool of 100 GiB and a type, and clients of it at one microversion.
pub struct Setup {
    pub cloud: Cloud,
    client: Client,
    pub minor: u16,
    _dir: tempfile::TempDir,
}

impl Setup {
    pub async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let cloud = testing::cloud(dir.path());
        let client = Client::new(&cloud, crate::routes(&cloud), "");
        let setup = Setup { cloud, client, minor: 70, _dir: dir };
        let project = |id: &str, parent: Option<&str>| -> Project {
            serde_json::from_value(
                json!({ "meta": { "id": id, "name": id }, "domain": parent, "parent": parent, "is_domain": parent.is_none() }),
            )
            .unwrap()
        };
        setup.put(project("default", None)).await;
        for id in ["p", "q", "ops"] {
            setup.put(project(id, Some("default"))).await;
        }
        let (description, access, extra_specs, encryption, encryption_id) = Default::default();
        let standard = Meta::new(id(1)).named("standard");
        setup.put(VolumeType { meta: standard, description, public: true, access, extra_specs, encryption, encryption_id }).await;
        let mut pool = Pool::new(Meta::new("pool").named("local"), Backend::Files { dir: "/nowhere".into() });
        pool.status.hosts.insert(Id::new("h"), Reached { fault: None, total_gib: 100, free_gib: 90 });
        setup.put(pool).await;
        setup
    }

    pub async fn put<K: unkai_model::Kind>(&self, value: K) {
        self.act(move |tx| tx.insert(value.clone()).map(drop)).await;
    }

    pub async fn act<T: Send + 'static>(&self, act: impl FnMut(&mut Tx) -> Result<T, Error> + Send + 'static) -> T {
        self.cloud.store.transact(act).await.unwrap()
    }

    pub async fn send(&self, token: &str, method: &str, path: &str, body: Value) -> Answer {
        let version = format!("volume 3.{}", self.minor);
        let headers = [("content-type", "application/json"), ("openstack-api-version", version.as_str())];
        let bytes = if body.is_null() { Vec::new() } else { serde_json::to_vec(&body).unwrap() };
        let project = token.split('/').next().unwrap_or_default();
        self.client.with_token(token).send(method, &format!("/v3/{project}{path}"), &headers, bytes).await
    }

    pub async fn raw(&self, token: &str, method: &str, path: &str) -> Answer {
        let version = format!("volume 3.{}", self.minor);
        self.client.with_token(token).send(method, path, &[("openstack-api-version", version.as_str())], Vec::new()).await
    }

    pub async fn member(&self, method: &str, path: &str, body: Value) -> Answer {
        self.send(MEMBER, method, path, body).await
    }

    pub async fn admin(&self, method: &str, path: &str, body: Value) -> Answer {
        self.send(ADMIN, method, path, body).await
    }

    /// A volume of project `p`, as its carrier has made it.
    pub async fn volume(&self, wish: Value) -> String {
        let mut body = json!({ "size": 1 });
        body.as_object_mut().unwrap().extend(wish.as_object().unwrap().clone());
        let made = expect(202, self.member("POST", "/volumes", json!({ "volume": body })).await);
        let id = made["volume"]["id"].as_str().unwrap().to_owned();
        self.settle(&id).await;
        id
    }

    /// The carrier has done all that was asked of it.
    pub async fn settle(&self, id: &str) {
        self.change(id, |volume| {
            volume.status.pool = Some(Id::new("pool"));
            volume.status.made = true;
            volume.status.size_gib = volume.spec.size_gib;
            volume.status.restored = volume.spec.restore.as_ref().map_or(0, |restore| restore.number);
            volume.status.generation = volume.meta.generation;
            volume.status.phase = VolumePhase::Ready { size_gib: volume.spec.size_gib };
            volume.spec.upload = None;
        })
        .await;
    }

    pub async fn change(&self, id: &str, change: impl Fn(&mut Volume) + Send + 'static) {
        let id = Id::<Volume>::new(id);
        self.act(move |tx| {
            tx.update(&id, |volume: &mut Volume| {
                change(volume);
                Ok::<_, Error>(())
            })
            .map(drop)
        })
        .await;
    }

    pub fn document(&self, id: &str) -> std::sync::Arc<Volume> {
        self.cloud.store.view().get(&Id::new(id)).expect("the volume is there")
    }

    pub async fn action(&self, id: &str, body: Value) -> Answer {
        self.member("POST", &format!("/volumes/{id}/action"), body).await
    }

    pub async fn status(&self, id: &str) -> String {
        let shown = expect(200, self.admin("GET", &format!("/volumes/{id}"), Value::Null).await);
        shown["volume"]["status"].as_str().unwrap().to_owned()
    }
}

/// An id as requests want it.
pub fn id(number: u64) -> String {
    format!("00000000-0000-4000-8000-{number:012}")
}

/// The body of an answer of this status; the answer is shown when it is another.
#[track_caller]
pub fn expect(status: u16, answer: Answer) -> Value {
    assert_eq!(answer.status, status, "{}", answer.body);
    answer.body
}

/// The text of a refusal of this status.
#[track_caller]
pub fn refusal(status: u16, answer: Answer) -> String {
    let body = expect(status, answer);
    let (_, inner) = body.as_object().and_then(|map| map.iter().next()).expect("a refusal has one key");
    assert_eq!(inner["code"], status);
    inner["message"].as_str().expect("a refusal has a message").to_owned()
}
