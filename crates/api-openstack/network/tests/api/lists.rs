//! Lists: who sees what, filters, pages, tags.

use serde_json::{Value, json};

use crate::*;

fn ids(body: &Value, many: &str) -> Vec<String> {
    body[many].as_array().expect("a list").iter().map(|v| id(v).to_owned()).collect()
}

#[tokio::test]
async fn everybody_sees_their_own_and_what_is_shared() {
    let s = site();
    let (a, b) = (network(&s.alice).await, network(&s.bob).await);
    let public = public(&s.admin).await;
    let shared = create(&s.admin, "networks", "network", json!({"shared": true})).await;
    let seen = ids(&s.alice.get("/v2.0/networks").await.body, "networks");
    for (net, expected) in [(&a, true), (&b, false), (&public, true), (&shared, true)] {
        assert_eq!(seen.contains(&id(net).to_owned()), expected);
    }
    assert_eq!(ids(&s.admin.get("/v2.0/networks").await.body, "networks").len(), 4);
    let external = s.alice.get("/v2.0/networks?router:external=True").await.body;
    assert_eq!(ids(&external, "networks"), [id(&public)]);
    let only_shared = s.alice.get("/v2.0/networks?shared=true").await.body;
    assert_eq!(ids(&only_shared, "networks"), [id(&shared)]);
    assert_eq!(s.alice.get(&format!("/v2.0/networks/{}", id(&b))).await.status, 404);
    assert_eq!(s.alice.get(&format!("/v2.0/subnets?network_id={}", id(&public))).await.body["subnets"], json!([]));
}

#[tokio::test]
async fn a_policy_shares_with_one_project() {
    let s = site();
    let net = network(&s.alice).await;
    subnet(&s.alice, &net, "10.0.0.0/24").await;
    assert_eq!(s.bob.get(&format!("/v2.0/networks/{}", id(&net))).await.status, 404);
    let everybody =
        json!({"rbac_policy": {"object_type": "network", "object_id": net["id"], "action": "access_as_shared", "target_tenant": "*"}});
    assert_eq!(s.alice.call("POST", "/v2.0/rbac-policies", everybody).await.status, 403);
    let body = json!({"object_type": "network", "object_id": net["id"], "action": "access_as_shared", "target_tenant": BOB});
    let policy = create(&s.alice, "rbac-policies", "rbac_policy", body.clone()).await;
    assert_eq!(s.alice.call("POST", "/v2.0/rbac-policies", json!({"rbac_policy": body})).await.status, 409);
    assert_eq!(s.bob.get(&format!("/v2.0/networks/{}", id(&net))).await.body["network"]["shared"], true);
    let port = port(&s.bob, &net).await;
    assert_eq!(port["project_id"], BOB);
    let fixed = json!({"port": {"network_id": net["id"], "fixed_ips": [{"ip_address": "10.0.0.50"}]}});
    assert_eq!(refusal(&s.bob.call("POST", "/v2.0/ports", fixed).await), (403, "PolicyNotAuthorized"));
    let path = format!("/v2.0/rbac-policies/{}", id(&policy));
    assert_eq!(refusal(&s.alice.call("DELETE", &path, json!(null)).await), (409, "RbacPolicyInUse"));
    assert_eq!(
        s.alice.call("DELETE", &format!("/v2.0/ports/{}", id(&port)), json!(null)).await.status,
        204,
        "owners of networks remove ports"
    );
    assert_eq!(s.alice.call("DELETE", &path, json!(null)).await.status, 204);
    assert_eq!(s.bob.get(&format!("/v2.0/networks/{}", id(&net))).await.status, 404);
}

