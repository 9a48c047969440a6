//! Patches, tags, protection, deactivation, quota.

use serde_json::{Value, json};
use unkai_model::quota::Quota;
use unkai_model::{Error, Meta};

use crate::cloud::{fixture, id};

#[tokio::test]
async fn patches_change_base_and_custom_properties() {
    let f = fixture();
    let image = id(&f.queued(json!({ "os_distro": "debian" })).await);
    let changes = json!([
        { "op": "replace", "path": "/name", "value": "new" },
        { "op": "add", "path": "/hw_disk_bus", "value": "scsi" },
        { "op": "add", "path": "/a~1b", "value": "slash" },
        { "op": "replace", "path": "/tags", "value": ["x", "y"] },
        { "op": "replace", "path": "/min_ram", "value": 128 },
        { "op": "remove", "path": "/os_distro" },
        { "op": "replace", "path": "/disk_format", "value": null },
    ]);
    let answer = f.patch(&f.member, &image, changes).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let wanted = [
        ("name", json!("new")),
        ("hw_disk_bus", json!("scsi")),
        ("a/b", json!("slash")),
        ("tags", json!(["x", "y"])),
        ("min_ram", json!(128)),
        ("disk_format", Value::Null),
    ];
    for (field, value) in wanted {
        assert_eq!(answer.body[field], value, "{field}");
    }
    assert!(answer.body.get("os_distro").is_none());
}

#[tokio::test]
async fn bad_patches_change_nothing() {
    let f = fixture();
    let image = id(&f.queued(json!({ "known": "x" })).await);
    let before = f.show(&image).await;
    let op = |op: &str, path: &str, value: Value| json!({ "op": op, "path": path, "value": value });
    let table = [
        (op("replace", "/status", json!("active")), 403),
        (op("replace", "/id", json!("x")), 403),
        (op("add", "/os_glance_x", json!("x")), 403),
        (op("add", "/location", json!("x")), 403),
        (op("replace", "/owner", json!("p2")), 403),
        (op("replace", "/visibility", json!("public")), 403),
        (op("add", "/locations/-", json!({ "url": "http://x", "metadata": {} })), 403),
        (op("replace", "/locations", json!([])), 403),
        (op("remove", "/name", json!(null)), 403),
        (op("remove", "/unknown", json!(null)), 409),
        (op("replace", "/unknown", json!("x")), 409),
        (op("replace", "/visibility", json!("nobody")), 400),
        (op("replace", "/name/first", json!("x")), 400),
        (op("replace", "/min_disk", json!(-1)), 400),
        (op("replace", "/known", json!(7)), 400),
        (op("move", "/known", json!("x")), 400),
        (op("replace", "known", json!("x")), 400),
        (json!({ "op": "replace", "path": "/known" }), 400),
        (json!({ "path": "/known", "value": "x" }), 400),
        (json!("replace"), 400),
    ];
    for (change, status) in table {
        let rename = op("replace", "/name", json!("changed"));
        let answer = f.patch(&f.member, &image, json!([rename, change])).await;
        assert_eq!(answer.status, status, "{change}: {answer:?}");
    }
    assert_eq!(f.patch(&f.member, &image, json!({})).await.status, 400);
    let plain = f.member.call("PATCH", &format!("/v2/images/{image}"), json!([])).await;
    assert_eq!(plain.status, 415);
    assert!(plain.headers["accept-patch"].to_str().unwrap().contains("v2.1-json-patch"));
    assert_eq!(f.show(&image).await, before);
}

