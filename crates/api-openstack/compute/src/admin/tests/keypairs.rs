use serde_json::{Value, json};

use super::{Setup, expect, keys, refusal};

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFBMQbQyO6Zr8ixy1W2mTUoWY0ZVpJNcIwLJB2NZYQYX ann@home";

fn import(name: &str) -> Value {
    json!({"keypair": {"name": name, "public_key": KEY}})
}

#[tokio::test]
async fn keys_are_imported_shown_listed_and_deleted() {
    let mut setup = Setup::new().await;
    let made = expect(200, setup.member("POST", "/os-keypairs", import("one")).await);
    keys(&made["keypair"], "name public_key fingerprint user_id");
    let shown = expect(200, setup.member("GET", "/os-keypairs/one", Value::Null).await);
    keys(&shown["keypair"], "name public_key fingerprint user_id deleted created_at updated_at deleted_at id");
    assert!(shown["keypair"]["id"].is_u64());
    let list = expect(200, setup.member("GET", "/os-keypairs", Value::Null).await);
    keys(&list["keypairs"][0]["keypair"], "name public_key fingerprint");
    let nothing = expect(200, setup.other("GET", "/os-keypairs", Value::Null).await);
    assert_eq!(nothing, json!({"keypairs": []}));

    assert_eq!(refusal(409, setup.member("POST", "/os-keypairs", import("one")).await), "Key pair 'one' already exists.");
    expect(200, setup.other("POST", "/os-keypairs", import("one")).await);
    expect(202, setup.member("DELETE", "/os-keypairs/one", Value::Null).await);
    assert_eq!(refusal(404, setup.member("DELETE", "/os-keypairs/one", Value::Null).await), "Keypair one not found for user ann");

    setup.speak(2);
    let made = expect(201, setup.member("POST", "/os-keypairs", import("two")).await);
    assert_eq!(made["keypair"]["type"], "ssh");
    expect(204, setup.member("DELETE", "/os-keypairs/two", Value::Null).await);
}

#[tokio::test]
async fn keys_are_made_until_2_91() {
    let mut setup = Setup::new().await.at(2);
    for kind in ["ssh", "x509"] {
        let made = expect(201, setup.member("POST", "/os-keypairs", json!({"keypair": {"name": kind, "type": kind}})).await);
        keys(&made["keypair"], "name public_key fingerprint user_id type private_key");
        assert!(made["keypair"]["private_key"].as_str().unwrap().starts_with("-----BEGIN"));
        let shown = expect(200, setup.member("GET", &format!("/os-keypairs/{kind}"), Value::Null).await);
        assert_eq!((&shown["keypair"]["type"], shown["keypair"].get("private_key")), (&json!(kind), None));
    }
    setup.speak(92);
    refusal(400, setup.member("POST", "/os-keypairs", json!({"keypair": {"name": "new"}})).await);
    let dotted = json!({"keypair": {"name": "ann@home.x", "public_key": KEY}});
    expect(201, setup.member("POST", "/os-keypairs", dotted.clone()).await);
    setup.speak(91);
    refusal(400, setup.member("POST", "/os-keypairs", dotted).await);
}

#[tokio::test]
async fn odd_keys_are_refused() {
    let setup = Setup::new().await;
    let bodies = [
        json!({"keypair": {"name": "k", "public_key": "ssh-rsa JUNK nova@ubuntu"}}),
        json!({"keypair": {"name": "k", "public_key": " "}}),
        json!({"keypair": {"name": "", "public_key": KEY}}),
        json!({"keypair": {"name": "k".repeat(256), "public_key": KEY}}),
        json!({"keypair": {"name": "key_/.\\@:", "public_key": KEY}}),
        json!({"keypair": {"name": "k", "type": "ssh"}}),
        json!({"keypair": {"public_key": KEY}}),
        json!({"name": "k"}),
    ];
    for body in bodies {
        refusal(400, setup.member("POST", "/os-keypairs", body).await);
    }
}

#[tokio::test]
async fn administrators_manage_the_keys_of_others_from_2_10_on() {
    let setup = Setup::new().await.at(10);
    let body = json!({"keypair": {"name": "k", "public_key": KEY, "user_id": "ann"}});
    let rule = "Policy doesn't allow os_compute_api:os-keypairs:create to be performed.";
    assert_eq!(refusal(403, setup.other("POST", "/os-keypairs", body.clone()).await), rule);
    let made = expect(201, setup.admin("POST", "/os-keypairs", body).await);
    assert_eq!(made["keypair"]["user_id"], "ann");
    expect(200, setup.member("GET", "/os-keypairs/k", Value::Null).await);
    refusal(404, setup.admin("GET", "/os-keypairs/k", Value::Null).await);
    for (method, path) in
        [("GET", "/os-keypairs?user_id=ann"), ("GET", "/os-keypairs/k?user_id=ann"), ("DELETE", "/os-keypairs/k?user_id=ann")]
    {
        refusal(403, setup.other(method, path, Value::Null).await);
        assert!(setup.admin(method, path, Value::Null).await.status < 300);
    }
}

#[tokio::test]
async fn lists_have_pages_from_2_35_on() {
    let mut setup = Setup::new().await.at(34);
    for name in ["a", "b", "c"] {
        expect(201, setup.member("POST", "/os-keypairs", import(name)).await);
    }
    let all = expect(200, setup.member("GET", "/os-keypairs?limit=1", Value::Null).await);
    assert_eq!(all["keypairs"].as_array().unwrap().len(), 3);
    setup.speak(35);
    let page = expect(200, setup.member("GET", "/os-keypairs?limit=1&marker=a", Value::Null).await);
    assert_eq!(page["keypairs"][0]["keypair"]["name"], "b");
    assert!(page["keypairs_links"][0]["href"].as_str().unwrap().ends_with("/os-keypairs?limit=1&marker=b"));
    refusal(400, setup.member("GET", "/os-keypairs?marker=z", Value::Null).await);
}

#[tokio::test]
async fn a_user_has_so_many_keys() {
    let setup = Setup::new().await;
    let quota = json!({"meta": {"id": "compute/p"}, "limits": {"key_pairs": 1}});
    let quota: unkai_model::quota::Quota = serde_json::from_value(quota).unwrap();
    setup.cloud.store.transact(move |tx| tx.insert(quota.clone())).await.unwrap();
    expect(200, setup.member("POST", "/os-keypairs", import("one")).await);
    let text = refusal(403, setup.member("POST", "/os-keypairs", import("two")).await);
    assert_eq!(text, "Quota exceeded, too many key pairs.");
}
