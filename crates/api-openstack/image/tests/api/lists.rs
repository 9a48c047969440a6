//! Making, showing and finding images.

use serde_json::{Value, json};

use crate::cloud::{fixture, id};

fn names(body: &Value) -> Vec<&str> {
    body["images"].as_array().unwrap().iter().map(|image| image["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_new_image_shows_all_its_fields() {
    let f = fixture();
    let body = json!({ "name": "debian", "tags": ["b", "a"], "min_ram": 64, "hw_disk_bus": "scsi", "visibility": "private" });
    let made = f.queued(body).await;
    for (field, value) in [
        ("name", json!("debian")),
        ("status", json!("queued")),
        ("visibility", json!("private")),
        ("owner", json!("p1")),
        ("min_ram", json!(64)),
        ("min_disk", json!(0)),
        ("protected", json!(false)),
        ("os_hidden", json!(false)),
        ("tags", json!(["a", "b"])),
        ("hw_disk_bus", json!("scsi")),
        ("size", json!(null)),
        ("virtual_size", json!(null)),
        ("checksum", json!(null)),
        ("os_hash_algo", json!(null)),
        ("schema", json!("/v2/schemas/image")),
        ("self", json!(format!("/v2/images/{}", id(&made)))),
        ("file", json!(format!("/v2/images/{}/file", id(&made)))),
    ] {
        assert_eq!(made[field], value, "{field}");
    }
    assert_eq!(f.show(&id(&made)).await, made);
}

#[tokio::test]
async fn bad_images_are_refused() {
    let f = fixture();
    let table = [
        (json!({ "disk_format": "floppy" }), 400),
        (json!({ "visibility": "secret" }), 400),
        (json!({ "custom": 1 }), 400),
        (json!({ "min_disk": -1 }), 400),
        (json!({ "id": "short" }), 400),
        (json!([]), 400),
        (json!({ "status": "active" }), 403),
        (json!({ "self": "x" }), 403),
        (json!({ "os_glance_x": "x" }), 403),
        (json!({ "locations": [] }), 403),
        (json!({ "visibility": "public" }), 403),
        (json!({ "owner": "p2" }), 403),
    ];
    for (body, status) in table {
        let answer = f.member.call("POST", "/v2/images", body.clone()).await;
        assert_eq!(answer.status, status, "{body}: {answer:?}");
    }
    assert_eq!(f.member.send("POST", "/v2/images", &[], b"{".to_vec()).await.status, 400);
    assert_eq!(f.member.send("POST", "/v2/images", &[], vec![]).await.status, 400);
    assert_eq!(f.reader.call("POST", "/v2/images", json!({ "name": "x" })).await.status, 403);
    assert_eq!(f.admin.call("POST", "/v2/images", json!({ "owner": "p2", "visibility": "public" })).await.status, 201);
}

#[tokio::test]
async fn an_id_is_used_once() {
    let f = fixture();
    let body = json!({ "id": "0b2b8e2e-7d3c-4b8f-9a3a-0d0e5f8c1a11" });
    assert_eq!(f.member.call("POST", "/v2/images", body.clone()).await.status, 201);
    let again = f.member.call("POST", "/v2/images", body).await;
    assert_eq!(again.status, 409);
    assert!(String::from_utf8_lossy(&again.bytes).contains("Image ID 0b2b8e2e-7d3c-4b8f-9a3a-0d0e5f8c1a11 already exists!"));
}

#[tokio::test]
async fn lists_show_what_the_caller_may_see() {
    let f = fixture();
    for (name, visibility) in [("private", "private"), ("shared", "shared"), ("community", "community")] {
        f.queued(json!({ "name": name, "visibility": visibility })).await;
    }
    f.queued(json!({ "name": "hidden", "os_hidden": true })).await;
    f.admin.call("POST", "/v2/images", json!({ "name": "public", "visibility": "public" })).await;
    let list = async |client: &unkai_openstack::testing::Client, query: &str| {
        let body = client.get(&format!("/v2/images?sort=name:asc&{query}")).await.body;
        names(&body).join(" ")
    };
    assert_eq!(list(&f.member, "").await, "community private public shared");
    assert_eq!(list(&f.other, "").await, "public");
    assert_eq!(list(&f.other, "visibility=community").await, "community");
    assert_eq!(list(&f.other, "visibility=all").await, "community public");
    assert_eq!(list(&f.admin, "visibility=all").await, "community private public shared");
    assert_eq!(list(&f.member, "os_hidden=true").await, "hidden");
    assert_eq!(f.member.with_token("p1/x/stranger").get("/v2/images").await.status, 403);
}

#[tokio::test]
async fn pages_follow_one_another() {
    let f = fixture();
    for number in 0..5 {
        f.queued(json!({ "name": format!("i{number}") })).await;
    }
    let mut path = "/v2/images?limit=2&sort=name:asc".to_owned();
    let mut seen = Vec::new();
    loop {
        let body = f.member.get(&path).await.body;
        assert_eq!(body["first"], "/v2/images?limit=2&sort=name%3Aasc");
        seen.extend(names(&body).into_iter().map(str::to_owned));
        match body["next"].as_str() {
            Some(next) => path = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(seen, ["i0", "i1", "i2", "i3", "i4"]);
    let newest = f.member.get("/v2/images?limit=1").await.body;
    assert_eq!(names(&newest), ["i4"], "newest first when nothing else is asked for");
    assert_eq!(f.member.get("/v2/images?marker=nothing").await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_choose() {
    let f = fixture();
    f.active(json!({ "name": "small", "tags": ["t1", "t2"], "os_distro": "debian" }), &[0; 10]).await;
    f.active(json!({ "name": "large", "tags": ["t1"], "disk_format": "aki", "container_format": "aki", "protected": true }), &[0; 1000])
        .await;
    let table = [
        ("name=small", "small"),
        ("name=in:small,large", "large small"),
        ("size=10", "small"),
        ("size_min=11", "large"),
        ("size_max=9", ""),
        ("status=active", "large small"),
        ("status=queued", ""),
        ("disk_format=aki", "large"),
        ("container_format=in:aki,bare", "large small"),
        ("protected=true", "large"),
        ("tag=t1&tag=t2", "small"),
        ("os_distro=debian", "small"),
        ("owner=p1", "large small"),
        ("owner=p2", ""),
        ("created_at=gt:2001-01-01T00:00:00Z", "large small"),
        ("updated_at=lt:2001-01-01T00:00:00Z", ""),
        ("sort=size:asc", "small large"),
        ("sort_key=size&sort_dir=desc", "large small"),
    ];
    for (query, wanted) in table {
        let sort = if query.contains("sort") { "" } else { "&sort=name:asc" };
        let answer = f.member.get(&format!("/v2/images?{query}{sort}")).await;
        assert_eq!(names(&answer.body).join(" "), wanted, "{query}");
    }
}
