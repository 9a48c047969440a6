//! Every route: without a token 401 (but for versions), and no door of one project into another.

use serde_json::{Value, json};
use unkai_openstack::Access;

use crate::*;

#[tokio::test]
async fn every_route_asks_for_a_token() {
    let s = site();
    let nobody = s.alice.with_token("not-a-token");
    let routes = unkai_network::routes(&s.cloud);
    assert!(routes.list().len() > 100);
    for route in routes.list() {
        let path = route.path.replace("{id}", "x").replace("{tag}", "x").replace("{project}", "x").replace("{alias}", "x");
        let answer = nobody.call(route.method.as_str(), &path, json!({})).await;
        match route.access {
            Access::Token => assert_eq!(answer.status, 401, "{} {}", route.method, route.path),
            Access::Public => assert_eq!(answer.status, 200, "{} {}", route.method, route.path),
        }
    }
    assert_eq!(nobody.get("/v2.0/no-such-thing").await.status, 401);
}

/// One of everything that Alice can own.
async fn belongings(s: &Site) -> Vec<(&'static str, &'static str, Value)> {
    let public = public(&s.admin).await;
    let net = network(&s.alice).await;
    let sub = subnet(&s.alice, &net, "10.0.0.0/24").await;
    let port = port(&s.alice, &net).await;
    let router = create(&s.alice, "routers", "router", json!({})).await;
    let floating = create(&s.alice, "floatingips", "floatingip", json!({"floating_network_id": public["id"]})).await;
    let group = create(&s.alice, "security-groups", "security_group", json!({"name": "g"})).await;
    let rule = group["security_group_rules"][0].clone();
    let policy = json!({"object_type": "security_group", "object_id": group["id"], "action": "access_as_shared", "target_tenant": "c"});
    let policy = create(&s.alice, "rbac-policies", "rbac_policy", policy).await;
    let pool = create(&s.alice, "subnetpools", "subnetpool", json!({"name": "p", "prefixes": ["10.0.0.0/8"]})).await;
    vec![
        ("networks", "network", net),
        ("subnets", "subnet", sub),
        ("ports", "port", port),
        ("routers", "router", router),
        ("floatingips", "floatingip", floating),
        ("security-groups", "security_group", group),
        ("security-group-rules", "security_group_rule", rule),
        ("rbac-policies", "rbac_policy", policy),
        ("subnetpools", "subnetpool", pool),
    ]
}

#[tokio::test]
async fn strangers_find_nothing_and_readers_change_nothing() {
    let s = site();
    for (path, one, resource) in belongings(&s).await {
        let own = format!("/v2.0/{path}/{}", id(&resource));
        let body = json!({one: {"description": "x"}});
        assert_eq!(s.alice.get(&own).await.status, 200, "{path}");
        assert_eq!(s.reader.get(&own).await.status, 200, "{path}");
        assert_eq!(s.admin.get(&own).await.status, 200, "{path}");
        assert_eq!(s.bob.get(&own).await.status, 404, "{path}");
        assert_eq!(s.bob.call("PUT", &own, body.clone()).await.status, 404, "{path}");
        assert_eq!(s.bob.call("DELETE", &own, json!(null)).await.status, 404, "{path}");
        let listed = s.bob.get(&format!("/v2.0/{path}?id={}", id(&resource))).await.body;
        assert!(!listed.to_string().contains(id(&resource)), "{path}");
        let by_project = s.bob.get(&format!("/v2.0/{path}?project_id={ALICE}")).await.body;
        assert!(!by_project.to_string().contains(id(&resource)), "{path}");
        if one != "rbac_policy" {
            assert_eq!(s.reader.call("PUT", &own, body).await.status, 403, "{path}");
        }
        assert_eq!(s.reader.call("DELETE", &own, json!(null)).await.status, 403, "{path}");
        assert_eq!(s.reader.call("POST", &format!("/v2.0/{path}"), json!({one: {}})).await.status, 403, "{path}");
    }
}

#[tokio::test]
async fn nothing_of_others_can_be_built_upon() {
    let s = site();
    let all = belongings(&s).await;
    let of = |path: &str| all.iter().find(|(p, ..)| *p == path).map(|(.., v)| v["id"].clone()).unwrap();
    let public = s.bob.get("/v2.0/networks?router:external=true").await.body["networks"][0]["id"].clone();
    let attempts = [
        ("ports", "port", json!({"network_id": of("networks")})),
        ("ports", "port", json!({"network_id": public})),
        ("subnets", "subnet", json!({"network_id": of("networks"), "cidr": "10.5.0.0/24", "ip_version": 4})),
        ("subnets", "subnet", json!({"network_id": public, "cidr": "10.5.0.0/24", "ip_version": 4})),
        ("floatingips", "floatingip", json!({"floating_network_id": public, "port_id": of("ports")})),
        ("floatingips", "floatingip", json!({"floating_network_id": public, "floating_ip_address": "203.0.113.77"})),
        ("security-group-rules", "security_group_rule", json!({"security_group_id": of("security-groups"), "direction": "ingress"})),
        (
            "rbac-policies",
            "rbac_policy",
            json!({"object_type": "network", "object_id": of("networks"), "action": "access_as_shared", "target_tenant": BOB}),
        ),
        (
            "rbac-policies",
            "rbac_policy",
            json!({"object_type": "network", "object_id": public, "action": "access_as_shared", "target_tenant": BOB}),
        ),
    ];
    for (path, one, body) in attempts {
        let answer = s.bob.call("POST", &format!("/v2.0/{path}"), json!({one: body.clone()})).await;
        assert!(matches!(answer.status, 403 | 404), "{path} {body}: {} {}", answer.status, answer.body);
    }
    let own = create(&s.bob, "routers", "router", json!({})).await;
    let path = format!("/v2.0/routers/{}/add_router_interface", id(&own));
    assert_eq!(s.bob.call("PUT", &path, json!({"subnet_id": of("subnets")})).await.status, 404);
    assert_eq!(s.bob.call("PUT", &path, json!({"port_id": of("ports")})).await.status, 404);
}

#[tokio::test]
async fn the_operators_pages_are_theirs() {
    let s = site();
    network(&s.alice).await;
    assert_eq!(s.alice.get("/v2.0/agents").await.body, json!({"agents": []}));
    assert_eq!(s.alice.get("/v2.0/network-ip-availabilities").await.body, json!({"network_ip_availabilities": []}));
    assert_eq!(s.admin.get("/v2.0/network-ip-availabilities").await.body["network_ip_availabilities"][0]["used_ips"], 0);
    assert_eq!(s.alice.get("/v2.0/quotas").await.status, 403);
}
