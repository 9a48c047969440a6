use serde_json::{Value, json};
use unkai_model::volume::Snapshot;

use super::*;

#[tokio::test]
async fn who_knows_the_key_gets_the_volume_and_its_snapshots() {
    let s = Setup::new().await;
    let id = s.volume(json!({ "size": 2 })).await;
    expect(202, s.member("POST", "/snapshots", json!({ "snapshot": { "volume_id": id } })).await);
    s.settle(&id).await;
    let offer = expect(202, s.member("POST", "/volume-transfers", json!({ "transfer": { "volume_id": id, "name": "t" } })).await);
    let transfer = &offer["transfer"];
    let (own, key) = (transfer["id"].as_str().unwrap(), transfer["auth_key"].as_str().unwrap());
    assert_eq!(s.status(&id).await, "awaiting-transfer");
    let shown = expect(200, s.member("GET", &format!("/os-volume-transfer/{own}"), Value::Null).await);
    assert!(shown["transfer"].get("auth_key").is_none(), "it is shown once");
    expect(404, s.send(OTHER, "GET", &format!("/os-volume-transfer/{own}"), Value::Null).await);
    expect(400, s.member("POST", "/volume-transfers", json!({ "transfer": { "volume_id": id } })).await);
    let accept = format!("/volume-transfers/{own}/accept");
    let with = |key: &str| json!({ "accept": { "auth_key": key } });
    assert!(refusal(400, s.send(OTHER, "POST", &accept, with("wrong")).await).contains("invalid auth key"));
    expect(200, s.admin("PUT", "/os-quota-sets/q", json!({ "quota_set": { "gigabytes": 3 } })).await);
    expect(413, s.send(OTHER, "POST", &accept, with(key)).await);
    assert_eq!(s.document(&id).meta.project, Some(Id::new("p")), "a refused one changes nothing");
    expect(200, s.admin("PUT", "/os-quota-sets/q", json!({ "quota_set": { "gigabytes": 4 } })).await);
    expect(403, s.send("q/eve/reader", "POST", &accept, with(key)).await);
    expect(202, s.send(OTHER, "POST", &accept, with(key)).await);
    let volume = s.document(&id);
    assert_eq!((volume.meta.project.as_ref(), volume.spec.user.as_str()), (Some(&Id::new("q")), "bob"));
    assert_eq!(s.cloud.store.view().all::<Snapshot>().next().unwrap().meta.project, Some(Id::new("q")));
    expect(404, s.send(OTHER, "POST", &accept, with(key)).await);
}

#[tokio::test]
async fn pages_go_on_as_they_began() {
    let s = Setup::new().await;
    for _ in 0..2 {
        let id = s.volume(json!({})).await;
        expect(202, s.member("POST", "/volume-transfers", json!({ "transfer": { "volume_id": id } })).await);
    }
    let page = expect(200, s.member("GET", "/volume-transfers/detail?limit=1", Value::Null).await);
    let next = page["transfers_links"][0]["href"].as_str().unwrap();
    assert!(next.contains("/os-volume-transfer/detail?"), "{next}");
    let path = next.split_once("/v3/p").unwrap().1;
    let second = expect(200, s.member("GET", path, Value::Null).await);
    assert_eq!(second["transfers"].as_array().unwrap().len(), 1);
    assert_ne!(second["transfers"][0]["id"], page["transfers"][0]["id"]);
    assert!(second["transfers"][0]["created_at"].is_string(), "{second}");
}

#[tokio::test]
async fn an_offer_is_taken_back() {
    let mut s = Setup::new().await;
    let id = s.volume(json!({})).await;
    let offer = expect(202, s.member("POST", "/os-volume-transfer", json!({ "transfer": { "volume_id": id } })).await);
    let path = format!("/os-volume-transfer/{}", offer["transfer"]["id"].as_str().unwrap());
    expect(404, s.send(OTHER, "DELETE", &path, Value::Null).await);
    expect(202, s.member("DELETE", &path, Value::Null).await);
    assert_eq!(s.status(&id).await, "available");
    s.minor = 54;
    let wish = json!({ "transfer": { "volume_id": id, "no_snapshots": true } });
    expect(400, s.member("POST", "/os-volume-transfer", wish).await);
}
