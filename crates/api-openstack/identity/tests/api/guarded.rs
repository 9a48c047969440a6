//! Every route is asked: by nobody, by a stranger's token, and by a reader of another project.

use http::Method;
use serde_json::{Value, json};
use unkai_openstack::Access;
use unkai_openstack::testing::Client;

use crate::harness::Harness;

/// What anybody with a token may do, because it is about themselves or about nobody.
const OPEN: &[(&str, &str)] = &[
    ("GET", "/v3/auth/projects"),
    ("GET", "/v3/auth/domains"),
    ("GET", "/v3/auth/system"),
    ("GET", "/v3/auth/catalog"),
    ("GET", "/v3/regions"),
    ("GET", "/v3/regions/{region_id}"),
    // Shows the domain of the token's project; lists the caller's own.
    ("GET", "/v3/domains/{domain_id}"),
    ("GET", "/v3/credentials"),
];

/// A path with the administrator's things in it.
fn fill(h: &Harness, path: &str) -> String {
    let id = |name: &str| match name {
        "user_id" => h.admin_user.clone(),
        "project_id" => h.admin_project.clone(),
        "domain_id" => "default".into(),
        "region_id" => "RegionOne".into(),
        "group" => "identity".into(),
        "option" => "driver".into(),
        _ => "0123456789abcdef0123456789abcdef".into(),
    };
    let part = |part: &str| part.strip_prefix('{').and_then(|p| p.strip_suffix('}')).map_or_else(|| part.to_owned(), id);
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}

/// A body that is well formed for every collection, so that a refusal is about the caller.
fn body(h: &Harness, method: &Method, path: &str) -> Value {
    if !matches!(*method, Method::POST | Method::PATCH | Method::PUT) {
        return Value::Null;
    }
    let endpoint = json!({"interface": "public", "service_id": "x", "url": "http://x", "name": "x", "filters": {}});
    let mut body = json!({
        "project": {"name": "x"}, "domain": {"name": "x"}, "user": {"name": "x"}, "group": {"name": "x"}, "role": {"name": "x"},
        "service": {"type": "x"}, "region": {}, "policy": {"blob": "x", "type": "x"}, "tags": ["x"],
        "endpoint": endpoint, "endpoint_group": endpoint, "config": {"identity": {"driver": "x"}},
        "application_credential": {"name": "x"}, "tenant_id": h.admin_project,
        "credential": {"user_id": h.admin_user, "type": "cert", "blob": "x"},
    });
    if path.ends_with("/{option}") {
        body["config"] = json!({"identity": {"driver": "x"}});
    }
    body
}

async fn ask(h: &Harness, client: &Client, method: &Method, path: &str) -> u16 {
    let subject = h.admin_token.as_str();
    let headers = [("content-type", "application/json"), ("x-subject-token", subject)];
    let body = serde_json::to_vec(&body(h, method, path)).expect("JSON encodes");
    client.send(method.as_str(), &fill(h, path), &headers, body).await.status
}

#[tokio::test]
async fn every_route_refuses_those_it_is_not_for() {
    let h = Harness::new().await;
    let routes: Vec<_> = h.routes().list().to_vec();
    let reader = h.somebody("reader", "reader").await;
    let member = h.somebody("member", "member").await;
    let (mut guarded, mut wrong) = (0, Vec::new());
    for route in routes.iter().filter(|route| route.access == Access::Token) {
        guarded += 1;
        let path = route.path.strip_prefix("/identity").unwrap_or(&route.path);
        for (who, client, expected) in [
            ("nobody", h.client(""), 401),
            ("a forger", h.client("forged"), 401),
            ("a reader elsewhere", reader.client.clone(), 403),
            ("a member elsewhere", member.client.clone(), 403),
        ] {
            let status = ask(&h, &client, &route.method, &route.path).await;
            let open = expected == 403 && OPEN.contains(&(route.method.as_str(), path));
            if status != expected && !(open && status == 200) {
                wrong.push(format!("{who}: {} {path} answers {status}", route.method));
            }
        }
    }
    assert!(guarded > 100, "only {guarded} routes were asked");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn only_these_routes_need_no_token() {
    let h = Harness::new().await;
    let public: Vec<String> =
        h.routes().list().iter().filter(|r| r.access == Access::Public).map(|r| format!("{} {}", r.method, r.path)).collect();
    let expected = ["GET /identity", "GET /identity/v3", "POST /identity/v3/auth/tokens", "POST /identity/v3/users/{user_id}/password"];
    assert_eq!(public, expected);
}

#[tokio::test]
async fn a_reader_of_the_system_reads_everything_and_changes_nothing() {
    let h = Harness::new().await;
    let user = h.user("auditor").await;
    h.grant("system", &format!("users/{user}"), "reader").await;
    let auditor = h.client(&h.token("auditor", "auditor", json!({"system": {"all": true}})).await);
    let mut wrong = Vec::new();
    for route in h.routes().list().iter().filter(|route| route.access == Access::Token) {
        let status = ask(&h, &auditor, &route.method, &route.path).await;
        let reads = matches!(route.method, Method::GET | Method::HEAD);
        // Nothing is refused for who asks, though much of what the paths name is not there.
        let good = if reads { matches!(status, 200 | 204 | 400 | 404) } else { status == 403 };
        // A catalog is a project's.
        if !good && !route.path.ends_with("/auth/catalog") {
            wrong.push(format!("{} {} answers {status}", route.method, route.path));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
