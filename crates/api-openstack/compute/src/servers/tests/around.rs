//! What hangs on servers: metadata, tags, interfaces, groups, actions, consoles.

use serde_json::{Value, json};
use unkai_model::compute::Phase;
use unkai_model::network::Port;

use crate::servers::fixture::{NETWORK, World};

#[tokio::test]
async fn metadata_is_kept_by_key() {
    let world = World::new().await;
    let id = world.active().await;
    let path = format!("/v2.1/servers/{id}/metadata");
    assert_eq!(world.at(1, "PUT", &path, json!({"metadata": {"a": "1", "b": "2"}})).await.body, json!({"metadata": {"a": "1", "b": "2"}}));
    assert_eq!(world.at(1, "POST", &path, json!({"metadata": {"c": "3"}})).await.body["metadata"], json!({"a": "1", "b": "2", "c": "3"}));
    assert_eq!(world.at(1, "GET", &format!("{path}/b"), Value::Null).await.body, json!({"meta": {"b": "2"}}));
    assert_eq!(world.at(1, "PUT", &format!("{path}/b"), json!({"meta": {"b": "9"}})).await.body, json!({"meta": {"b": "9"}}));
    assert_eq!(world.at(1, "PUT", &format!("{path}/b"), json!({"meta": {"x": "9"}})).await.status, 400);
    assert_eq!(world.at(1, "DELETE", &format!("{path}/b"), Value::Null).await.status, 204);
    assert_eq!(world.at(1, "DELETE", &format!("{path}/b"), Value::Null).await.status, 404);
    assert_eq!(world.at(1, "GET", &format!("{path}/b"), Value::Null).await.status, 404);
    for odd in [json!({"metadata": {"": "x"}}), json!({"metadata": {"k": "x".repeat(256)}}), json!({"meta": {}}), json!({"metadata": null})]
    {
        assert_eq!(world.at(1, "POST", &path, odd).await.status, 400);
    }
    let many: serde_json::Map<String, Value> = (0..129).map(|n| (format!("k{n}"), json!("v"))).collect();
    assert_eq!(world.at(1, "PUT", &path, json!({ "metadata": many })).await.status, 403);
    assert_eq!(world.at(1, "GET", &path, Value::Null).await.body["metadata"], json!({"a": "1", "c": "3"}));
}

#[tokio::test]
async fn tags_are_a_set() {
    let world = World::new().await;
    let id = world.active().await;
    let path = format!("/v2.1/servers/{id}/tags");
    assert_eq!(world.at(25, "GET", &path, Value::Null).await.status, 404, "not before 2.26");
    assert_eq!(world.at(26, "PUT", &format!("{path}/red"), Value::Null).await.status, 201);
    assert_eq!(world.at(26, "PUT", &format!("{path}/red"), Value::Null).await.status, 204);
    assert_eq!(world.at(26, "PUT", &format!("{path}/a,b"), Value::Null).await.status, 400);
    assert_eq!(world.at(26, "GET", &format!("{path}/red"), Value::Null).await.status, 204);
    assert_eq!(world.at(26, "PUT", &path, json!({"tags": ["x", "y"]})).await.body, json!({"tags": ["x", "y"]}));
    assert_eq!(world.at(26, "GET", &format!("{path}/red"), Value::Null).await.status, 404);
    assert_eq!(world.at(26, "DELETE", &format!("{path}/x"), Value::Null).await.status, 204);
    assert_eq!(world.at(26, "DELETE", &path, Value::Null).await.status, 204);
    assert_eq!(world.at(26, "GET", &path, Value::Null).await.body, json!({"tags": []}));
}

