//! A bootstrapped cloud and clients of its identity service.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};
use unkai_identity::{BootstrapOptions, Cost, Identity, Settings, bootstrap_at, routes_with};
use unkai_openstack::testing::{Answer, Client, cloud};
use unkai_openstack::{Asked, Authenticate, Cloud, Routes};
use unkai_store::View;

pub const PASSWORD: &str = "the administrator's";

pub struct Harness {
    pub cloud: Cloud,
    pub identity: Arc<Identity>,
    pub admin: Client,
    pub admin_token: String,
    pub admin_user: String,
    pub admin_project: String,
    _dir: tempfile::TempDir,
}

/// A user that the test made, with a role on a project.
pub struct Somebody {
    pub name: String,
    pub user: String,
    pub project: String,
    pub token: String,
    pub client: Client,
}

pub fn settings() -> Settings {
    Settings { hash_cost: Cost::none(), ..Settings::default() }
}

pub fn options(cloud: &Cloud) -> BootstrapOptions {
    BootstrapOptions { admin_password: Some(PASSWORD.into()), region: cloud.region.clone(), url: cloud.url.clone() }
}

/// The id in an answer that holds one thing.
pub fn id(answer: &Answer) -> String {
    let thing = answer.body.as_object().and_then(|body| body.values().next());
    thing.and_then(|thing| thing["id"].as_str()).unwrap_or_else(|| panic!("no id in {answer:?}")).to_owned()
}

/// The ids of a list, sorted.
pub fn ids(answer: &Answer, name: &str) -> Vec<String> {
    let list = answer.body[name].as_array().unwrap_or_else(|| panic!("no {name} in {answer:?}"));
    let mut ids: Vec<String> = list.iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect();
    ids.sort_unstable();
    ids
}

pub fn on_project(id: &str) -> Value {
    json!({"project": {"id": id}})
}

impl Harness {
    pub async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory for the cloud");
        let cloud = cloud(dir.path());
        let made = bootstrap_at(&cloud.store, options(&cloud), Cost::none()).await.expect("bootstrap");
        let identity = Arc::new(Identity::with(&cloud.store, settings()));
        let client = Client::new(&cloud, Self::routes_of(&identity), "");
        let mut harness = Harness {
            cloud,
            identity,
            admin: client,
            admin_token: String::new(),
            admin_user: made.admin_user.as_str().into(),
            admin_project: made.admin_project.as_str().into(),
            _dir: dir,
        };
        harness.admin_token = harness.token("admin", PASSWORD, on_project(&harness.admin_project)).await;
        harness.admin = harness.client(&harness.admin_token);
        harness
    }

    fn routes_of(identity: &Arc<Identity>) -> Routes {
        Routes::new().nest("/identity", routes_with(identity.clone()))
    }

    pub fn routes(&self) -> Routes {
        Self::routes_of(&self.identity)
    }

    pub fn client(&self, token: &str) -> Client {
        self.admin.with_token(token)
    }

    /// What a service without a name would be told about a token.
    pub fn is_good(&self, view: &View, token: &str, now: Timestamp) -> bool {
        let (parts, ()) = http::Request::new(()).into_parts();
        self.identity.authenticate(view, token, &Asked::of(&parts), now).is_ok()
    }

    pub async fn login(&self, name: &str, password: &str, scope: Value) -> Answer {
        let user = json!({"name": name, "password": password, "domain": {"id": "default"}});
        let mut auth = json!({"identity": {"methods": ["password"], "password": {"user": user}}});
        if !scope.is_null() {
            auth["scope"] = scope;
        }
        self.admin.call("POST", "/identity/v3/auth/tokens", json!({ "auth": auth })).await
    }

    pub async fn token(&self, name: &str, password: &str, scope: Value) -> String {
        let answer = self.login(name, password, scope).await;
        assert_eq!(answer.status, 201, "{:?}", answer.body);
        subject(&answer)
    }

    pub async fn exchange(&self, token: &str, scope: Value) -> Answer {
        let mut auth = json!({"identity": {"methods": ["token"], "token": {"id": token}}});
        if !scope.is_null() {
            auth["scope"] = scope;
        }
        self.admin.call("POST", "/identity/v3/auth/tokens", json!({ "auth": auth })).await
    }

    /// What the administrator is told about a token.
    pub async fn validate(&self, token: &str) -> Answer {
        self.admin.send("GET", "/identity/v3/auth/tokens", &[("x-subject-token", token)], Vec::new()).await
    }

    /// An administrator's request that must succeed.
    pub async fn done(&self, method: &str, path: &str, body: Value) -> Answer {
        let answer = self.admin.call(method, &format!("/identity/v3/{path}"), body.clone()).await;
        assert!(answer.status < 300, "{method} {path} {body}: {} {}", answer.status, answer.body);
        answer
    }

    pub async fn make(&self, path: &str, name: &str, body: Value) -> String {
        id(&self.done("POST", path, json!({ name: body })).await)
    }

    pub async fn role(&self, name: &str) -> String {
        ids(&self.done("GET", &format!("roles?name={name}"), Value::Null).await, "roles").remove(0)
    }

    pub async fn user(&self, name: &str) -> String {
        self.make("users", "user", json!({"name": name, "password": name})).await
    }

    pub async fn grant(&self, place: &str, actor: &str, role: &str) {
        let role = self.role(role).await;
        self.done("PUT", &format!("{place}/{actor}/roles/{role}"), Value::Null).await;
    }

    /// A new user with `role` on a new project, and a token for it.
    pub async fn somebody(&self, name: &str, role: &str) -> Somebody {
        let user = self.user(name).await;
        let project = self.make("projects", "project", json!({"name": format!("{name}'s")})).await;
        self.grant(&format!("projects/{project}"), &format!("users/{user}"), role).await;
        let token = self.token(name, name, on_project(&project)).await;
        Somebody { name: name.into(), user, project, client: self.client(&token), token }
    }
}

/// The token of a log-in.
pub fn subject(answer: &Answer) -> String {
    answer.headers["x-subject-token"].to_str().expect("a token is ASCII").to_owned()
}
