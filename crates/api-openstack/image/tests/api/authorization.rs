//! Every route, asked by the wrong people.

use serde_json::json;
use unkai_image::routes;
use unkai_openstack::Access;

use crate::cloud::fixture;

#[tokio::test]
async fn every_route_needs_a_token_but_the_versions() {
    let f = fixture();
    let nobody = f.member.with_token("");
    for route in routes(&f.cloud).list() {
        let path = route.path.replace("{id}", "x").replace("{tag}", "t").replace("{member}", "m").replace("{name}", "image");
        let path = path.replace("{namespace}", "n").replace("{object}", "o").replace("{property}", "p").replace("{type}", "r");
        let answer = nobody.call(route.method.as_str(), &path, json!(null)).await;
        match route.access {
            Access::Public => assert!(answer.status < 400, "{route:?}: {answer:?}"),
            Access::Token => assert_eq!(answer.status, 401, "{route:?}"),
        }
    }
}

/// What a stranger may not see is not there; what he sees and may not change is forbidden. Nothing he tries changes anything.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_change_nothing() {
    let f = fixture();
    let private = f.active(json!({ "visibility": "private" }), b"x").await;
    let community = f.active(json!({ "visibility": "community" }), b"x").await;
    let octets = ("content-type", "application/octet-stream");
    let patch = ("content-type", "application/openstack-images-v2.1-json-patch");
    let change = json!([{ "op": "replace", "path": "/name", "value": "mine" }]).to_string().into_bytes();
    let import = json!({ "method": { "name": "glance-direct" } }).to_string().into_bytes();
    let attempts = [
        ("PATCH", "", patch, change.clone()),
        ("DELETE", "", octets, vec![]),
        ("PUT", "/file", octets, b"y".to_vec()),
        ("PUT", "/stage", octets, b"y".to_vec()),
        ("PUT", "/tags/t", octets, vec![]),
        ("DELETE", "/tags/t", octets, vec![]),
        ("POST", "/actions/deactivate", octets, vec![]),
        ("POST", "/actions/reactivate", octets, vec![]),
        ("POST", "/members", octets, json!({ "member": "p2" }).to_string().into_bytes()),
    ];
    for (image, status) in [(&private, 404), (&community, 403)] {
        let before = f.show(image).await;
        for (method, tail, header, body) in &attempts {
            let answer = f.other.send(method, &format!("/v2/images/{image}{tail}"), &[*header], body.clone()).await;
            assert_eq!(answer.status, status, "{method} {tail}: {answer:?}");
        }
        assert_eq!(f.show(image).await, before);
    }
    let answer = f.other.send("POST", &format!("/v2/images/{private}/import"), &[], import).await;
    assert_eq!(answer.status, 404);
    assert_eq!(f.reader.send("PATCH", &format!("/v2/images/{private}"), &[patch], change).await.status, 403);
    assert_eq!(f.reader.get(&format!("/v2/images/{private}")).await.status, 200);
    assert_eq!(f.reader.get(&format!("/v2/images/{private}/file")).await.status, 403);
    assert_eq!(f.member.get("/v2/tasks").await.status, 403);
}

#[tokio::test]
async fn unknown_paths_and_methods() {
    let f = fixture();
    assert_eq!(f.member.get("/v2/images/").await.status, 404);
    assert_eq!(f.member.call("DELETE", "/v2/images/", json!(null)).await.status, 404);
    assert_eq!(f.member.get("/v2/nothing").await.status, 404);
    let answer = f.member.call("DELETE", "/v2/images", json!(null)).await;
    assert_eq!(answer.status, 405);
    assert!(answer.headers.contains_key("allow"));
}

#[tokio::test]
async fn versions_and_schemas() {
    let f = fixture();
    let root = f.member.get("/").await;
    assert_eq!(root.status, 300);
    assert_eq!(root.body["versions"][0]["status"], "CURRENT");
    assert_eq!(root.body["versions"][0]["links"][0]["href"], "https://cloud.test:8774/image/v2/");
    assert_eq!(f.member.get("/versions").await.status, 200);
    for name in ["image", "images", "member", "members", "task", "tasks"] {
        assert_eq!(f.member.get(&format!("/v2/schemas/{name}")).await.body["name"], name);
    }
    assert_eq!(f.member.get("/v2/info/stores").await.status, 404);
    assert_eq!(f.member.get("/v2/info/import").await.body["import-methods"]["value"], json!(["glance-direct"]));
    assert_eq!(f.member.get("/v2/info/usage").await.body["usage"]["image_count_total"], json!({ "usage": 0, "limit": -1 }));
}
