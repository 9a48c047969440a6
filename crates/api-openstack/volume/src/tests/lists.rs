use serde_json::{Value, json};

use super::*;

fn names(body: &Value) -> Vec<&str> {
    body["volumes"].as_array().unwrap().iter().map(|volume| volume["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn pages_follow_each_other() {
    let s = Setup::new().await;
    for name in ["a", "b", "c"] {
        s.volume(json!({ "name": name })).await;
    }
    let list = |query: &str| {
        let path = format!("/volumes/detail?{query}");
        let s = &s;
        async move { expect(200, s.member("GET", &path, Value::Null).await) }
    };
    assert_eq!(names(&list("").await), ["c", "b", "a"], "the newest first");
    assert_eq!(names(&list("sort=name:asc").await), ["a", "b", "c"]);
    assert_eq!(names(&list("sort_key=name&sort_dir=asc").await), ["a", "b", "c"]);
    let first = list("sort=name:asc&limit=2&with_count=true").await;
    assert_eq!((names(&first), &first["count"]), (vec!["a", "b"], &json!(3)));
    let next = first["volumes_links"][0]["href"].as_str().unwrap();
    assert!(next.starts_with("https://cloud.test:8774/volume/v3/p/volumes/detail?sort=name%3Aasc&limit=2"), "{next}");
    let rest = list(next.split_once('?').unwrap().1).await;
    assert_eq!(names(&rest), ["c"]);
    assert!(rest.get("volumes_links").is_none());
    assert_eq!(names(&list("sort=name:asc&offset=1").await), ["b", "c"]);
    for (query, status) in [
        ("limit=-1", 400),
        ("limit=x", 400),
        ("sort_key=secret", 400),
        ("sort=name:up", 400),
        ("sort=name&sort_key=name", 400),
        ("offset=-1", 400),
        ("marker=nothing", 404),
    ] {
        assert_eq!(s.member("GET", &format!("/volumes?{query}"), Value::Null).await.status, status, "{query}");
    }
}

#[tokio::test]
async fn filters_drop_what_does_not_match() {
    let s = Setup::new().await;
    let a = s.volume(json!({ "name": "a", "metadata": { "k": "v" } })).await;
    s.volume(json!({ "name": "b", "size": 2 })).await;
    s.change(&a, |volume| volume.spec.bootable = true).await;
    for (query, found) in [
        ("name=a", vec!["a"]),
        ("name~=b", vec!["b"]),
        ("status=available&size=2", vec!["b"]),
        ("status=error", vec![]),
        ("bootable=true", vec!["a"]),
        ("bootable=0", vec!["b"]),
        ("metadata={%27k%27:+%27v%27}", vec!["a"]),
        ("metadata={%27k%27:+%27w%27}", vec![]),
        ("availability_zone=nova&sort=name:asc", vec!["a", "b"]),
        ("volume_type=standard&sort=name:asc", vec!["a", "b"]),
        ("created_at=gt:2020-01-01T00:00:00&sort=name:asc", vec!["a", "b"]),
        ("created_at=lt:2020-01-01T00:00:00", vec![]),
        ("group_id=x", vec![]),
        ("unheard_of=x&sort=name:asc", vec!["a", "b"]),
    ] {
        let body = expect(200, s.member("GET", &format!("/volumes?{query}"), Value::Null).await);
        assert_eq!(names(&body), found, "{query}");
    }
    expect(400, s.member("GET", "/volumes?bootable=perhaps", Value::Null).await);
    expect(400, s.member("GET", "/volumes?metadata=k", Value::Null).await);
}

#[tokio::test]
async fn only_administrators_see_all_projects() {
    let s = Setup::new().await;
    s.volume(json!({ "name": "a" })).await;
    let count = |token: &'static str, query: &'static str| {
        let s = &s;
        async move { expect(200, s.send(token, "GET", &format!("/volumes?{query}"), Value::Null).await)["volumes"].as_array().unwrap().len() }
    };
    assert_eq!(count(OTHER, "all_tenants=1").await, 0);
    assert_eq!(count(ADMIN, "").await, 0);
    assert_eq!(count(ADMIN, "all_tenants=True").await, 1);
    assert_eq!(count(ADMIN, "all_tenants=1&project_id=q").await, 0);
    assert_eq!(count(ADMIN, "all_tenants=1&project_id=p").await, 1);
    expect(400, s.send(ADMIN, "GET", "/volumes?all_tenants=perhaps", Value::Null).await);
}

#[tokio::test]
async fn sums_are_of_what_matches() {
    let s = Setup::new().await;
    s.volume(json!({ "size": 2, "metadata": { "k": "v" } })).await;
    s.volume(json!({ "size": 3, "metadata": { "k": "w" } })).await;
    let sums = expect(200, s.member("GET", "/volumes/summary", Value::Null).await);
    assert_eq!(sums, json!({ "volume-summary": { "total_count": 2, "total_size": 5, "metadata": { "k": ["v", "w"] } } }));
}