#[tokio::test]
async fn the_older_draft_of_patches() {
    let f = fixture();
    let image = id(&f.queued(json!({ "known": "x" })).await);
    let kind = ("content-type", "application/openstack-images-v2.0-json-patch");
    let send =
        async |changes: Value| f.member.send("PATCH", &format!("/v2/images/{image}"), &[kind], changes.to_string().into_bytes()).await;
    let answer = send(json!([{ "replace": "/name", "value": "new" }, { "add": "/fresh", "value": "1" }, { "remove": "/known" }])).await;
    assert_eq!((answer.status, &answer.body["name"], &answer.body["fresh"]), (200, &json!("new"), &json!("1")));
    assert_eq!(send(json!([{ "add": "/fresh", "value": "2" }])).await.status, 409);
    assert_eq!(send(json!([{ "add": "/a", "remove": "/b", "value": "2" }])).await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn formats_are_fixed_once_there_is_content() {
    let f = fixture();
    let image = f.active(json!({}), b"x").await;
    let answer = f.patch(&f.member, &image, json!([{ "op": "replace", "path": "/disk_format", "value": "qcow2" }])).await;
    assert_eq!(answer.status, 403);
}

#[tokio::test]
async fn tags_come_and_go() {
    let f = fixture();
    let image = id(&f.queued(json!({})).await);
    let tag = async |method: &str, tag: &str| f.member.call(method, &format!("/v2/images/{image}/tags/{tag}"), json!(null)).await.status;
    assert_eq!(tag("PUT", "a%20b").await, 204);
    assert_eq!(tag("PUT", "a%20b").await, 204);
    assert_eq!(f.show(&image).await["tags"], json!(["a b"]));
    assert_eq!(tag("PUT", &"x".repeat(256)).await, 400);
    assert_eq!(tag("DELETE", "other").await, 404);
    assert_eq!(tag("DELETE", "a%20b").await, 204);
    assert_eq!(f.show(&image).await["tags"], json!([]));
    for number in 0..128 {
        assert_eq!(tag("PUT", &format!("t{number}")).await, 204);
    }
    assert_eq!(tag("PUT", "one-more").await, 413);
    assert_eq!(f.member.call("PUT", "/v2/images/nothing/tags/t", json!(null)).await.status, 404);
}

#[tokio::test]
async fn a_protected_image_stays() {
    let f = fixture();
    let image = id(&f.queued(json!({ "protected": true })).await);
    let path = format!("/v2/images/{image}");
    assert_eq!(f.member.call("DELETE", &path, json!(null)).await.status, 403);
    assert_eq!(f.patch(&f.member, &image, json!([{ "op": "replace", "path": "/protected", "value": false }])).await.status, 200);
    assert_eq!(f.member.call("DELETE", &path, json!(null)).await.status, 204);
    assert_eq!(f.member.call("DELETE", &path, json!(null)).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deactivated_image_is_for_administrators() {
    let f = fixture();
    let queued = id(&f.queued(json!({})).await);
    let act =
        async |image: &str, action: &str| f.member.call("POST", &format!("/v2/images/{image}/actions/{action}"), json!(null)).await.status;
    assert_eq!(act(&queued, "deactivate").await, 403);
    let image = f.active(json!({}), b"x").await;
    assert_eq!(act(&image, "deactivate").await, 204);
    assert_eq!(act(&image, "deactivate").await, 204);
    assert_eq!(f.show(&image).await["status"], "deactivated");
    let path = format!("/v2/images/{image}/file");
    assert_eq!(f.member.get(&path).await.status, 403);
    assert_eq!(f.admin.get(&path).await.status, 200);
    assert!(f.images.open(&unkai_model::Id::new(image.as_str())).is_err(), "no server starts from it");
    assert_eq!(act(&image, "reactivate").await, 204);
    assert_eq!(f.member.get(&path).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn quota_of_count_and_bytes() {
    let f = fixture();
    let limits = [("image_count_total".to_owned(), 2), ("image_size_total".to_owned(), 0)].into();
    let quota = Quota { meta: Meta::new(Quota::id("image", &"p1".into())), limits };
    f.cloud.store.transact(move |tx| tx.insert(quota.clone()).map(drop)).await.map_err(|e: Error| e).unwrap();
    f.active(json!({}), b"x").await;
    let second = id(&f.queued(json!({})).await);
    assert_eq!(f.member.call("POST", "/v2/images", json!({ "name": "third" })).await.status, 413);
    assert_eq!(f.put(&second, b"x").await.status, 413, "one MiB is used already");
    assert_eq!(f.other.call("POST", "/v2/images", json!({ "name": "another project" })).await.status, 201);
}
