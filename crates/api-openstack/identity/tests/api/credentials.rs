//! Application credentials, and secrets of other protocols.

use serde_json::{Value, json};
use unkai_model::identity::Credential;
use unkai_openstack::testing::Answer;

use crate::harness::{Harness, Somebody, id, ids, subject};

async fn make(who: &Somebody, body: Value) -> Answer {
    let path = format!("/identity/v3/users/{}/application_credentials", who.user);
    who.client.call("POST", &path, json!({"application_credential": body})).await
}

async fn login_with(h: &Harness, id: &str, secret: &str) -> Answer {
    let method = json!({"id": id, "secret": secret});
    let auth = json!({"identity": {"methods": ["application_credential"], "application_credential": method}});
    h.admin.call("POST", "/identity/v3/auth/tokens", json!({ "auth": auth })).await
}

fn secret(answer: &Answer) -> String {
    answer.body["application_credential"]["secret"].as_str().expect("the secret is shown once").to_owned()
}

#[tokio::test]
async fn a_program_gets_some_of_its_users_roles() {
    let h = Harness::new().await;
    let ann = h.somebody("ann", "member").await;
    let reader = h.role("reader").await;
    let made = make(&ann, json!({"name": "ci", "roles": [{"name": "reader"}]})).await;
    assert_eq!(made.status, 201, "{:?}", made.body);
    let answer = login_with(&h, &id(&made), &secret(&made)).await;
    assert_eq!(answer.status, 201, "{:?}", answer.body);
    let token = &answer.body["token"];
    assert_eq!(token["roles"], json!([{"id": reader, "name": "reader"}]));
    assert_eq!(token["project"]["id"], json!(ann.project));
    assert_eq!(token["application_credential"]["restricted"], true);
    assert_eq!(login_with(&h, &id(&made), "wrong").await.status, 401);
    let by_name = json!({"name": "ci", "secret": secret(&made), "user": {"name": ann.name, "domain": {"id": "default"}}});
    let auth = json!({"identity": {"methods": ["application_credential"], "application_credential": by_name}});
    assert_eq!(h.admin.call("POST", "/identity/v3/auth/tokens", json!({ "auth": auth })).await.status, 201);
    let text = subject(&answer);
    assert_eq!(h.exchange(&text, json!({"project": {"id": ann.project}})).await.status, 403, "no other scope");
    assert_eq!(h.exchange(&text, Value::Null).await.body["token"]["roles"], token["roles"], "and no more roles");
    let shown = ann.client.get(&format!("/identity/v3/users/{}/application_credentials/{}", ann.user, id(&made))).await;
    assert!(shown.body["application_credential"].get("secret").is_none());
    h.done("DELETE", &format!("projects/{}/users/{}/roles/{}", ann.project, ann.user, h.role("member").await), Value::Null).await;
    assert_eq!(h.validate(&text).await.status, 404, "the user's role is gone, and the credential with it");
    assert_eq!(login_with(&h, &id(&made), &secret(&made)).await.status, 401);
}

#[tokio::test]
async fn a_program_makes_no_successors_unless_told() {
    let h = Harness::new().await;
    let ann = h.somebody("ann", "member").await;
    for (unrestricted, status) in [(false, 403), (true, 201)] {
        let made = make(&ann, json!({"name": format!("a{unrestricted}"), "unrestricted": unrestricted})).await;
        let token = subject(&login_with(&h, &id(&made), &secret(&made)).await);
        let program = Somebody { client: h.client(&token), token, user: ann.user.clone(), name: String::new(), project: String::new() };
        assert_eq!(make(&program, json!({"name": format!("b{unrestricted}")})).await.status, status);
        let path = format!("/identity/v3/users/{}/application_credentials/{}", ann.user, id(&made));
        assert_eq!(program.client.call("DELETE", &path, Value::Null).await.status, if unrestricted { 204 } else { 403 });
    }
}

#[tokio::test]
async fn wrong_requests_for_credentials_are_refused() {
    let h = Harness::new().await;
    let ann = h.somebody("ann", "member").await;
    let bob = h.somebody("bob", "member").await;
    let admin = h.role("admin").await;
    for (body, status) in [
        (json!({}), 400),
        (json!({"name": "x", "roles": [{"id": admin}]}), 400),
        (json!({"name": "x", "roles": [{"id": "none"}]}), 404),
        (json!({"name": "x", "expires_at": "2001-01-01T00:00:00"}), 400),
        (json!({"name": "x", "expires_at": "soon"}), 400),
        (json!({"name": "x", "surprise": 1}), 400),
        (json!({"name": "x", "access_rules": [{"path": "x"}]}), 400),
    ] {
        let answer = make(&ann, body.clone()).await;
        assert_eq!(answer.status, status, "{body} {:?}", answer.body);
    }
    assert_eq!(make(&ann, json!({"name": "once"})).await.status, 201);
    assert_eq!(make(&ann, json!({"name": "once"})).await.status, 409);
    let for_ann =
        Somebody { user: ann.user.clone(), name: String::new(), token: String::new(), project: String::new(), client: bob.client.clone() };
    assert_eq!(make(&for_ann, json!({"name": "x"})).await.status, 403);
    let own = id(&make(&ann, json!({"name": "x"})).await);
    // Bob names himself in the path, but the credential is Ann's.
    for user in [&ann.user, &bob.user] {
        let path = format!("/identity/v3/users/{user}/application_credentials/{own}");
        assert_eq!(bob.client.get(&path).await.status, 403);
        assert_eq!(bob.client.call("DELETE", &path, Value::Null).await.status, 403);
    }
}

