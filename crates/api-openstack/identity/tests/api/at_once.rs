//! Whatever an administrator takes away is gone with the next request, also for tokens that were remembered as good.

use serde_json::{Value, json};

use crate::harness::{Harness, Somebody, on_project};

/// Somebody whose token was just used, so that it is remembered.
async fn warm(h: &Harness, name: &str) -> Somebody {
    let somebody = h.somebody(name, "member").await;
    assert_eq!(h.validate(&somebody.token).await.status, 200);
    somebody
}

async fn ended(h: &Harness, somebody: &Somebody, what: &str) {
    assert_eq!(h.validate(&somebody.token).await.status, 404, "{what}");
    assert_eq!(somebody.client.get("/identity/v3/auth/projects").await.status, 401, "{what}");
}

#[tokio::test]
async fn a_disabled_user_is_out_and_its_tokens_stay_out() {
    let h = Harness::new().await;
    let ann = warm(&h, "ann").await;
    let path = format!("users/{}", ann.user);
    h.done("PATCH", &path, json!({"user": {"enabled": false}})).await;
    ended(&h, &ann, "disabled").await;
    assert_eq!(h.login("ann", "ann", Value::Null).await.status, 401);
    h.done("PATCH", &path, json!({"user": {"enabled": true}})).await;
    ended(&h, &ann, "enabled again").await;
    assert_eq!(h.login("ann", "ann", Value::Null).await.status, 201);
}

#[tokio::test]
async fn a_deleted_user_is_out_with_all_that_was_its() {
    let h = Harness::new().await;
    let ann = warm(&h, "ann").await;
    h.done("DELETE", &format!("users/{}", ann.user), Value::Null).await;
    ended(&h, &ann, "deleted").await;
    let left = h.done("GET", &format!("role_assignments?user.id={}", ann.user), Value::Null).await;
    assert_eq!(left.body["role_assignments"], json!([]));
}

#[tokio::test]
async fn a_new_password_ends_old_tokens() {
    let h = Harness::new().await;
    let (ann, bob) = (warm(&h, "ann").await, warm(&h, "bob").await);
    h.done("PATCH", &format!("users/{}", ann.user), json!({"user": {"password": "new"}})).await;
    ended(&h, &ann, "reset by the administrator").await;
    assert_eq!(h.login("ann", "ann", Value::Null).await.status, 401);
    assert_eq!(h.login("ann", "new", Value::Null).await.status, 201);
    let path = format!("/identity/v3/users/{}/password", bob.user);
    let change = |old: &str| json!({"user": {"original_password": old, "password": "new"}});
    assert_eq!(h.client("").call("POST", &path, change("wrong")).await.status, 401);
    assert_eq!(h.validate(&bob.token).await.status, 200);
    assert_eq!(h.client("").call("POST", &path, change("bob")).await.status, 204, "the old password is the proof");
    ended(&h, &bob, "changed by the user").await;
    let unknown = h.client("").call("POST", "/identity/v3/users/nobody/password", change("x")).await;
    assert_eq!(unknown.status, 401);
}

#[tokio::test]
async fn a_locked_password_stays() {
    let h = Harness::new().await;
    let ann = warm(&h, "ann").await;
    h.done("PATCH", &format!("users/{}", ann.user), json!({"user": {"options": {"lock_password": true}}})).await;
    let body = json!({"user": {"original_password": "ann", "password": "new"}});
    assert_eq!(ann.client.call("POST", &format!("/identity/v3/users/{}/password", ann.user), body).await.status, 400);
}

#[tokio::test]
async fn a_disabled_project_is_closed() {
    let h = Harness::new().await;
    let ann = warm(&h, "ann").await;
    h.done("PATCH", &format!("projects/{}", ann.project), json!({"project": {"enabled": false}})).await;
    ended(&h, &ann, "disabled").await;
    assert_eq!(h.login("ann", "ann", on_project(&ann.project)).await.status, 401);
    h.done("PATCH", &format!("projects/{}", ann.project), json!({"project": {"enabled": true}})).await;
    ended(&h, &ann, "enabled again").await;
    assert_eq!(h.login("ann", "ann", on_project(&ann.project)).await.status, 201);
}