#[tokio::test]
async fn interfaces_come_and_go() {
    let world = World::new().await;
    let id = world.active().await;
    let path = format!("/v2.1/servers/{id}/os-interface");
    let before = world.document(&id).meta.generation;
    let body = json!({"interfaceAttachment": {"net_id": NETWORK, "fixed_ips": [{"ip_address": "10.1.0.77"}]}});
    let made = world.at(1, "POST", &path, body.clone()).await;
    assert_eq!(made.status, 200, "{}", made.body);
    let port = made.body["interfaceAttachment"]["port_id"].as_str().unwrap().to_owned();
    assert_eq!(made.body["interfaceAttachment"]["fixed_ips"][0]["ip_address"], "10.1.0.77");
    assert_eq!(world.document(&id).meta.generation, before + 1, "the host must act");
    assert_eq!(world.show(&id).await["status"], "ACTIVE", "but the server stays what it is");
    let list = world.at(70, "GET", &path, Value::Null).await;
    assert_eq!(list.body["interfaceAttachments"].as_array().unwrap().len(), 2);
    assert_eq!(list.body["interfaceAttachments"][0]["tag"], Value::Null);
    world.settle(&id, Phase::Running).await;
    assert_eq!(world.at(1, "POST", &path, body).await.status, 400, "the address is taken");
    assert_eq!(world.at(1, "DELETE", &format!("{path}/{port}"), Value::Null).await.status, 202);
    assert!(world.cloud.store.view().get::<Port>(&port.as_str().into()).is_none());
    assert_eq!(world.at(1, "GET", &format!("{path}/{port}"), Value::Null).await.status, 404);
    let both = json!({"interfaceAttachment": {"net_id": NETWORK, "port_id": NETWORK}});
    assert_eq!(world.at(1, "POST", &path, both).await.status, 400);
}

#[tokio::test]
async fn addresses_and_groups_are_listed() {
    let world = World::new().await;
    let id = world.active().await;
    let path = format!("/v2.1/servers/{id}");
    let ips = world.at(1, "GET", &format!("{path}/ips"), Value::Null).await;
    assert_eq!(ips.body["addresses"]["private"][0]["version"], 4);
    assert_eq!(ips.body["addresses"]["private"][0].get("OS-EXT-IPS:type"), None);
    let one = world.at(1, "GET", &format!("{path}/ips/private"), Value::Null).await;
    assert_eq!(one.body["private"].as_array().unwrap().len(), 1);
    assert_eq!(world.at(1, "GET", &format!("{path}/ips/public"), Value::Null).await.status, 404);
    let groups = world.at(1, "GET", &format!("{path}/os-security-groups"), Value::Null).await;
    assert_eq!(groups.body["security_groups"][0]["name"], "default");
    let odd = world.act(&id, json!({"addSecurityGroup": {"name": "none"}})).await;
    assert_eq!(odd.status, 404);
    assert_eq!(world.act(&id, json!({"removeSecurityGroup": {"name": "default"}})).await.status, 202);
    assert_eq!(world.show(&id).await.get("security_groups"), None);
    assert_eq!(world.act(&id, json!({"addSecurityGroup": {"name": "default"}})).await.status, 202);
}

#[tokio::test]
async fn floating_addresses_are_led_to_servers_until_2_43() {
    let world = World::new().await;
    let id = world.active().await;
    let action = format!("/v2.1/servers/{id}/action");
    let add = json!({"addFloatingIp": {"address": "203.0.113.9"}});
    assert_eq!(world.at(1, "POST", &action, add.clone()).await.status, 404, "no such address");
    assert_eq!(world.at(44, "POST", &action, add).await.status, 404);
    assert_eq!(world.at(1, "POST", &action, json!({"removeFloatingIp": {}})).await.status, 400);
}