#[tokio::test]
async fn access_rules_limit_what_a_program_may_ask() {
    let h = Harness::new().await;
    let ann = h.somebody("ann", "member").await;
    let rules = json!([{"service": "identity", "method": "GET", "path": "/v3/auth/*"}, {"service": "compute", "method": "GET", "path": "/v2.1/**"}]);
    let made = make(&ann, json!({"name": "x", "access_rules": rules})).await;
    assert_eq!(made.status, 201, "{:?}", made.body);
    let token = subject(&login_with(&h, &id(&made), &secret(&made)).await);
    let program = h.client(&token);
    assert_eq!(program.get("/identity/v3/auth/projects").await.status, 200);
    assert_eq!(program.get("/identity/v3/regions").await.status, 401, "no rule allows it");
    let now = jiff::Timestamp::now();
    assert!(!h.is_good(&h.cloud.store.view(), &token, now), "a service without a name allows nothing");
    let listed = ann.client.get(&format!("/identity/v3/users/{}/access_rules", ann.user)).await;
    let known = ids(&listed, "access_rules");
    assert_eq!(known.len(), 2);
    let path = format!("/identity/v3/users/{}/access_rules/{}", ann.user, known[0]);
    assert_eq!(ann.client.call("DELETE", &path, Value::Null).await.status, 403, "in use");
    let own = format!("/identity/v3/users/{}/application_credentials/{}", ann.user, id(&made));
    assert_eq!(ann.client.call("DELETE", &own, Value::Null).await.status, 204);
    assert_eq!(ann.client.call("DELETE", &path, Value::Null).await.status, 204);
    assert_eq!(h.validate(&token).await.status, 404);
}

#[tokio::test]
async fn secrets_are_sealed_at_rest() {
    let h = Harness::new().await;
    let ann = h.somebody("ann", "member").await;
    let blob = json!({"access": "the-access", "secret": "the-secret"}).to_string();
    let body = json!({"credential": {"user_id": ann.user, "project_id": ann.project, "type": "ec2", "blob": blob}});
    let made = ann.client.call("POST", "/identity/v3/credentials", body.clone()).await;
    assert_eq!((made.status, &made.body["credential"]["blob"]), (201, &json!(blob)));
    assert_eq!(ann.client.call("POST", "/identity/v3/credentials", body).await.status, 409, "one access key, one pair");
    let stored = h.cloud.store.view().all::<Credential>().next().expect("it is stored");
    assert!(!serde_json::to_string(&*stored).unwrap().contains("the-secret"));
    let path = format!("/identity/v3/credentials/{}", id(&made));
    assert_eq!(ann.client.call("PATCH", &path, json!({"credential": {"user_id": h.admin_user}})).await.status, 400, "it stays whose it is");
    let bob = h.somebody("bob", "member").await;
    for method in ["GET", "DELETE"] {
        assert_eq!(bob.client.call(method, &path, Value::Null).await.status, 403);
    }
    assert_eq!(ids(&bob.client.get("/identity/v3/credentials").await, "credentials").len(), 0);
    let foreign = json!({"credential": {"user_id": ann.user, "type": "cert", "blob": "x"}});
    assert_eq!(bob.client.call("POST", "/identity/v3/credentials", foreign).await.status, 403);
}

#[tokio::test]
async fn ec2_pairs_have_routes_of_their_own() {
    let h = Harness::new().await;
    let ann = h.somebody("ann", "member").await;
    let path = format!("/identity/v3/users/{}/credentials/OS-EC2", ann.user);
    let made = ann.client.call("POST", &path, json!({"tenant_id": ann.project})).await;
    assert_eq!(made.status, 201, "{:?}", made.body);
    let access = made.body["credential"]["access"].as_str().unwrap();
    assert_eq!(ann.client.get(&format!("{path}/{access}")).await.body, made.body);
    assert_eq!(ann.client.get(&path).await.body["credentials"][0], made.body["credential"]);
    let elsewhere = ann.client.call("POST", &path, json!({"tenant_id": h.admin_project})).await;
    assert_eq!(elsewhere.status, 403, "no role there");
    let bob = h.somebody("bob", "member").await;
    assert_eq!(bob.client.get(&format!("{path}/{access}")).await.status, 403);
    assert_eq!(ann.client.call("DELETE", &format!("{path}/{access}"), Value::Null).await.status, 204);
    assert_eq!(ann.client.get(&format!("{path}/{access}")).await.status, 404);
}
