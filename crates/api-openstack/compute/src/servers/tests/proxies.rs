//! Images in compute's old form.

use serde_json::{Value, json};

use crate::servers::fixture::{IMAGE, World};

#[tokio::test]
async fn images_are_shown_until_2_35() {
    let world = World::new().await;
    let id = world.active().await;
    let made = world.act(&id, json!({"createImage": {"name": "snap", "metadata": {"k": "v"}}})).await;
    let snap = made.body["image_id"].as_str().unwrap().to_owned();
    assert_eq!(world.at(36, "GET", "/v2.1/images", Value::Null).await.status, 404);
    let names = |answer: unkai_openstack::testing::Answer| -> Vec<String> {
        answer.body["images"].as_array().unwrap().iter().map(|i| i["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(world.at(1, "GET", "/v2.1/images", Value::Null).await), ["snap", "cirros"]);
    assert_eq!(names(world.at(1, "GET", "/v2.1/images/detail?type=snapshot", Value::Null).await), ["snap"]);
    assert_eq!(names(world.at(1, "GET", "/v2.1/images?status=active", Value::Null).await), ["cirros"]);
    assert_eq!(names(world.at(1, "GET", &format!("/v2.1/images?server=http://x/{id}"), Value::Null).await), ["snap"]);
    let page = world.at(1, "GET", "/v2.1/images?limit=1", Value::Null).await;
    assert!(page.body["images_links"][0]["href"].as_str().unwrap().contains("marker="));
    let shown = world.at(1, "GET", &format!("/v2.1/images/{snap}"), Value::Null).await;
    assert_eq!((&shown.body["image"]["status"], &shown.body["image"]["progress"]), (&json!("SAVING"), &json!(25)));
    assert_eq!(shown.body["image"]["server"]["id"], id.as_str());
    assert_eq!(world.at(1, "GET", "/v2.1/images/none", Value::Null).await.status, 404);

    let path = format!("/v2.1/images/{snap}/metadata");
    assert_eq!(world.at(1, "GET", &format!("{path}/k"), Value::Null).await.body, json!({"meta": {"k": "v"}}));
    assert_eq!(world.at(1, "PUT", &path, json!({"metadata": {"a": "1"}})).await.body, json!({"metadata": {"a": "1"}}));
    assert_eq!(world.at(1, "POST", &path, json!({"metadata": {"b": "2"}})).await.body, json!({"metadata": {"a": "1", "b": "2"}}));
    assert_eq!(world.at(1, "DELETE", &format!("{path}/a"), Value::Null).await.status, 204);
    assert_eq!(world.at(1, "DELETE", &format!("{path}/a"), Value::Null).await.status, 404);
    let other = world.at(1, "PUT", &format!("/v2.1/images/{IMAGE}/metadata"), json!({"metadata": {}})).await;
    assert_eq!(other.status, 403, "somebody else's public image");
    assert_eq!(world.at(1, "DELETE", &format!("/v2.1/images/{IMAGE}"), Value::Null).await.status, 403);
    assert_eq!(world.at(1, "DELETE", &format!("/v2.1/images/{snap}"), Value::Null).await.status, 204);
    assert_eq!(world.at(1, "GET", &format!("/v2.1/images/{snap}"), Value::Null).await.status, 404);
}

const MISSING: &str = "99999999-9999-4999-8999-999999999999";

#[tokio::test]
async fn security_groups_in_their_old_form() {
    let world = World::new().await;
    let path = "/v2.1/os-security-groups";
    assert_eq!(world.at(36, "GET", path, Value::Null).await.status, 404);
    let list = world.at(1, "GET", path, Value::Null).await;
    assert_eq!(list.body["security_groups"][0]["name"], "default");
    let made = world.at(1, "POST", path, json!({"security_group": {"name": "web", "description": "d"}})).await;
    assert_eq!(made.status, 200, "{}", made.body);
    let id = made.body["security_group"]["id"].as_str().unwrap().to_owned();
    let rule = |extra: Value| {
        let mut rule = json!({"parent_group_id": id, "ip_protocol": "tcp", "from_port": 22, "to_port": 22});
        rule.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json!({ "security_group_rule": rule })
    };
    let rules = "/v2.1/os-security-group-rules";
    let made = world.at(1, "POST", rules, rule(json!({"cidr": "10.0.0.0/8"}))).await;
    assert_eq!(made.status, 200, "{}", made.body);
    assert_eq!(made.body["security_group_rule"]["ip_range"], json!({"cidr": "10.0.0.0/8"}));
    for (odd, status) in [
        (json!({"cidr": "10.0.0.0/8"}), 400),
        (json!({"ip_protocol": "odd"}), 400),
        (json!({"from_port": 70000}), 400),
        (json!({"from_port": 23}), 400),
        (json!({"parent_group_id": MISSING}), 404),
        (json!({"parent_group_id": "x"}), 400),
    ] {
        let answer = world.at(1, "POST", rules, rule(odd.clone())).await;
        assert_eq!(answer.status, status, "{odd}: {}", answer.body);
    }
    let shown = world.at(1, "GET", &format!("{path}/{id}"), Value::Null).await;
    assert_eq!(shown.body["security_group"]["rules"].as_array().unwrap().len(), 1);
    let first = made.body["security_group_rule"]["id"].as_str().unwrap();
    assert_eq!(world.at(1, "DELETE", &format!("{rules}/{first}"), Value::Null).await.status, 202);
    assert_eq!(world.at(1, "DELETE", &format!("{rules}/{first}"), Value::Null).await.status, 404);
    let renamed = world.at(1, "PUT", &format!("{path}/{id}"), json!({"security_group": {"name": "x", "description": ""}})).await;
    assert_eq!(renamed.body["security_group"]["name"], "x");
    let server = world.active().await;
    assert_eq!(world.act(&server, json!({"addSecurityGroup": {"name": "x"}})).await.status, 202);
    assert_eq!(world.at(1, "DELETE", &format!("{path}/{id}"), Value::Null).await.status, 400, "in use");
    assert_eq!(world.act(&server, json!({"removeSecurityGroup": {"name": "x"}})).await.status, 202);
    assert_eq!(world.at(1, "DELETE", &format!("{path}/{id}"), Value::Null).await.status, 202);
    assert_eq!(world.at(1, "GET", &format!("{path}/{id}"), Value::Null).await.status, 404);
}

#[tokio::test]
async fn networks_and_floating_addresses_in_their_old_form() {
    let world = World::new().await;
    let networks = world.at(1, "GET", "/v2.1/os-tenant-networks", Value::Null).await;
    assert_eq!((&networks.body["networks"][0]["label"], &networks.body["networks"][0]["cidr"]), (&json!("private"), &json!("10.1.0.0/16")));
    assert_eq!(world.at(1, "GET", &format!("/v2.1/os-networks/{MISSING}"), Value::Null).await.status, 404);
    assert_eq!(world.at(1, "GET", "/v2.1/os-floating-ips", Value::Null).await.body, json!({"floating_ips": []}));
    assert_eq!(world.at(1, "POST", "/v2.1/os-floating-ips", json!({"pool": "none"})).await.status, 404);
    assert_eq!(world.at(1, "GET", &format!("/v2.1/os-floating-ips/{MISSING}"), Value::Null).await.status, 404);
    let server = world.active().await;
    let action = format!("/v2.1/servers/{server}/action");
    let add = json!({"addFloatingIp": {"address": "203.0.113.9"}});
    assert_eq!(world.at(1, "POST", &action, add.clone()).await.status, 404);
    assert_eq!(world.at(44, "POST", &action, add).await.status, 404);
    assert_eq!(world.at(1, "POST", &action, json!({"removeFloatingIp": {}})).await.status, 400);
}
