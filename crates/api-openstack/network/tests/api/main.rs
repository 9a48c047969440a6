//! The API in one process: real routes and store, tokens of the tests' own form.

mod authorization;
mod crud;
mod hostile;
mod lists;
mod routers;
mod security_groups;

use serde_json::{Value, json};
use unkai_openstack::testing;
pub use unkai_openstack::testing::{Answer, Client};

/// Two projects, an administrator and somebody who only reads.
pub struct Site {
    pub admin: Client,
    pub alice: Client,
    pub bob: Client,
    pub reader: Client,
    pub cloud: unkai_openstack::Cloud,
    _dir: tempfile::TempDir,
}

pub const ALICE: &str = "a11ce000000000000000000000000000";
pub const BOB: &str = "b0b00000000000000000000000000000";

pub fn site() -> Site {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let cloud = testing::cloud(dir.path());
    let alice = Client::new(&cloud, unkai_network::routes(&cloud), &format!("{ALICE}/alice/member,reader"));
    Site {
        admin: alice.with_token("ad000000000000000000000000000000/root/admin,member,reader"),
        bob: alice.with_token(&format!("{BOB}/bob/member,reader")),
        reader: alice.with_token(&format!("{ALICE}/carol/reader")),
        alice,
        cloud,
        _dir: dir,
    }
}

/// Creates one resource and returns it.
pub async fn create(client: &Client, path: &str, one: &str, body: Value) -> Value {
    let answer = client.call("POST", &format!("/v2.0/{path}"), json!({one: body})).await;
    assert_eq!(answer.status, 201, "POST {path}: {}", answer.body);
    answer.body[one].clone()
}

pub async fn network(client: &Client) -> Value {
    create(client, "networks", "network", json!({"name": "n"})).await
}

pub async fn subnet(client: &Client, network: &Value, cidr: &str) -> Value {
    let version = if cidr.contains(':') { 6 } else { 4 };
    create(client, "subnets", "subnet", json!({"network_id": network["id"], "cidr": cidr, "ip_version": version})).await
}

pub async fn port(client: &Client, network: &Value) -> Value {
    create(client, "ports", "port", json!({"network_id": network["id"]})).await
}

pub async fn public(admin: &Client) -> Value {
    let body = json!({"name": "public", "router:external": true, "provider:network_type": "flat", "provider:physical_network": "public"});
    let net = create(admin, "networks", "network", body).await;
    let body = json!({"network_id": net["id"], "cidr": "203.0.113.0/24", "ip_version": 4, "enable_dhcp": false});
    create(admin, "subnets", "subnet", body).await;
    net
}

pub fn id(value: &Value) -> &str {
    value["id"].as_str().expect("an id")
}

/// Status and Neutron's type of a refusal.
pub fn refusal(answer: &Answer) -> (u16, &str) {
    (answer.status, answer.body["NeutronError"]["type"].as_str().unwrap_or("?"))
}
