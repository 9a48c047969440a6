use serde_json::{Value, json};
use unkai_model::network::Network;

use super::{Setup, expect, keys, refusal};

async fn group(setup: &Setup, name: &str) -> String {
    let body = json!({"security_group": {"name": name, "description": "d"}});
    let made = expect(200, setup.member("POST", "/os-security-groups", body).await);
    made["security_group"]["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn groups_and_rules_are_those_of_the_network() {
    let mut setup = Setup::new().await;
    let (one, two) = (group(&setup, "one").await, group(&setup, "two").await);
    let list = expect(200, setup.member("GET", "/os-security-groups", Value::Null).await);
    let names: Vec<_> = list["security_groups"].as_array().unwrap().iter().map(|group| group["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["default", "one", "two"]);
    let path = format!("/os-security-groups/{one}");
    keys(&expect(200, setup.member("GET", &path, Value::Null).await)["security_group"], "id name description tenant_id rules");
    let named = json!({"security_group": {"name": "uno", "description": "e"}});
    assert_eq!(expect(200, setup.member("PUT", &path, named).await)["security_group"]["name"], "uno");

    let body = json!({"parent_group_id": one, "ip_protocol": "tcp", "from_port": 22, "to_port": 22, "cidr": "10.2.3.124/24"});
    let rule = json!({ "security_group_rule": body });
    let made = expect(200, setup.member("POST", "/os-security-group-rules", rule.clone()).await)["security_group_rule"].clone();
    keys(&made, "id parent_group_id ip_protocol from_port to_port group ip_range");
    assert_eq!((&made["ip_range"], &made["group"]), (&json!({"cidr": "10.2.3.124/24"}), &json!({})));
    refusal(400, setup.member("POST", "/os-security-group-rules", rule).await);
    let from_group = json!({"parent_group_id": one, "ip_protocol": "tcp", "from_port": 1, "to_port": 2, "group_id": two});
    let made = expect(200, setup.member("POST", "/os-security-group-rules", json!({ "security_group_rule": from_group })).await);
    assert_eq!(made["security_group_rule"]["group"], json!({"name": "two", "tenant_id": "p"}));
    refusal(404, setup.other("GET", &path, Value::Null).await);
    refusal(404, setup.other("DELETE", &path, Value::Null).await);
    refusal(400, setup.member("GET", "/os-security-groups/one", Value::Null).await);
    let id = made["security_group_rule"]["id"].as_str().unwrap();
    refusal(404, setup.other("DELETE", &format!("/os-security-group-rules/{id}"), Value::Null).await);
    expect(202, setup.member("DELETE", &format!("/os-security-group-rules/{id}"), Value::Null).await);
    refusal(404, setup.member("DELETE", &format!("/os-security-group-rules/{id}"), Value::Null).await);
    // A rule goes with the group that it lets in.
    expect(200, setup.member("POST", "/os-security-group-rules", json!({ "security_group_rule": from_group })).await);
    expect(202, setup.member("DELETE", &format!("/os-security-groups/{two}"), Value::Null).await);
    let left = expect(200, setup.member("GET", &path, Value::Null).await);
    assert_eq!(left["security_group"]["rules"].as_array().unwrap().len(), 1);
    expect(202, setup.member("DELETE", &path, Value::Null).await);
    setup.speak(36);
    refusal(404, setup.member("GET", "/os-security-groups", Value::Null).await);
    refusal(404, setup.member("GET", "/os-floating-ips", Value::Null).await);
}

#[tokio::test]
async fn networks_can_be_looked_at() {
    let setup = Setup::new().await;
    let document = json!({
        "meta": { "id": "40000000-0000-4000-8000-000000000001", "name": "net", "project": "p" },
        "admin_up": true, "mtu": 1450, "segment": { "vxlan": { "vni": 5000 } }, "port_security": true,
    });
    let network: Network = serde_json::from_value(document).unwrap();
    setup.cloud.store.transact(move |tx| tx.insert(network.clone())).await.unwrap();
    let list = expect(200, setup.member("GET", "/os-tenant-networks", Value::Null).await);
    keys(&list["networks"][0], "id label cidr");
    let path = format!("/os-networks/{}", list["networks"][0]["id"].as_str().unwrap());
    assert_eq!(expect(200, setup.member("GET", &path, Value::Null).await)["network"]["label"], "net");
    refusal(404, setup.other("GET", &path, Value::Null).await);
    assert_eq!(expect(200, setup.other("GET", "/os-networks", Value::Null).await)["networks"], json!([]));
    refusal(410, setup.admin("DELETE", &path, Value::Null).await);
}

#[tokio::test]
async fn floating_ips_come_from_pools() {
    let setup = Setup::new().await;
    assert_eq!(expect(200, setup.member("GET", "/os-floating-ips", Value::Null).await), json!({"floating_ips": []}));
    assert_eq!(expect(200, setup.member("GET", "/os-floating-ip-pools", Value::Null).await), json!({"floating_ip_pools": []}));
    refusal(404, setup.member("POST", "/os-floating-ips", json!({"pool": "nowhere"})).await);
    refusal(404, setup.member("POST", "/os-floating-ips", Value::Null).await);
    refusal(404, setup.member("GET", "/os-floating-ips/x", Value::Null).await);
    refusal(404, setup.member("DELETE", "/os-floating-ips/x", Value::Null).await);
}
