use serde_json::{Value, json};

use super::{Setup, expect, keys, refusal};

const BRIEF: &str = "availability_zone created_at deleted deleted_at id name updated_at";

async fn create(setup: &Setup, name: &str, zone: Option<&str>) -> u64 {
    let body = json!({"aggregate": {"name": name, "availability_zone": zone}});
    let made = expect(200, setup.admin("POST", "/os-aggregates", body).await);
    made["aggregate"]["id"].as_u64().unwrap()
}

async fn act(setup: &Setup, id: u64, action: &str, body: Value) -> super::Answer {
    setup.admin("POST", &format!("/os-aggregates/{id}/action"), json!({ action: body })).await
}

#[tokio::test]
async fn aggregates_live_and_die() {
    let mut setup = Setup::new().await;
    let made = expect(200, setup.admin("POST", "/os-aggregates", json!({"aggregate": {"name": "one"}})).await);
    keys(&made["aggregate"], BRIEF);
    assert_eq!((&made["aggregate"]["availability_zone"], &made["aggregate"]["updated_at"]), (&Value::Null, &Value::Null));
    let two = create(&setup, "two", Some("west")).await;
    assert_eq!(
        refusal(409, setup.admin("POST", "/os-aggregates", json!({"aggregate": {"name": "two"}})).await),
        "Aggregate two already exists."
    );

    let path = format!("/os-aggregates/{two}");
    let shown = expect(200, setup.admin("GET", &path, Value::Null).await);
    keys(&shown["aggregate"], &format!("{BRIEF} hosts metadata"));
    assert_eq!(shown["aggregate"]["metadata"], json!({"availability_zone": "west"}));
    let changed = expect(200, setup.admin("PUT", &path, json!({"aggregate": {"name": "three", "availability_zone": null}})).await);
    assert_eq!((&changed["aggregate"]["name"], &changed["aggregate"]["metadata"]), (&json!("three"), &json!({})));
    assert!(changed["aggregate"]["updated_at"].is_string());
    refusal(409, setup.admin("PUT", &path, json!({"aggregate": {"name": "one"}})).await);
    refusal(400, setup.admin("PUT", &path, json!({"aggregate": {}})).await);

    let body = json!({"metadata": {"ssd": "true", "gone": null}});
    assert_eq!(expect(200, act(&setup, two, "set_metadata", body).await)["aggregate"]["metadata"], json!({"ssd": "true"}));
    let list = expect(200, setup.admin("GET", "/os-aggregates", Value::Null).await);
    assert_eq!(list["aggregates"].as_array().unwrap().len(), 2);
    setup.speak(41);
    keys(&expect(200, setup.admin("GET", &path, Value::Null).await)["aggregate"], &format!("{BRIEF} hosts metadata uuid"));
    expect(200, setup.admin("DELETE", &path, Value::Null).await);
    refusal(404, setup.admin("DELETE", &path, Value::Null).await);
}

#[tokio::test]
async fn odd_requests_and_strangers_are_refused() {
    let setup = Setup::new().await;
    let id = create(&setup, "one", None).await;
    for name in ["", &"x".repeat(256)] {
        refusal(400, setup.admin("POST", "/os-aggregates", json!({"aggregate": {"name": name}})).await);
    }
    refusal(400, setup.admin("POST", "/os-aggregates", json!({"aggregate": {"name": "x", "availability_zone": "a:b"}})).await);
    refusal(404, setup.admin("GET", "/os-aggregates/-1", Value::Null).await);
    refusal(400, setup.admin("GET", "/os-aggregates/one", Value::Null).await);
    refusal(404, act(&setup, id, "add_host", json!({"host": "nowhere"})).await);
    refusal(404, act(&setup, id, "remove_host", json!({"host": "nowhere"})).await);
    let path = format!("/os-aggregates/{id}");
    for (method, path, body) in [
        ("GET", "/os-aggregates", Value::Null),
        ("POST", "/os-aggregates", json!({"aggregate": {"name": "mine"}})),
        ("GET", path.as_str(), Value::Null),
        ("DELETE", path.as_str(), Value::Null),
        ("POST", &format!("{path}/action"), json!({"add_host": {"host": "host1"}})),
        ("POST", &format!("{path}/action"), json!({"remove_host": {"host": "host1"}})),
    ] {
        refusal(403, setup.member(method, path, body).await);
    }
}