#[tokio::test]
async fn every_request_that_changes_a_server_leaves_a_note() {
    let world = World::new().await;
    let id = world.active().await;
    let stopped = world.act(&id, json!({"os-stop": null})).await;
    let request = stopped.headers["x-compute-request-id"].to_str().unwrap();
    let path = format!("/v2.1/servers/{id}/os-instance-actions");
    let list = world.at(1, "GET", &path, Value::Null).await;
    let names: Vec<_> = list.body["instanceActions"].as_array().unwrap().iter().map(|a| a["action"].as_str().unwrap()).collect();
    assert_eq!(names, ["stop", "create"]);
    let one = world.at(62, "GET", &format!("{path}/{request}"), Value::Null).await;
    assert_eq!(one.body["instanceAction"]["events"][0]["event"], "compute_stop_instance");
    assert_eq!(one.body["instanceAction"]["events"][0].get("host"), None);
    assert_eq!(world.at(1, "GET", &format!("{path}/req-none"), Value::Null).await.status, 404);
    let page = world.at(58, "GET", &format!("{path}?limit=1"), Value::Null).await;
    assert_eq!(page.body["instanceActions"].as_array().unwrap().len(), 1);
    assert!(page.body["links"][0]["href"].as_str().unwrap().contains("marker=req-"));
    assert_eq!(world.at(58, "GET", &format!("{path}?odd=1"), Value::Null).await.status, 400);
}

#[tokio::test]
async fn consoles_need_their_token() {
    let world = World::new().await;
    let id = world.active().await;
    let path = format!("/v2.1/servers/{id}/remote-consoles");
    let vnc = json!({"remote_console": {"protocol": "vnc", "type": "novnc"}});
    assert_eq!(world.at(5, "POST", &path, vnc.clone()).await.status, 404);
    let answer = world.at(6, "POST", &path, vnc).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let url = answer.body["remote_console"]["url"].as_str().unwrap();
    assert!(url.starts_with("https://cloud.test:8774/console/?path=console/websockify%3Ftoken%3D"));
    let spice = json!({"remote_console": {"protocol": "spice", "type": "spice-html5"}});
    assert_eq!(world.at(6, "POST", &path, spice).await.status, 400);
    let old = world.at(1, "POST", &format!("/v2.1/servers/{id}/action"), json!({"os-getVNCConsole": {"type": "novnc"}})).await;
    assert_eq!(old.body["console"]["type"], "novnc");
    let token = url.rsplit("%3D").next().unwrap();
    let shown = world.admin_at(31, "GET", &format!("/v2.1/os-console-auth-tokens/{token}"), Value::Null).await;
    assert_eq!(shown.body["console"]["instance_uuid"], id.as_str());
    let consoles = unkai_openstack::testing::Client::new(&world.cloud, crate::console_routes(&world.cloud), "");
    let refused = consoles.get("/websockify?token=bad").await;
    assert_eq!((refused.status, refused.bytes.len()), (403, 0));
    let page = consoles.get("/").await;
    assert!(page.body.as_str().unwrap().contains("noVNC"));
    let log = world.act(&id, json!({"os-getConsoleOutput": {"length": 10}})).await;
    assert_eq!(log.status, 503, "no agent is connected in this test: {}", log.body);
}

#[tokio::test]
async fn volumes_and_migrations_are_empty() {
    let world = World::new().await;
    let id = world.active().await;
    let path = format!("/v2.1/servers/{id}");
    assert_eq!(world.at(1, "GET", &format!("{path}/os-volume_attachments"), Value::Null).await.body, json!({"volumeAttachments": []}));
    let attach = json!({"volumeAttachment": {"volumeId": NETWORK}});
    assert_eq!(world.at(1, "POST", &format!("{path}/os-volume_attachments"), attach).await.status, 404);
    assert_eq!(world.at(23, "GET", &format!("{path}/migrations"), Value::Null).await.status, 403);
    assert_eq!(world.admin_at(23, "GET", &format!("{path}/migrations"), Value::Null).await.body, json!({"migrations": []}));
    assert_eq!(world.at(78, "GET", &format!("{path}/topology"), Value::Null).await.status, 200);
    assert_eq!(world.at(1, "GET", &format!("{path}/os-server-password"), Value::Null).await.body, json!({"password": ""}));
}
