//! Lists: filters, order, pages.

use serde_json::{Value, json};
use unkai_model::compute::Phase;

use crate::servers::fixture::{IMAGE, World};

async fn names(world: &World, minor: u16, query: &str) -> Vec<String> {
    let answer = world.at(minor, "GET", &format!("/v2.1/servers/detail?{query}"), Value::Null).await;
    assert_eq!(answer.status, 200, "{query}: {}", answer.body);
    answer.body["servers"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap().to_owned()).collect()
}

async fn furnished() -> World {
    let world = World::new().await;
    for (name, flavor, tags) in [("alpha", "1", json!(["red"])), ("beta", "2", json!(["red", "blue"])), ("gamma", "1", json!([]))] {
        let id = world.create(json!({"name": name, "flavorRef": flavor, "tags": tags})).await;
        if name != "gamma" {
            world.settle(&id, Phase::Running).await;
        }
    }
    world
}

#[tokio::test]
async fn filters_choose() {
    let world = furnished().await;
    let image = format!("image={IMAGE}");
    let table: [(&str, &[&str]); 19] = [
        ("", &["gamma", "beta", "alpha"]),
        ("name=a$", &["gamma", "beta", "alpha"]),
        ("name=^AL", &["alpha"]),
        ("status=active", &["beta", "alpha"]),
        ("status=BUILD&status=ACTIVE", &["gamma", "beta", "alpha"]),
        ("status=SHUTOFF", &[]),
        ("flavor=2", &["beta"]),
        (&image, &["gamma", "beta", "alpha"]),
        ("image=none", &[]),
        ("ip=10.1.", &["gamma", "beta", "alpha"]),
        ("ip=192.0", &[]),
        ("tags=red,blue", &["beta"]),
        ("tags-any=red,blue", &["beta", "alpha"]),
        ("not-tags=red,blue", &["gamma", "alpha"]),
        ("not-tags-any=red", &["gamma"]),
        ("changes-since=2099-01-01T00:00:00Z", &[]),
        ("changes-since=2020-01-01T00:00:00Z", &["gamma", "beta", "alpha"]),
        ("sort_key=display_name&sort_dir=asc", &["alpha", "beta", "gamma"]),
        ("host=host-1", &["gamma", "beta", "alpha"]),
    ];
    for (query, expected) in table {
        assert_eq!(names(&world, 66, query).await, expected, "{query}");
    }
    let all = world.admin_at(66, "GET", "/v2.1/servers?all_tenants=1&host=host-1", Value::Null).await;
    assert_eq!(all.body["servers"].as_array().unwrap().len(), 2, "for administrators the host counts");
    let mine = world.admin_at(66, "GET", "/v2.1/servers", Value::Null).await;
    assert_eq!(mine.body["servers"], json!([]));
}

#[tokio::test]
async fn pages_follow_each_other() {
    let world = furnished().await;
    let first = world.at(1, "GET", "/v2.1/servers?limit=2", Value::Null).await;
    let next = first.body["servers_links"][0]["href"].as_str().unwrap().to_owned();
    assert_eq!(first.body["servers"].as_array().unwrap().len(), 2);
    let path = next.strip_prefix("https://cloud.test:8774/compute").unwrap();
    let second = world.at(1, "GET", path, Value::Null).await;
    assert_eq!(second.body["servers"].as_array().unwrap().len(), 1);
    assert_eq!(second.body.get("servers_links"), None);
    let none = world.at(1, "GET", "/v2.1/servers?limit=0", Value::Null).await;
    assert_eq!(none.body, json!({"servers": []}));
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let world = World::new().await;
    for (minor, query, status) in [
        (1, "limit=-1", 400),
        (1, "limit=x", 400),
        (1, "marker=nobody", 400),
        (1, "changes-since=2011/01/01", 400),
        (1, "all_tenants=1", 403),
        (1, "status=DELETED", 403),
        (1, "status=odd", 200),
        (38, "status=odd", 400),
        (1, "name=[", 400),
        (1, "sort_key=bogus", 400),
        (1, "sort_key=created_at&sort_dir=up", 400),
        (74, "surprise=1", 200),
        (75, "surprise=1", 400),
        (74, "sort_key=vcpus", 200),
        (75, "sort_key=vcpus", 400),
    ] {
        let answer = world.at(minor, "GET", &format!("/v2.1/servers?{query}"), Value::Null).await;
        assert_eq!(answer.status, status, "{query} at {minor}: {}", answer.body);
    }
}
