//! Who asks, for handlers of identity: the session of the token, and the questions that the default policies ask of it.

use std::ops::Deref;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::request::Parts;
use jiff::Timestamp;
use unkai_model::Id;
use unkai_model::identity::{Project, User};
use unkai_openstack::{Asked, Cloud};

use super::Refusal;
use crate::Identity;
use crate::tokens::session::{Place, Session};

/// The caller; refuses with 401 before the handler runs.
#[derive(Clone)]
pub struct Who(pub Arc<Session>);

impl Deref for Who {
    type Target = Session;
    fn deref(&self) -> &Session {
        &self.0
    }
}

/// The service behind the handlers, put there by [`crate::routes`].
pub struct Service(pub Arc<Identity>);

impl Deref for Service {
    type Target = Identity;
    fn deref(&self) -> &Identity {
        &self.0
    }
}

impl FromRequestParts<Cloud> for Service {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &Cloud) -> Result<Self, Refusal> {
        let identity = parts.extensions.get::<Arc<Identity>>().cloned();
        identity.map(Service).ok_or_else(|| unkai_model::Error::internal("identity's routes lack their service").into())
    }
}

impl FromRequestParts<Cloud> for Who {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, cloud: &Cloud) -> Result<Self, Refusal> {
        let service = Service::from_request_parts(parts, cloud).await?;
        let token = parts.headers.get("x-auth-token").and_then(|value| value.to_str().ok()).ok_or_else(Refusal::unauthorized)?;
        let view = cloud.store.read().await?;
        let session = service.asking(&view, token, &Asked::of(parts), Timestamp::now()).map_err(|error| {
            tracing::debug!(%error, "a token was refused");
            Refusal::unauthorized()
        })?;
        Ok(Who(session))
    }
}

impl Who {
    pub fn has(&self, role: &str) -> bool {
        self.name.has_role(role)
    }
    /// The admin role in any scope, as the released defaults have it.
    pub fn is_admin(&self) -> bool {
        self.has("admin")
    }
    pub fn is_user(&self, user: &Id<User>) -> bool {
        self.user.meta.id == *user
    }
    pub fn reads_system(&self) -> bool {
        matches!(self.place, Place::System) && self.has("reader")
    }
    /// The domain that the token is scoped to.
    pub fn domain(&self) -> Option<&Id<Project>> {
        match &self.place {
            Place::Domain(domain) => Some(&domain.meta.id),
            _ => None,
        }
    }
    pub fn project(&self) -> Option<&Id<Project>> {
        match &self.place {
            Place::Project { project, .. } => Some(&project.meta.id),
            _ => None,
        }
    }
    pub fn reads_domain(&self, domain: Option<&Id<Project>>) -> bool {
        domain.is_some() && self.domain() == domain && self.has("reader")
    }
    pub fn manages_domain(&self, domain: Option<&Id<Project>>) -> bool {
        domain.is_some() && self.domain() == domain && self.has("manager")
    }
    /// Admins, readers of the system.
    pub fn reads_all(&self) -> bool {
        self.is_admin() || self.reads_system()
    }
    /// Who may read what belongs to `domain`.
    pub fn reads(&self, domain: Option<&Id<Project>>) -> bool {
        self.reads_all() || self.reads_domain(domain)
    }
    /// Who may change what belongs to `domain`.
    pub fn manages(&self, domain: Option<&Id<Project>>) -> bool {
        self.is_admin() || self.manages_domain(domain)
    }

    /// Refuses `action` unless `allowed`.
    pub fn allow(&self, action: &str, allowed: bool) -> Result<(), Refusal> {
        if allowed { Ok(()) } else { Err(Refusal::forbidden(action)) }
    }
}
