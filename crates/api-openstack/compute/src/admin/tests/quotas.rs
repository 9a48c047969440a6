use serde_json::{Value, json};

use super::{Setup, expect, keys, refusal};

const ALWAYS: &str = "instances cores ram metadata_items key_pairs server_groups server_group_members";
const NETWORK: &str = "fixed_ips floating_ips security_groups security_group_rules";
const INJECTED: &str = "injected_files injected_file_content_bytes injected_file_path_bytes";

#[tokio::test]
async fn sets_show_what_the_version_limits() {
    let mut setup = Setup::new().await;
    let shown = expect(200, setup.member("GET", "/os-quota-sets/p", Value::Null).await)["quota_set"].clone();
    keys(&shown, &format!("id {ALWAYS} {NETWORK} {INJECTED}"));
    assert_eq!((&shown["instances"], &shown["cores"], &shown["ram"]), (&json!(10), &json!(20), &json!(51200)));
    let defaults = expect(200, setup.other("GET", "/os-quota-sets/p/defaults", Value::Null).await);
    assert_eq!(defaults["quota_set"], shown);
    setup.speak(36);
    keys(&expect(200, setup.member("GET", "/os-quota-sets/p", Value::Null).await)["quota_set"], &format!("id {ALWAYS} {INJECTED}"));
    setup.speak(57);
    keys(&expect(200, setup.member("GET", "/os-quota-sets/p", Value::Null).await)["quota_set"], &format!("id {ALWAYS}"));
    refusal(403, setup.other("GET", "/os-quota-sets/p", Value::Null).await);
    let text = refusal(400, setup.admin("GET", "/os-quota-sets/nobody", Value::Null).await);
    assert_eq!(text, "Project ID nobody is not a valid project.");
}

#[tokio::test]
async fn sets_are_changed_and_reset_by_administrators() {
    let setup = Setup::new().await;
    setup.server(1, None, None).await;
    let put = async |body: Value| setup.admin("PUT", "/os-quota-sets/p", json!({ "quota_set": body })).await;
    let changed = expect(200, put(json!({"cores": "5", "ram": -1})).await)["quota_set"].clone();
    keys(&changed, &format!("{ALWAYS} {NETWORK} {INJECTED}"));
    assert_eq!((&changed["cores"], &changed["ram"], &changed["instances"]), (&json!(5), &json!(-1), &json!(10)));
    let text = refusal(400, put(json!({"cores": 1})).await);
    assert_eq!(text, "Quota limit 1 for cores must be greater than or equal to already used and reserved 2.");
    assert_eq!(expect(200, put(json!({"cores": 1, "force": true})).await)["quota_set"]["cores"], 1);
    let detail = expect(200, setup.member("GET", "/os-quota-sets/p/detail", Value::Null).await);
    assert_eq!(detail["quota_set"]["cores"], json!({"limit": 1, "in_use": 2, "reserved": 0}));
    for body in [json!({"cores": -2}), json!({"cores": "many"}), json!({"odd": 1}), json!({"cores": 0x8000_0000_u64})] {
        refusal(400, put(body).await);
    }
    refusal(403, setup.member("PUT", "/os-quota-sets/p", json!({"quota_set": {"cores": 5}})).await);
    refusal(403, setup.member("DELETE", "/os-quota-sets/p", Value::Null).await);
    expect(202, setup.admin("DELETE", "/os-quota-sets/p", Value::Null).await);
    assert_eq!(expect(200, setup.member("GET", "/os-quota-sets/p", Value::Null).await)["quota_set"]["cores"], 20);
}

#[tokio::test]
async fn users_have_limits_within_those_of_their_project() {
    let setup = Setup::new().await;
    let put = async |limit: i64| setup.admin("PUT", "/os-quota-sets/p?user_id=ann", json!({"quota_set": {"key_pairs": limit}})).await;
    assert_eq!(refusal(400, put(101).await), "Quota limit 101 for key_pairs must be less than or equal to 100.");
    assert_eq!(expect(200, put(0).await)["quota_set"]["key_pairs"], 0);
    let shown = async |query: &str| {
        let answer = setup.member("GET", &format!("/os-quota-sets/p{query}"), Value::Null).await;
        expect(200, answer)["quota_set"]["key_pairs"].clone()
    };
    assert_eq!((shown("").await, shown("?user_id=ann").await, shown("?user_id=eve").await), (json!(100), json!(0), json!(100)));
    let key = json!({"keypair": {"name": "k"}});
    assert_eq!(refusal(403, setup.member("POST", "/os-keypairs", key).await), "Quota exceeded, too many key pairs.");
    expect(202, setup.admin("DELETE", "/os-quota-sets/p?user_id=ann", Value::Null).await);
    assert_eq!(shown("?user_id=ann").await, json!(100));
}

#[tokio::test]
async fn the_default_class_is_what_everybody_has() {
    let mut setup = Setup::new().await;
    let body = json!({"quota_class_set": {"instances": 7}});
    refusal(403, setup.member("PUT", "/os-quota-class-sets/default", body.clone()).await);
    let changed = expect(200, setup.admin("PUT", "/os-quota-class-sets/default", body).await);
    keys(&changed["quota_class_set"], &format!("instances cores ram metadata_items key_pairs {NETWORK} {INJECTED}"));
    for path in ["/os-quota-sets/p", "/os-quota-sets/p/defaults"] {
        assert_eq!(expect(200, setup.member("GET", path, Value::Null).await)["quota_set"]["instances"], 7);
    }
    setup.speak(57);
    let shown = expect(200, setup.admin("GET", "/os-quota-class-sets/default", Value::Null).await);
    keys(&shown["quota_class_set"], &format!("id {ALWAYS}"));
}

#[tokio::test]
async fn limits_are_quotas_and_use() {
    let mut setup = Setup::new().await;
    setup.server(1, None, None).await;
    let shown = expect(200, setup.member("GET", "/limits", Value::Null).await)["limits"].clone();
    assert_eq!(shown["rate"], json!([]));
    let base = "maxTotalInstances maxTotalCores maxTotalRAMSize maxServerMeta maxTotalKeypairs maxServerGroups maxServerGroupMembers \
                totalInstancesUsed totalCoresUsed totalRAMUsed totalServerGroupsUsed";
    let network = "maxTotalFloatingIps maxSecurityGroups maxSecurityGroupRules totalFloatingIpsUsed totalSecurityGroupsUsed";
    keys(&shown["absolute"], &format!("{base} {network} maxImageMeta maxPersonality maxPersonalitySize"));
    assert_eq!((&shown["absolute"]["totalCoresUsed"], &shown["absolute"]["totalRAMUsed"]), (&json!(2), &json!(512)));
    for (minor, more) in [(36, "maxImageMeta maxPersonality maxPersonalitySize"), (39, "maxPersonality maxPersonalitySize"), (57, "")] {
        setup.speak(minor);
        let shown = expect(200, setup.member("GET", "/limits", Value::Null).await);
        keys(&shown["limits"]["absolute"], &format!("{base} {more}"));
    }
    refusal(403, setup.other("GET", "/limits?tenant_id=p", Value::Null).await);
    expect(200, setup.admin("GET", "/limits?tenant_id=p&reserved=1", Value::Null).await);
}
