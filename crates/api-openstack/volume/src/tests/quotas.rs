use serde_json::{Value, json};

use super::*;

#[tokio::test]
async fn more_than_the_quota_is_refused() {
    let s = Setup::new().await;
    let set = json!({ "quota_set": { "volumes": 2, "gigabytes": 5, "snapshots": 0, "per_volume_gigabytes": 4 } });
    assert_eq!(expect(200, s.admin("PUT", "/os-quota-sets/p", set).await)["quota_set"]["volumes"], 2);
    let wish = |size: u64| json!({ "volume": { "size": size } });
    let said = refusal(403, s.member("POST", "/volumes", wish(5)).await);
    assert_eq!(said, "Requested size 5 is larger than maximum allowed limit 4.");
    let id = s.volume(json!({ "size": 4 })).await;
    let said = refusal(413, s.member("POST", "/volumes", wish(2)).await);
    assert_eq!(said, "Requested volume or snapshot exceeds allowed gigabytes quota. Requested 2G, quota is 5G and 4G has been consumed.");
    refusal(400, s.action(&id, json!({ "os-extend": { "new_size": 6 } })).await);
    expect(202, s.member("POST", "/volumes", wish(1)).await);
    let said = refusal(413, s.member("POST", "/volumes", wish(1)).await);
    assert!(said.starts_with("Maximum number of volumes allowed (2)") || said.starts_with("Requested volume"), "{said}");
    let said = refusal(413, s.member("POST", "/snapshots", json!({ "snapshot": { "volume_id": id } })).await);
    assert!(said.contains("snapshot"), "{said}");
    let usage = expect(200, s.member("GET", "/os-quota-sets/p?usage=true", Value::Null).await);
    assert_eq!(usage["quota_set"]["gigabytes"], json!({ "limit": 5, "in_use": 5, "reserved": 0 }));
    let limits = expect(200, s.member("GET", "/limits", Value::Null).await)["limits"]["absolute"].take();
    assert_eq!((&limits["maxTotalVolumes"], &limits["totalVolumesUsed"], &limits["totalGigabytesUsed"]), (&json!(2), &json!(2), &json!(5)));
    expect(200, s.admin("DELETE", "/os-quota-sets/p", Value::Null).await);
    assert_eq!(expect(200, s.member("GET", "/os-quota-sets/p", Value::Null).await)["quota_set"]["volumes"], 10);
}

#[tokio::test]
async fn types_have_quotas_of_their_own() {
    let s = Setup::new().await;
    let set = json!({ "quota_set": { "volumes_standard": 1 } });
    expect(200, s.admin("PUT", "/os-quota-sets/p", set).await);
    s.volume(json!({})).await;
    let said = refusal(413, s.member("POST", "/volumes", json!({ "volume": { "size": 1 } })).await);
    assert!(said.starts_with("Maximum number of volumes allowed (1)"), "{said}");
    let shown = expect(200, s.member("GET", "/os-quota-sets/p?usage=true", Value::Null).await);
    assert_eq!(shown["quota_set"]["volumes_standard"]["in_use"], 1);
}

#[tokio::test]
async fn snapshots_count_against_the_quotas_of_their_type() {
    let s = Setup::new().await;
    let limit = |set: Value| s.admin("PUT", "/os-quota-sets/p", json!({ "quota_set": set }));
    let id = s.volume(json!({ "size": 2 })).await;
    let snapshot = || s.member("POST", "/snapshots", json!({ "snapshot": { "volume_id": id } }));
    expect(200, limit(json!({ "snapshots_standard": 1, "gigabytes_standard": 3 })).await);
    assert!(refusal(413, snapshot().await).contains("gigabytes"), "2 of the volume and 2 of the snapshot");
    expect(200, limit(json!({ "gigabytes_standard": -1 })).await);
    expect(202, snapshot().await);
    s.settle(&id).await;
    assert_eq!(refusal(413, snapshot().await), "Maximum number of snapshots allowed (1) exceeded");
    let used = |name: &'static str| {
        let s = &s;
        async move { expect(200, s.member("GET", "/os-quota-sets/p?usage=true", Value::Null).await)["quota_set"][name]["in_use"].take() }
    };
    assert_eq!((used("snapshots_standard").await, used("gigabytes_standard").await), (json!(1), json!(4)));
    expect(200, s.admin("POST", "/types", json!({ "volume_type": { "name": "other" } })).await);
    expect(200, limit(json!({ "snapshots_other": 0 })).await);
    let retype = json!({ "os-retype": { "new_type": "other" } });
    expect(413, s.action(&id, retype.clone()).await);
    expect(200, limit(json!({ "snapshots_other": 1 })).await);
    expect(202, s.action(&id, retype).await);
    assert_eq!((used("snapshots_standard").await, used("snapshots_other").await), (json!(0), json!(1)));
}

#[tokio::test]
async fn who_may_and_what_is_no_quota() {
    let s = Setup::new().await;
    expect(403, s.send(OTHER, "GET", "/os-quota-sets/p", Value::Null).await);
    expect(403, s.member("PUT", "/os-quota-sets/p", json!({ "quota_set": { "volumes": 9 } })).await);
    let said = refusal(400, s.admin("PUT", "/os-quota-sets/p", json!({ "quota_set": { "moons": 9 } })).await);
    assert_eq!(said, "Invalid input received: Bad key(s) in quota set: moons");
    expect(400, s.admin("PUT", "/os-quota-sets/p", json!({ "quota_set": { "volumes": -2 } })).await);
    expect(200, s.admin("PUT", "/os-quota-class-sets/default", json!({ "quota_class_set": { "volumes": 7 } })).await);
    assert_eq!(expect(200, s.member("GET", "/os-quota-sets/p", Value::Null).await)["quota_set"]["volumes"], 7);
    assert_eq!(expect(200, s.member("GET", "/os-quota-sets/p/defaults", Value::Null).await)["quota_set"]["volumes"], 7);
}
