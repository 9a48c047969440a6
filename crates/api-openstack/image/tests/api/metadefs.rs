//! Metadata definitions.

use serde_json::{Value, json};

use crate::cloud::{Fixture, fixture};

const ROOT: &str = "/v2/metadefs/namespaces";

async fn made(f: &Fixture, body: Value) {
    let answer = f.admin.call("POST", ROOT, body).await;
    assert_eq!(answer.status, 201, "{answer:?}");
}

#[tokio::test]
async fn a_namespace_lives() {
    let f = fixture();
    let whole = json!({
        "namespace": "OS::Test",
        "display_name": "Test",
        "visibility": "public",
        "protected": true,
        "properties": { "bus": { "title": "Bus", "type": "string", "enum": ["scsi", "ide"] } },
        "objects": [{ "name": "Disk", "properties": { "size": { "title": "Size", "type": "integer", "minimum": 1 } } }],
        "tags": [{ "name": "fast" }],
        "resource_type_associations": [{ "name": "OS::Glance::Image", "prefix": "hw_" }],
    });
    made(&f, whole.clone()).await;
    assert_eq!(f.admin.call("POST", ROOT, whole).await.status, 409);
    let path = format!("{ROOT}/OS::Test");
    let seen = f.member.get(&path).await.body;
    assert_eq!(seen["objects"][0]["properties"]["size"]["type"], "integer");
    assert_eq!(seen["tags"], json!([{ "name": "fast" }]));
    assert_eq!(seen["self"], path.as_str());
    let prefixed = f.member.get(&format!("{path}?resource_type=OS::Glance::Image")).await.body;
    assert_eq!(prefixed["properties"]["hw_bus"]["title"], "Bus");
    assert_eq!(f.member.get(ROOT).await.body["namespaces"][0]["namespace"], "OS::Test");
    assert_eq!(f.admin.call("DELETE", &path, json!(null)).await.status, 403);
    let update = json!({ "namespace": "OS::Test2", "protected": false, "visibility": "private" });
    assert_eq!(f.admin.call("PUT", &path, update).await.body["namespace"], "OS::Test2");
    assert_eq!(f.admin.get(&path).await.status, 404);
    assert_eq!(f.member.get(&format!("{ROOT}/OS::Test2")).await.status, 404, "private to the administrator's project");
    assert_eq!(f.admin.call("DELETE", &format!("{ROOT}/OS::Test2"), json!(null)).await.status, 204);
}

#[tokio::test]
async fn definitions_in_a_namespace() {
    let f = fixture();
    made(&f, json!({ "namespace": "n" })).await;
    let table = [
        ("objects", json!({ "name": "a" }), json!({ "name": "b" })),
        ("properties", json!({ "name": "a", "title": "A", "type": "string" }), json!({ "name": "b", "title": "B", "type": "integer" })),
    ];
    for (kind, first, second) in table {
        let path = format!("{ROOT}/n/{kind}");
        let create = f.admin.call("POST", &path, first.clone()).await;
        assert_eq!((create.status, &create.body["name"]), (201, &json!("a")), "{create:?}");
        assert_eq!(f.admin.call("POST", &path, first).await.status, 409);
        assert_eq!(f.admin.call("PUT", &format!("{path}/a"), second).await.body["name"], "b");
        assert_eq!(f.admin.get(&format!("{path}/a")).await.status, 404);
        assert_eq!(f.admin.get(&format!("{path}/b")).await.status, 200);
        assert_eq!(f.admin.call("DELETE", &format!("{path}/b"), json!(null)).await.status, 204);
        assert_eq!(f.admin.call("DELETE", &format!("{path}/b"), json!(null)).await.status, 404);
        assert_eq!(f.admin.call("DELETE", &path, json!(null)).await.status, 204);
    }
}

#[tokio::test]
async fn tags_and_resource_types() {
    let f = fixture();
    made(&f, json!({ "namespace": "n" })).await;
    let tags = format!("{ROOT}/n/tags");
    let count = async || f.admin.get(&tags).await.body["tags"].as_array().unwrap().len();
    assert_eq!(f.admin.call("POST", &tags, json!({ "tags": [{ "name": "x" }, { "name": "y" }] })).await.status, 201);
    assert_eq!(f.admin.call("POST", &format!("{tags}/z"), json!(null)).await.status, 201);
    assert_eq!(f.admin.call("PUT", &format!("{tags}/z"), json!({ "name": "w" })).await.body["name"], "w");
    assert_eq!(count().await, 3);
    assert_eq!(f.admin.call("POST", &tags, json!({ "tags": [{ "name": "only" }] })).await.status, 201);
    assert_eq!(count().await, 1);
    assert_eq!(f.admin.call("POST", &tags, json!({ "tags": [{ "name": "x" }, { "name": "x" }] })).await.status, 409);
    let types = format!("{ROOT}/n/resource_types");
    assert_eq!(f.admin.call("POST", &types, json!({ "name": "My::Type" })).await.status, 201);
    let known = f.member.get("/v2/metadefs/resource_types").await.body;
    assert!(known["resource_types"].as_array().unwrap().contains(&json!({ "name": "My::Type" })));
    assert_eq!(f.admin.call("DELETE", &format!("{types}/My::Type"), json!(null)).await.status, 204);
    assert_eq!(f.admin.get(&types).await.body["resource_type_associations"], json!([]));
}

#[tokio::test]
async fn only_administrators_define() {
    let f = fixture();
    assert_eq!(f.member.call("POST", ROOT, json!({ "namespace": "n" })).await.status, 403);
    made(&f, json!({ "namespace": "n", "visibility": "public" })).await;
    made(&f, json!({ "namespace": "hidden" })).await;
    assert_eq!(f.member.call("DELETE", &format!("{ROOT}/n"), json!(null)).await.status, 403);
    assert_eq!(f.member.call("DELETE", &format!("{ROOT}/hidden"), json!(null)).await.status, 404);
    assert_eq!(f.member.call("POST", &format!("{ROOT}/n/objects"), json!({ "name": "a" })).await.status, 403);
    for bad in
        [json!({}), json!({ "namespace": 1 }), json!({ "namespace": "x", "visibility": "shared" }), json!({ "namespace": "x", "y": 1 })]
    {
        assert_eq!(f.admin.call("POST", ROOT, bad).await.status, 400);
    }
}

#[tokio::test]
async fn schemas_by_name() {
    let f = fixture();
    for (path, name) in [
        ("namespace", "namespace"),
        ("namespaces", "namespaces"),
        ("resource_type", "resource_type_association"),
        ("resource_types", "resource_type_associations"),
        ("object", "object"),
        ("objects", "objects"),
        ("property", "property"),
        ("properties", "properties"),
        ("tag", "tag"),
        ("tags", "tags"),
    ] {
        assert_eq!(f.member.get(&format!("/v2/schemas/metadefs/{path}")).await.body["name"], name);
    }
}
