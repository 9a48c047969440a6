use serde_json::{Value, json};

use super::*;

async fn made(s: &Setup, body: Value) -> String {
    let made = expect(200, s.admin("POST", "/types", json!({ "volume_type": body })).await);
    made["volume_type"]["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn types_are_made_by_operators_and_hidden_from_others() {
    let s = Setup::new().await;
    expect(403, s.member("POST", "/types", json!({ "volume_type": { "name": "x" } })).await);
    let gold = made(&s, json!({ "name": "gold", "extra_specs": { "media": "ssd", "multiattach": "<is> True" } })).await;
    let said = refusal(409, s.admin("POST", "/types", json!({ "volume_type": { "name": "gold" } })).await);
    assert_eq!(said, "Volume Type gold already exists.");
    let shown = expect(200, s.member("GET", &format!("/types/{gold}"), Value::Null).await)["volume_type"].take();
    assert_eq!(shown["extra_specs"], json!({ "multiattach": "<is> True" }), "what pools must have is not for everybody");
    assert_eq!(expect(200, s.admin("GET", &format!("/types/{gold}"), Value::Null).await)["volume_type"]["extra_specs"]["media"], "ssd");
    let own = made(&s, json!({ "name": "own", "os-volume-type-access:is_public": false })).await;
    expect(404, s.member("GET", &format!("/types/{own}"), Value::Null).await);
    let add = json!({ "addProjectAccess": { "project": "p" } });
    expect(202, s.admin("POST", &format!("/types/{own}/action"), add.clone()).await);
    expect(409, s.admin("POST", &format!("/types/{own}/action"), add).await);
    expect(200, s.member("GET", &format!("/types/{own}"), Value::Null).await);
    expect(404, s.send(OTHER, "GET", &format!("/types/{own}"), Value::Null).await);
    s.volume(json!({ "volume_type": "own" })).await;
    assert_eq!(refusal(400, s.admin("DELETE", &format!("/types/{own}"), Value::Null).await), "Target volume type is still in use.");
    expect(202, s.admin("DELETE", &format!("/types/{gold}"), Value::Null).await);
    expect(404, s.admin("GET", &format!("/types/{gold}"), Value::Null).await);
}

#[tokio::test]
async fn extra_specs_have_a_path_of_their_own() {
    let s = Setup::new().await;
    let path = format!("/types/{}/extra_specs", made(&s, json!({ "name": "gold" })).await);
    expect(200, s.admin("POST", &path, json!({ "extra_specs": { "a": "1" } })).await);
    expect(200, s.admin("PUT", &format!("{path}/a"), json!({ "a": "2" })).await);
    assert_eq!(expect(200, s.admin("GET", &format!("{path}/a"), Value::Null).await), json!({ "a": "2" }));
    expect(400, s.admin("PUT", &format!("{path}/a"), json!({ "b": "2" })).await);
    expect(400, s.admin("PUT", &format!("{path}/a"), json!({ "a": "2", "b": "2" })).await);
    expect(400, s.admin("POST", &path, json!({ "extra_specs": { "multiattach": "yes" } })).await);
    expect(403, s.member("GET", &path, Value::Null).await);
    expect(202, s.admin("DELETE", &format!("{path}/a"), Value::Null).await);
    expect(404, s.admin("DELETE", &format!("{path}/a"), Value::Null).await);
}

#[tokio::test]
async fn a_type_that_is_used_keeps_its_encryption() {
    let s = Setup::new().await;
    let id = made(&s, json!({ "name": "secret" })).await;
    let path = format!("/types/{id}/encryption");
    assert_eq!(expect(200, s.admin("GET", &path, Value::Null).await), json!({}));
    let wish =
        json!({ "encryption": { "provider": "luks", "cipher": "aes-xts-plain64", "key_size": 256, "control_location": "front-end" } });
    let given = expect(200, s.admin("POST", &path, wish.clone()).await)["encryption"].take();
    expect(400, s.admin("POST", &path, wish).await);
    let own = format!("{path}/{}", given["encryption_id"].as_str().unwrap());
    s.volume(json!({ "volume_type": "secret" })).await;
    let said = refusal(400, s.admin("PUT", &own, json!({ "encryption": { "key_size": 512 } })).await);
    assert_eq!(said, "Cannot update encryption specs. Volume type in use.");
    expect(400, s.admin("DELETE", &own, Value::Null).await);
    expect(404, s.admin("DELETE", &format!("{path}/{}", super::id(77)), Value::Null).await);
}

#[tokio::test]
async fn a_project_may_have_a_default_type() {
    let s = Setup::new().await;
    let gold = made(&s, json!({ "name": "gold" })).await;
    let wish = json!({ "default_type": { "volume_type": "gold" } });
    expect(403, s.member("PUT", "/default-types/p", wish.clone()).await);
    let set = expect(200, s.admin("PUT", "/default-types/p", wish).await);
    assert_eq!(set, json!({ "default_type": { "project_id": "p", "volume_type_id": gold } }));
    assert_eq!(s.document(&s.volume(json!({})).await).spec.volume_type.as_str(), gold);
    assert_eq!(expect(200, s.member("GET", "/types/default", Value::Null).await)["volume_type"]["name"], "gold");
    expect(204, s.admin("DELETE", "/default-types/p", Value::Null).await);
    assert_eq!(expect(200, s.member("GET", "/types/default", Value::Null).await)["volume_type"]["name"], "standard");
}
