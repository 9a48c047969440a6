//! Bootstrap, log-in, tokens and what ends them.

use serde_json::{Value, json};
use unkai_identity::bootstrap;

use crate::harness::{Harness, PASSWORD, options};

#[tokio::test]
async fn a_login_tells_who_where_and_what() {
    let h = Harness::new().await;
    let answer = h.login("admin", PASSWORD, json!({"project": {"name": "admin", "domain": {"name": "Default"}}})).await;
    assert_eq!(answer.status, 201);
    let text = answer.headers["x-subject-token"].to_str().unwrap();
    assert!(text.len() <= 255);
    let token = &answer.body["token"];
    assert_eq!(token["user"]["name"], "admin");
    assert_eq!(token["project"]["domain"]["id"], "default");
    assert_eq!(token["methods"], json!(["password"]));
    let mut roles: Vec<&str> = token["roles"].as_array().unwrap().iter().map(|role| role["name"].as_str().unwrap()).collect();
    roles.sort_unstable();
    assert_eq!(roles, ["admin", "manager", "member", "reader"], "implied roles are there");
    let compute = token["catalog"].as_array().unwrap().iter().find(|service| service["type"] == "compute").unwrap();
    assert_eq!(compute["endpoints"].as_array().unwrap().len(), 3);
    assert_eq!(compute["endpoints"][0]["url"], "https://cloud.test:8774/compute/v2.1");
    let validated = h.validate(text).await;
    assert_eq!((validated.status, &validated.body), (200, &answer.body), "validation repeats the login");
}

#[tokio::test]
async fn scopes_are_as_asked() {
    let h = Harness::new().await;
    for (scope, field) in [(json!("unscoped"), None), (json!({"system": {"all": true}}), Some("system")), (Value::Null, None)] {
        let token = h.login("admin", PASSWORD, scope.clone()).await.body["token"].clone();
        assert!(token.get("project").is_none() && token.get("domain").is_none(), "{token}");
        assert_eq!(token.get("system").is_some(), field.is_some());
        assert_eq!(token.get("catalog").is_some(), field.is_some(), "an unscoped token has no catalog");
    }
    let nowhere = h.login("admin", PASSWORD, json!({"domain": {"id": "default"}})).await;
    assert_eq!(nowhere.status, 401, "the administrator has no role on the domain");
}

#[tokio::test]
async fn wrong_proofs_all_look_the_same() {
    let h = Harness::new().await;
    let expected =
        json!({"error": {"code": 401, "message": "The request you have made requires authentication.", "title": "Unauthorized"}});
    let project = json!({"project": {"id": h.admin_project}});
    for answer in [
        h.login("admin", "wrong", project.clone()).await,
        h.login("nobody", PASSWORD, project).await,
        h.login("admin", PASSWORD, json!({"project": {"id": "none"}})).await,
        h.login("admin", PASSWORD, json!({"project": {"name": "admin", "domain": {"name": "none"}}})).await,
    ] {
        assert_eq!((answer.status, &answer.body), (401, &expected));
    }
}

#[tokio::test]
async fn malformed_logins_are_bad_requests() {
    let h = Harness::new().await;
    for body in [
        json!({}),
        json!({"auth": {}}),
        json!({"auth": {"identity": {"methods": "password"}}}),
        json!({"auth": {"identity": {"methods": ["password"]}}}),
        json!({"auth": {"identity": {"methods": ["password"], "password": {}}}}),
        json!({"auth": {"identity": {"methods": ["password"], "password": {"user": {"password": "x"}}}}}),
        json!({"auth": {"identity": {"methods": ["password"], "password": {"user": {"name": "x", "password": "x"}}}}}),
        json!({"auth": {"identity": {"methods": ["token"], "token": {"id": "x"}}, "scope": {"project": {}}}}),
        json!({"auth": {"identity": {"methods": ["token"], "token": {"id": "x"}}, "scope": {}}}),
    ] {
        let answer = h.admin.call("POST", "/identity/v3/auth/tokens", body.clone()).await;
        assert_eq!(answer.status, 400, "{body} {:?}", answer.body);
    }
}

