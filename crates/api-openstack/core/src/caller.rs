//! Who calls: the answer of identity to the token in `X-Auth-Token`.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::request::Parts;
use jiff::Timestamp;
use unkai_model::identity::Project;
use unkai_model::{Error, Id};
use unkai_store::View;

use crate::{Asked, Cloud};

/// Turns a token into a caller. Implemented by identity.
pub trait Authenticate: Send + Sync + 'static {
    /// `Error::Denied` when the token is not (or no longer) good, or not for what is asked. Called on every request: it must be cheap.
    fn authenticate(&self, view: &View, token: &str, asked: &Asked<'_>, now: Timestamp) -> Result<Arc<CallerName>, Error>;
}

/// A caller as identity knows it now: roles are the effective ones, implied roles included.
#[derive(Debug, Clone, PartialEq)]
pub struct CallerName {
    pub user: String,
    pub user_name: String,
    pub user_domain: String,
    pub project: Option<Id<Project>>,
    pub project_name: String,
    pub project_domain: String,
    /// Set for a token scoped to a domain.
    pub domain: Option<String>,
    /// True for a token scoped to the whole system.
    pub system: bool,
    /// Names of roles, lower case.
    pub roles: BTreeSet<String>,
    pub expires: Timestamp,
}

/// The extractor of handlers: refuses with 401 before the handler runs.
#[derive(Debug, Clone)]
pub struct Caller(pub Arc<CallerName>);

impl std::ops::Deref for Caller {
    type Target = CallerName;
    fn deref(&self) -> &CallerName {
        &self.0
    }
}

impl CallerName {
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.contains(role)
    }
    /// An administrator of the cloud: the admin role, on any project or the system, as the default policies have it.
    pub fn is_admin(&self) -> bool {
        self.has_role("admin")
    }
    /// May look at what belongs to `project`.
    pub fn may_read(&self, project: Option<&Id<Project>>) -> bool {
        self.is_admin() || (self.owns(project) && (self.has_role("reader") || self.has_role("member")))
    }
    /// May change what belongs to `project`.
    pub fn may_write(&self, project: Option<&Id<Project>>) -> bool {
        self.is_admin() || (self.owns(project) && self.has_role("member"))
    }
    pub fn owns(&self, project: Option<&Id<Project>>) -> bool {
        project.is_some() && self.project.as_ref() == project
    }
    /// The project the token is scoped to, or a refusal.
    pub fn require_project(&self) -> Result<&Id<Project>, Error> {
        self.project.as_ref().ok_or_else(|| Error::denied("The token is not scoped to a project."))
    }
}

/// The answer to a request without a good token, as keystonemiddleware gives it for every service.
#[derive(Debug)]
pub struct Unauthorized;

impl IntoResponse for Unauthorized {
    fn into_response(self) -> Response {
        let body = r#"{"error": {"code": 401, "title": "Unauthorized", "message": "The request you have made requires authentication."}}"#;
        let headers = [(http::header::CONTENT_TYPE, "application/json"), (http::header::WWW_AUTHENTICATE, "Keystone uri=\"/identity\"")];
        (StatusCode::UNAUTHORIZED, headers, body).into_response()
    }
}

impl FromRequestParts<Cloud> for Caller {
    type Rejection = Unauthorized;

    async fn from_request_parts(parts: &mut Parts, cloud: &Cloud) -> Result<Self, Unauthorized> {
        let token = parts.headers.get("x-auth-token").and_then(|v| v.to_str().ok()).ok_or(Unauthorized)?;
        let view = cloud.store.read().await.map_err(|_| Unauthorized)?;
        cloud.auth.authenticate(&view, token, &Asked::of(parts), Timestamp::now()).map(Caller).map_err(|_| Unauthorized)
    }
}
