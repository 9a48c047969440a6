//! A cloud in memory for tests of one dialect: real store, real routes, tokens of the form `project/user/role,role`.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use http::Request;
use jiff::Timestamp;
use serde_json::Value;
use tower::ServiceExt;
use unkai_model::{Error, Id};
use unkai_store::{Store, System, View};

use crate::{Asked, Authenticate, CallerName, Cloud, NoTunnels, Parts, Routes};

/// Accepts `project/user/role,role`; an empty project is a token of the system.
pub struct OpenTokens;

impl Authenticate for OpenTokens {
    fn authenticate(&self, _: &View, token: &str, _: &Asked<'_>, _: Timestamp) -> Result<Arc<CallerName>, Error> {
        let mut parts = token.splitn(3, '/');
        let (Some(project), Some(user), Some(roles)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(Error::denied("not a test token"));
        };
        Ok(Arc::new(CallerName {
            user: user.into(),
            user_name: user.into(),
            user_domain: "default".into(),
            project: (!project.is_empty()).then(|| Id::new(project)),
            project_name: project.into(),
            project_domain: "default".into(),
            domain: None,
            system: project.is_empty(),
            roles: roles.split(',').map(str::to_owned).collect(),
            expires: Timestamp::MAX,
        }))
    }
}

/// A cloud whose files live in `dir`.
pub fn cloud(dir: &std::path::Path) -> Cloud {
    Cloud::new(Parts {
        store: Store::in_memory(Arc::new(System)),
        auth: Arc::new(OpenTokens),
        tunnels: Arc::new(NoTunnels),
        url: "https://cloud.test:8774".into(),
        region: "RegionOne".into(),
        state_dir: dir.to_path_buf(),
    })
}

/// A client of some routes, without a network between.
#[derive(Clone)]
pub struct Client {
    router: Router,
    token: String,
}

/// An answer: status, headers and the body as JSON (null when empty, a string when it is not JSON).
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: Value,
    pub bytes: bytes::Bytes,
}

impl Client {
    pub fn new(cloud: &Cloud, routes: Routes, token: &str) -> Self {
        Client { router: routes.into_router(cloud.clone()), token: token.into() }
    }

    pub fn token(&self) -> &str {
        &self.token
    }

    /// The same routes with another token.
    pub fn with_token(&self, token: &str) -> Self {
        Client { router: self.router.clone(), token: token.into() }
    }

    pub async fn call(&self, method: &str, path: &str, body: Value) -> Answer {
        let bytes = if body.is_null() { Vec::new() } else { serde_json::to_vec(&body).expect("JSON encodes") };
        self.send(method, path, &[("content-type", "application/json")], bytes).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, Value::Null).await
    }

    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
        let mut request = Request::builder().method(method).uri(path).header("x-auth-token", &self.token).header("host", "cloud.test");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body)).expect("the test's request is well formed");
        let response = self.router.clone().oneshot(request).await.expect("a router always answers");
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.expect("the body is in memory");
        let text = || Value::String(String::from_utf8_lossy(&bytes).into_owned());
        let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap_or_else(|_| text()) };
        Answer { status: parts.status.as_u16(), headers: parts.headers, body, bytes }
    }
}
