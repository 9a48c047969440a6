//! Application credentials with access rules, on the routes of every service.

use std::sync::Arc;

use serde_json::{Value, json};
use unkai_identity::{BootstrapOptions, Cost, Identity, Settings};
use unkai_openstack::testing::{Answer, Client};
use unkai_openstack::{Cloud, NoTunnels, Parts};
use unkai_store::{Store, System};

use super::routes_with;

const PASSWORD: &str = "the administrator's";
const URL: &str = "https://cloud.test:8443";

struct Scene {
    admin: Client,
    user: String,
    _dir: tempfile::TempDir,
}

fn token(answer: &Answer) -> String {
    assert_eq!(answer.status, 201, "{:?}", answer.body);
    answer.headers["x-subject-token"].to_str().unwrap().to_owned()
}

async fn login(client: &Client, identity: Value) -> Answer {
    client.call("POST", "/identity/v3/auth/tokens", json!({ "auth": identity })).await
}

impl Scene {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::in_memory(Arc::new(System));
        let options = BootstrapOptions { admin_password: Some(PASSWORD.into()), region: "RegionOne".into(), url: URL.into() };
        let made = unkai_identity::bootstrap_at(&store, options, Cost::none()).await.unwrap();
        let identity = Arc::new(Identity::with(&store, Settings { hash_cost: Cost::none(), ..Settings::default() }));
        let cloud = Cloud::new(Parts {
            store,
            auth: identity.clone(),
            tunnels: Arc::new(NoTunnels),
            url: URL.into(),
            region: "RegionOne".into(),
            state_dir: dir.path().to_path_buf(),
        });
        let routes = routes_with(&cloud, unkai_identity::routes_with(identity), unkai_image::Settings::default());
        let nobody = Client::new(&cloud, routes, "");
        let user = json!({"name": "admin", "password": PASSWORD, "domain": {"id": "default"}});
        let scope = json!({"project": {"id": made.admin_project.as_str()}});
        let identity = json!({"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope});
        let token = token(&login(&nobody, identity).await);
        Scene { admin: nobody.with_token(&token), user: made.admin_user.as_str().into(), _dir: dir }
    }

    /// A client with an application credential that is limited to these rules: service, method, path.
    async fn limited(&self, name: &str, rules: &[(&str, &str, &str)]) -> Client {
        let rules: Vec<Value> = rules.iter().map(|(s, m, p)| json!({"service": s, "method": m, "path": p})).collect();
        let body = json!({"application_credential": {"name": name, "access_rules": rules}});
        let made = self.admin.call("POST", &format!("/identity/v3/users/{}/application_credentials", self.user), body).await;
        assert_eq!(made.status, 201, "{:?}", made.body);
        let made = &made.body["application_credential"];
        let credential = json!({"id": made["id"], "secret": made["secret"]});
        let identity = json!({"identity": {"methods": ["application_credential"], "application_credential": credential}});
        self.admin.with_token(&token(&login(&self.admin, identity).await))
    }
}

#[tokio::test]
async fn a_rule_opens_its_requests_on_its_service_and_nothing_else() {
    let scene = Scene::new().await;
    let rules = [
        ("compute", "GET", "/v2.1/servers"),
        ("compute", "GET", "/v2.1/flavors/*"),
        ("network", "GET", "/v2.0/**"),
        ("network", "POST", "/network/v2.0/networks"),
        ("network", "DELETE", "/v2.0/networks/{network_id}"),
        ("image", "POST", "/v2/images"),
        ("image", "GET", "/v2/images/{image_id}"),
    ];
    let program = scene.limited("some", &rules).await;
    let network = json!({"network": {"name": "n"}});
    let made = program.call("POST", "/network/v2.0/networks", network.clone()).await;
    assert_eq!(made.status, 201, "with the prefix of the service: {:?}", made.body);
    let id = made.body["network"]["id"].as_str().unwrap().to_owned();
    let image = program.call("POST", "/image/v2/images", json!({"name": "i"})).await;
    assert_eq!(image.status, 201, "{:?}", image.body);
    let image = format!("/image/v2/images/{}", image.body["id"].as_str().unwrap());
    for (method, path, status) in [
        ("GET", "/compute/v2.1/servers".to_owned(), 200),
        ("GET", "/compute/v2.1/servers?name=x".into(), 200),
        ("GET", "/compute/v2.1/servers/detail".into(), 401),
        ("POST", "/compute/v2.1/servers".into(), 401),
        ("GET", "/compute/v2.1/flavors".into(), 401),
        ("GET", "/compute/v2.1/flavors/none".into(), 404),
        ("GET", "/network/v2.0/networks".into(), 200),
        ("GET", format!("/network/v2.0/networks/{id}"), 200),
        ("PUT", format!("/network/v2.0/networks/{id}"), 401),
        ("DELETE", "/network/v2.0/ports/x".into(), 401),
        ("DELETE", format!("/network/v2.0/networks/{id}"), 204),
        ("GET", "/image/v2/images".into(), 401),
        ("GET", image.clone(), 200),
        ("GET", format!("{image}/file"), 401),
        ("GET", format!("{image}/members"), 401),
        ("GET", "/identity/v3/projects".into(), 401),
    ] {
        let answer = program.call(method, &path, Value::Null).await;
        assert_eq!(answer.status, status, "{method} {path}: {:?}", answer.body);
    }
    let refused = program.get("/compute/v2.1/servers/detail").await;
    assert_eq!(refused.body["error"]["message"], "The request you have made requires authentication.");
    assert!(refused.headers.contains_key("www-authenticate"));
}

#[tokio::test]
async fn a_rule_of_one_service_opens_no_other() {
    let scene = Scene::new().await;
    let program = scene.limited("compute only", &[("compute", "GET", "/**"), ("compute", "POST", "/**")]).await;
    assert_eq!(program.get("/compute/v2.1/servers").await.status, 200);
    for path in ["/network/v2.0/networks", "/image/v2/images", "/identity/v3/users"] {
        assert_eq!(program.get(path).await.status, 401, "{path}");
    }
    assert_eq!(program.get("/compute/v2.1").await.status, 200, "what is public needs no rule");
}

/// Services elsewhere check the rules themselves, and say so when they validate a token.
#[tokio::test]
async fn tokens_with_rules_are_shown_to_those_who_check_them() {
    let scene = Scene::new().await;
    let program = scene.limited("one", &[("image", "GET", "/v2/images")]).await;
    let subject = scene.limited("another", &[("image", "GET", "/v2/images")]).await;
    let own = ("x-subject-token", subject.token());
    let shown = |headers: Vec<(&'static str, String)>, client: Client| async move {
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        client.send("GET", "/identity/v3/auth/tokens", &headers, Vec::new()).await
    };
    let own = (own.0, own.1.to_owned());
    assert_eq!(shown(vec![own.clone()], scene.admin.clone()).await.status, 404);
    let checks = ("openstack-identity-access-rules", "1.0".to_owned());
    let told = shown(vec![own.clone(), checks.clone()], scene.admin.clone()).await;
    assert_eq!(told.body["token"]["application_credential"]["access_rules"][0]["path"], "/v2/images");
    assert_eq!(shown(vec![own, checks], program).await.status, 200, "no rule forbids a validation");
}