#[tokio::test]
async fn a_token_makes_a_token_of_the_same_chain_and_life() {
    let h = Harness::new().await;
    let first = h.login("admin", PASSWORD, json!("unscoped")).await;
    let text = first.headers["x-subject-token"].to_str().unwrap();
    let second = h.exchange(text, json!({"project": {"id": h.admin_project}})).await;
    assert_eq!(second.status, 201);
    assert_eq!(second.body["token"]["expires_at"], first.body["token"]["expires_at"]);
    assert_eq!(second.body["token"]["audit_ids"][1], first.body["token"]["audit_ids"][0]);
    assert_eq!(second.body["token"]["methods"], json!(["password", "token"]));
    assert_eq!(h.exchange("rubbish", Value::Null).await.status, 404);
    let system = h.token("admin", PASSWORD, json!({"system": {"all": true}})).await;
    assert_eq!(h.exchange(&system, json!({"project": {"id": h.admin_project}})).await.status, 403);
}

#[tokio::test]
async fn a_revoked_token_is_gone_at_once() {
    let h = Harness::new().await;
    let token = h.token("admin", PASSWORD, Value::Null).await;
    assert_eq!(h.validate(&token).await.status, 200);
    let subject = [("x-subject-token", token.as_str())];
    let own = h.client(&token);
    assert_eq!(own.send("HEAD", "/identity/v3/auth/tokens", &subject, vec![]).await.status, 200);
    assert_eq!(own.send("DELETE", "/identity/v3/auth/tokens", &subject, vec![]).await.status, 204);
    assert_eq!(h.validate(&token).await.status, 404);
    assert_eq!(own.get("/identity/v3/auth/projects").await.status, 401);
    assert_eq!(h.validate(&h.admin_token).await.status, 200, "only that one");
}

#[tokio::test]
async fn tokens_outlive_a_rotation_of_keys() {
    let h = Harness::new().await;
    h.identity.rotate_keys().await.unwrap();
    assert_eq!(h.validate(&h.admin_token).await.status, 200);
    let newer = h.token("admin", PASSWORD, Value::Null).await;
    assert_eq!(h.validate(&newer).await.status, 200);
}

#[tokio::test]
async fn bootstrap_runs_again_without_harm() {
    let h = Harness::new().await;
    let revision = h.cloud.store.view().revision();
    let again = bootstrap(&h.cloud.store, options(&h.cloud)).await.unwrap();
    assert_eq!(again.admin_password, None);
    assert_eq!(h.cloud.store.view().revision(), revision, "nothing to write");
    let mut moved = options(&h.cloud);
    moved.url = "https://elsewhere:1".into();
    bootstrap(&h.cloud.store, moved).await.unwrap();
    let catalog = h.admin.get("/identity/v3/auth/catalog").await.body["catalog"].clone();
    let urls: Vec<&str> =
        catalog.as_array().unwrap().iter().flat_map(|s| s["endpoints"].as_array().unwrap()).map(|e| e["url"].as_str().unwrap()).collect();
    assert_eq!(urls.len(), 18);
    assert!(urls.iter().all(|url| url.starts_with("https://elsewhere:1/")), "{urls:?}");
}

#[tokio::test]
async fn version_documents_need_no_token() {
    let h = Harness::new().await;
    let stranger = h.client("");
    let root = stranger.get("/identity").await;
    assert_eq!(root.status, 300);
    assert_eq!(root.body["versions"]["values"][0]["links"][0]["href"], "https://cloud.test:8774/identity/v3/");
    assert_eq!(stranger.get("/identity/v3").await.body["version"]["id"], "v3.14");
    assert_eq!(h.admin.get("/identity/v3/nothing").await.status, 404);
    assert_eq!(h.admin.call("PUT", "/identity/v3", Value::Null).await.status, 405);
}
