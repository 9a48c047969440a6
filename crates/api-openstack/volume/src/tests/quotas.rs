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
