//! The resources around servers, asked over their routes: shapes, refusals and who may.

mod aggregates;
mod documents;
mod flavors;
mod hosts;
mod keypairs;
mod network;
mod quotas;
mod server_groups;
mod usage;

use std::collections::BTreeSet;

use serde_json::{Value, json};
use unkai_model::compute::{Host, Server};
use unkai_model::identity::Project;
use unkai_openstack::Cloud;
use unkai_openstack::testing::{self, Answer, Client};

/// A cloud with its defaults, and clients of it at one microversion.
pub struct Setup {
    pub cloud: Cloud,
    client: Client,
    version: String,
    _dir: tempfile::TempDir,
}

impl Setup {
    pub async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let cloud = testing::cloud(dir.path());
        crate::admin::bootstrap(&cloud.store).await.unwrap();
        let client = Client::new(&cloud, crate::routes(&cloud), "");
        let setup = Setup { cloud, client, version: "2.1".into(), _dir: dir };
        setup.project(json!({ "meta": { "id": "default", "name": "Default" }, "is_domain": true })).await;
        for id in ["p", "q", "ops"] {
            setup.project(json!({ "meta": { "id": id, "name": id }, "domain": "default", "parent": "default" })).await;
        }
        setup
    }

    async fn project(&self, document: Value) {
        let project: Project = serde_json::from_value(document).unwrap();
        self.cloud.store.transact(move |tx| tx.insert(project.clone())).await.unwrap();
    }

    /// A host that is up, of 4 cores.
    pub async fn host(&self, number: u64) -> String {
        let id = format!("00000000-0000-4000-8000-{number:012}");
        let document = json!({
            "meta": { "id": id, "name": format!("host{number}") },
            "number": number,
            "capacity": {
                "VCPU": { "total": 4, "reserved": 0, "ratio": 4.0 },
                "MEMORY_MB": { "total": 8192, "reserved": 512, "ratio": 1.0 },
                "DISK_GB": { "total": 100, "reserved": 0, "ratio": 1.0 },
            },
            "status": { "reachability": "up", "address": "10.0.0.1", "hypervisor": "QEMU", "hypervisor_version": 10000002,
                        "booted": "2026-01-01T00:00:00Z", "cpu_arch": "x86_64", "cpu_model": "host" },
        });
        let host: Host = serde_json::from_value(document).unwrap();
        self.cloud.store.transact(move |tx| tx.insert(host.clone())).await.unwrap();
        id
    }

    /// A server of project `p` and user `ann` on a host, running since the start of 2026.
    pub async fn server(&self, number: u64, host: Option<&str>, group: Option<&str>) -> String {
        let id = format!("10000000-0000-4000-8000-{number:012}");
        let document = json!({
            "meta": { "id": id, "name": format!("server{number}"), "project": "p" },
            "spec": {
                "user": "ann",
                "run": "running",
                "launch": {
                    "flavor": { "id": "1", "name": "m1.tiny", "vcpus": 2, "ram_mib": 512, "disk_gib": 1 },
                    "image": null,
                    "hostname": "server",
                },
                "wish": { "group": group },
            },
            "status": {
                "host": host,
                "observed": { "generation": 1, "phase": "running" },
                "timeline": { "launched": "2026-01-01T00:00:00Z" },
            },
        });
        let mut server: Server = serde_json::from_value(document).unwrap();
        server.status.observed.generation = server.meta.generation;
        self.cloud.store.transact(move |tx| tx.insert(server.clone())).await.unwrap();
        id
    }

    /// The same cloud, spoken to at `2.minor`.
    pub fn at(self, minor: u16) -> Self {
        Setup { version: format!("2.{minor}"), ..self }
    }

    pub fn speak(&mut self, minor: u16) {
        self.version = format!("2.{minor}");
    }

    pub async fn send(&self, token: &str, method: &str, path: &str, body: Value) -> Answer {
        let version = format!("compute {}", self.version);
        let headers = [("content-type", "application/json"), ("openstack-api-version", version.as_str())];
        let bytes = if body.is_null() { Vec::new() } else { serde_json::to_vec(&body).unwrap() };
        self.client.with_token(token).send(method, &format!("/v2.1{path}"), &headers, bytes).await
    }

    /// By an administrator, in project `ops`.
    pub async fn admin(&self, method: &str, path: &str, body: Value) -> Answer {
        self.send("ops/root/admin,member,reader", method, path, body).await
    }
    /// By a member of project `p`.
    pub async fn member(&self, method: &str, path: &str, body: Value) -> Answer {
        self.send("p/ann/member,reader", method, path, body).await
    }
    /// By a member of project `q`.
    pub async fn other(&self, method: &str, path: &str, body: Value) -> Answer {
        self.send("q/bob/member,reader", method, path, body).await
    }
}

/// The body of an answer of this status; the answer is shown when it is another.
pub fn expect(status: u16, answer: Answer) -> Value {
    assert_eq!(answer.status, status, "{}", answer.body);
    answer.body
}

/// The text of a refusal of this status.
pub fn refusal(status: u16, answer: Answer) -> String {
    let body = expect(status, answer);
    let (_, inner) = body.as_object().and_then(|map| map.iter().next()).expect("a refusal has one key");
    assert_eq!(inner["code"], status);
    inner["message"].as_str().expect("a refusal has a message").to_owned()
}

/// Exactly these keys, as the response schemas of the conformance suite demand.
#[track_caller]
pub fn keys(value: &Value, expected: &str) {
    let found: BTreeSet<&str> = value.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(found, expected.split_whitespace().collect::<BTreeSet<_>>());
}