#[tokio::test]
async fn a_disabled_domain_closes_all_in_it() {
    let h = Harness::new().await;
    let domain = h.make("domains", "domain", json!({"name": "d"})).await;
    let user = h.make("users", "user", json!({"name": "ann", "password": "x", "domain_id": domain})).await;
    let project = h.make("projects", "project", json!({"name": "p", "domain_id": domain})).await;
    h.grant(&format!("projects/{project}"), &format!("users/{user}"), "member").await;
    let body = json!({"auth": {"identity": {"methods": ["password"], "password": {"user": {"id": user, "password": "x"}}}, "scope": on_project(&project)}});
    let answer = h.admin.call("POST", "/identity/v3/auth/tokens", body.clone()).await;
    assert_eq!(answer.status, 201, "{:?}", answer.body);
    let token = crate::harness::subject(&answer);
    assert_eq!(h.validate(&token).await.status, 200);
    assert_eq!(h.admin.call("DELETE", &format!("/identity/v3/domains/{domain}"), Value::Null).await.status, 403, "it is enabled");
    h.done("PATCH", &format!("domains/{domain}"), json!({"domain": {"enabled": false}})).await;
    assert_eq!(h.validate(&token).await.status, 404);
    assert_eq!(h.admin.call("POST", "/identity/v3/auth/tokens", body).await.status, 401);
    h.done("DELETE", &format!("domains/{domain}"), Value::Null).await;
    assert_eq!(h.admin.get(&format!("/identity/v3/users/{user}")).await.status, 404);
    assert_eq!(h.admin.get(&format!("/identity/v3/projects/{project}")).await.status, 404);
}

#[tokio::test]
async fn a_role_taken_away_is_gone() {
    let h = Harness::new().await;
    let ann = warm(&h, "ann").await;
    h.grant(&format!("projects/{}", ann.project), &format!("users/{}", ann.user), "reader").await;
    let member = h.role("member").await;
    let names = |answer: &unkai_openstack::testing::Answer| answer.body["token"]["roles"].as_array().unwrap().len();
    assert_eq!(names(&h.validate(&ann.token).await), 2);
    h.done("DELETE", &format!("projects/{}/users/{}/roles/{member}", ann.project, ann.user), Value::Null).await;
    assert_eq!(names(&h.validate(&ann.token).await), 1, "the token itself is still good for what is left");
    let reader = h.role("reader").await;
    h.done("DELETE", &format!("projects/{}/users/{}/roles/{reader}", ann.project, ann.user), Value::Null).await;
    ended(&h, &ann, "no role is left").await;
}

#[tokio::test]
async fn leaving_a_group_is_losing_its_roles() {
    let h = Harness::new().await;
    let user = h.user("ann").await;
    let group = h.make("groups", "group", json!({"name": "g"})).await;
    let project = h.make("projects", "project", json!({"name": "p"})).await;
    h.grant(&format!("projects/{project}"), &format!("groups/{group}"), "member").await;
    assert_eq!(h.login("ann", "ann", on_project(&project)).await.status, 401);
    h.done("PUT", &format!("groups/{group}/users/{user}"), Value::Null).await;
    let token = h.token("ann", "ann", on_project(&project)).await;
    assert_eq!(h.validate(&token).await.status, 200);
    h.done("DELETE", &format!("groups/{group}/users/{user}"), Value::Null).await;
    assert_eq!(h.validate(&token).await.status, 404);
}

#[tokio::test]
async fn a_token_ends_with_its_time_and_may_be_asked_about_a_while_longer() {
    let h = Harness::new().await;
    let view = h.cloud.store.view();
    let now = jiff::Timestamp::now();
    let later = now + jiff::SignedDuration::from_mins(61);
    assert!(h.is_good(&view, &h.admin_token, now));
    assert!(!h.is_good(&view, &h.admin_token, later), "an hour is over, also for a remembered token");
    let window = jiff::SignedDuration::from_hours(48);
    assert!(h.identity.session(&view, &h.admin_token, later, window).is_ok());
    assert!(h.identity.session(&view, &h.admin_token, now + jiff::SignedDuration::from_hours(50), window).is_err());
}

#[tokio::test]
async fn tampered_tokens_are_refused() {
    let h = Harness::new().await;
    for at in [0, 5, 30, h.admin_token.len() - 1] {
        let mut bytes = h.admin_token.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let token = String::from_utf8(bytes).unwrap();
        assert_eq!(h.client(&token).get("/identity/v3/auth/projects").await.status, 401, "{at}");
    }
    for token in ["", "x", &"A".repeat(256), &"A".repeat(100_000)] {
        assert_eq!(h.client(token).get("/identity/v3/auth/projects").await.status, 401);
    }
}