#[tokio::test]
async fn hosts_go_in_and_out() {
    let setup = Setup::new().await;
    setup.host(1).await;
    let id = create(&setup, "one", Some("west")).await;
    let added = expect(200, act(&setup, id, "add_host", json!({"host": "host1"})).await);
    assert_eq!(added["aggregate"]["hosts"], json!(["host1"]));
    assert_eq!(
        refusal(409, act(&setup, id, "add_host", json!({"host": "host1"})).await),
        format!("Aggregate {id} already has host host1.")
    );
    refusal(400, setup.admin("DELETE", &format!("/os-aggregates/{id}"), Value::Null).await);
    let zones = expect(200, setup.member("GET", "/os-availability-zone", Value::Null).await);
    assert_eq!(zones, json!({"availabilityZoneInfo": [{"zoneName": "west", "zoneState": {"available": true}, "hosts": null}]}));

    let east = create(&setup, "two", Some("east")).await;
    refusal(409, act(&setup, east, "add_host", json!({"host": "host1"})).await);
    let plain = create(&setup, "three", None).await;
    expect(200, act(&setup, plain, "add_host", json!({"host": "host1"})).await);
    refusal(400, act(&setup, plain, "set_metadata", json!({"metadata": {"availability_zone": "east"}})).await);
    expect(200, act(&setup, id, "remove_host", json!({"host": "host1"})).await);
    expect(200, act(&setup, plain, "set_metadata", json!({"metadata": {"availability_zone": "east"}})).await);
}

#[tokio::test]
async fn a_host_does_not_change_its_zone_under_servers() {
    let setup = Setup::new().await;
    let host = setup.host(1).await;
    let (plain, west) = (create(&setup, "plain", None).await, create(&setup, "west", Some("west")).await);
    setup.server(1, Some(&host), None).await;
    let why = "One or more hosts contain instances in this zone";
    expect(200, act(&setup, plain, "add_host", json!({"host": "host1"})).await);
    assert!(refusal(409, act(&setup, west, "add_host", json!({"host": "host1"})).await).contains(why));
    let zone = json!({"aggregate": {"availability_zone": "east"}});
    assert!(refusal(400, setup.admin("PUT", &format!("/os-aggregates/{plain}"), zone).await).contains(why));
    // The default zone, said by name, is no change.
    let nova = json!({"aggregate": {"availability_zone": "nova"}});
    expect(200, setup.admin("PUT", &format!("/os-aggregates/{plain}"), nova).await);
    expect(200, act(&setup, plain, "remove_host", json!({"host": "host1"})).await);
}

#[tokio::test]
async fn images_are_wished_for_from_2_81_on() {
    let mut setup = Setup::new().await;
    let id = create(&setup, "one", None).await;
    let path = format!("/os-aggregates/{id}/images");
    let unknown = json!({"cache": [{"id": "20000000-0000-4000-8000-000000000000"}]});
    refusal(404, setup.admin("POST", &path, unknown.clone()).await);
    setup.speak(81);
    refusal(400, setup.admin("POST", &path, unknown.clone()).await);
    refusal(400, setup.admin("POST", &path, json!({"cache": []})).await);
    refusal(400, setup.admin("POST", &path, json!({"cache": [{"id": "x"}]})).await);
    refusal(400, setup.admin("POST", "/os-aggregates/x/images", unknown.clone()).await);
    refusal(404, setup.admin("POST", "/os-aggregates/99/images", unknown.clone()).await);
    let twice = json!({"cache": [unknown["cache"][0], unknown["cache"][0]]});
    let told = refusal(400, setup.admin("POST", &path, twice).await);
    assert!(told.contains("Duplicate images in request"), "{told}");
}
