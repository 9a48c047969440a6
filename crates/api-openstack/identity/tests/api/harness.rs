//! A bootstrapped cloud and a client of its identity service.

use std::sync::Arc;

use serde_json::{Value, json};
use unkai_identity::{BootstrapOptions, Cost, Identity, Settings, bootstrap_at, routes_with};
use unkai_openstack::testing::{Answer, Client, cloud};
use unkai_openstack::{Cloud, Routes};

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

pub fn settings() -> Settings {
    Settings { hash_cost: Cost::none(), ..Settings::default() }
}

pub fn options(cloud: &Cloud) -> BootstrapOptions {
    BootstrapOptions { admin_password: Some(PASSWORD.into()), region: cloud.region.clone(), url: cloud.url.clone() }
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
        harness.admin_token = harness.token("admin", PASSWORD, json!({"project": {"id": harness.admin_project}})).await;
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
        answer.headers["x-subject-token"].to_str().unwrap().to_owned()
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
}