#[tokio::test]
async fn fields_order_and_pages() {
    let s = site();
    for name in ["c", "a", "b"] {
        create(&s.alice, "networks", "network", json!({"name": name})).await;
    }
    let body = s.alice.get("/v2.0/networks?fields=name&sort_key=name&sort_dir=desc").await.body;
    assert_eq!(body["networks"], json!([{"name": "c"}, {"name": "b"}, {"name": "a"}]));
    let page = s.alice.get("/v2.0/networks?limit=2&sort_key=name&sort_dir=asc").await.body;
    let names: Vec<_> = page["networks"].as_array().unwrap().iter().map(|n| n["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(names, ["a", "b"]);
    let next = page["networks_links"][0]["href"].as_str().unwrap().split_once("cloud.test:8774").unwrap().1.to_owned();
    let rest = s.alice.get(&next).await.body;
    assert_eq!((rest["networks"][0]["name"].as_str(), &rest["networks_links"][0]["rel"]), (Some("c"), &json!("previous")));
    assert_eq!(s.alice.get("/v2.0/networks?limit=x").await.status, 400);
}

#[tokio::test]
async fn ports_are_found_by_what_they_have() {
    let s = site();
    let net = network(&s.alice).await;
    let sub = subnet(&s.alice, &net, "10.0.0.0/24").await;
    let body = json!({"network_id": net["id"], "fixed_ips": [{"ip_address": "10.0.0.50"}], "device_id": "d1", "name": "p"});
    let port = create(&s.alice, "ports", "port", body).await;
    crate::port(&s.alice, &net).await;
    let group = port["security_groups"][0].as_str().unwrap();
    let two = format!("name=p&network_id=x&network_id={}", id(&net));
    for filter in ["fixed_ips=ip_address%3D10.0.0.50", "device_id=d1", &two, "status=DOWN&name=p"] {
        assert_eq!(ids(&s.alice.get(&format!("/v2.0/ports?{filter}")).await.body, "ports"), [id(&port)], "{filter}");
    }
    let of = |filter: String| {
        let alice = s.alice.clone();
        async move { alice.get(&format!("/v2.0/ports?{filter}")).await }
    };
    assert_eq!(ids(&s.alice.get(&format!("/v2.0/ports?security_groups={group}")).await.body, "ports").len(), 2);
    assert_eq!(ids(&of(format!("fixed_ips=subnet_id%3D{}", id(&sub))).await.body, "ports").len(), 3);
    assert_eq!(s.bob.get("/v2.0/ports").await.body["ports"], json!([]));
}

#[tokio::test]
async fn tags_are_put_and_found() {
    let s = site();
    let net = network(&s.alice).await;
    let base = format!("/v2.0/networks/{}/tags", id(&net));
    assert_eq!(s.alice.call("PUT", &format!("{base}/red"), json!(null)).await.status, 201);
    assert_eq!(s.alice.get(&format!("{base}/red")).await.status, 204);
    assert_eq!(refusal(&s.alice.get(&format!("{base}/blue")).await), (404, "TagNotFound"));
    assert_eq!(s.alice.call("PUT", &base, json!({"tags": ["blue", "green"]})).await.body, json!({"tags": ["blue", "green"]}));
    assert_eq!(ids(&s.alice.get("/v2.0/networks?tags=blue,green").await.body, "networks"), [id(&net)]);
    assert_eq!(s.alice.get("/v2.0/networks?not-tags=blue,green").await.body["networks"], json!([]));
    assert_eq!(s.reader.call("DELETE", &base, json!(null)).await.status, 403);
    assert_eq!(s.bob.get(&base).await.status, 404);
    assert_eq!(s.alice.call("DELETE", &format!("{base}/blue"), json!(null)).await.status, 204);
    assert_eq!(s.alice.call("DELETE", &base, json!(null)).await.status, 204);
    assert_eq!(s.alice.get(&base).await.body, json!({"tags": []}));
}

#[tokio::test]
async fn a_thousand_ports_are_listed_quickly() {
    let s = site();
    let quota = json!({"quota": {"port": -1}});
    s.admin.call("PUT", &format!("/v2.0/quotas/{ALICE}"), quota).await;
    let net = network(&s.alice).await;
    subnet(&s.alice, &net, "10.0.0.0/16").await;
    for _ in 0..10 {
        let many: Vec<Value> = (0..100).map(|_| json!({"network_id": net["id"]})).collect();
        assert_eq!(s.alice.call("POST", "/v2.0/ports", json!({"ports": many})).await.status, 201);
    }
    assert_eq!(s.alice.get("/v2.0/ports").await.body["ports"].as_array().unwrap().len(), 1001);
}
