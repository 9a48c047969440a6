//! Who asks, for handlers of identity: the session of the token, and the questions that the default policies ask of it.

use std::ops::Deref;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::request::Parts;
use jiff::{SignedDuration, Timestamp};
use unkai_model::Id;
use unkai_model::identity::{Project, User};
use unkai_openstack::Cloud;

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
        let session = service.session(&view, token, Timestamp::now(), SignedDuration::ZERO).map_err(|error| {
            tracing::debug!(%error, "a token was refused");
            Refusal::unauthorized()
        })?;
        let who = Who(session);
        who.obey_access_rules(parts, &view)?;
        Ok(who)
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

    /// An application credential with access rules may do only what they say.
    fn obey_access_rules(&self, parts: &Parts, view: &unkai_store::View) -> Result<(), Refusal> {
        let Some(credential) = self.app_credential.as_ref().filter(|credential| !credential.access_rules.is_empty()) else {
            return Ok(());
        };
        let path = parts.uri.path();
        let allowed = credential.access_rules.iter().filter_map(|id| view.get(id)).any(|rule| {
            rule.service == "identity" && rule.method.eq_ignore_ascii_case(parts.method.as_str()) && path_matches(&rule.path, path)
        });
        if allowed { Ok(()) } else { Err(Refusal::unauthorized()) }
    }
}

/// `*` and `{name}` stand for one segment, `**` for any number of them.
pub fn path_matches(pattern: &str, path: &str) -> bool {
    let pattern: Vec<&str> = pattern.trim_matches('/').split('/').collect();
    let path: Vec<&str> = path.trim_matches('/').split('/').collect();
    segments_match(&pattern, &path)
}

/// Goes back to the last `**` only, which is enough and keeps hostile patterns cheap.
fn segments_match(pattern: &[&str], path: &[&str]) -> bool {
    let (mut p, mut s, mut retry) = (0, 0, None);
    while s < path.len() {
        match pattern.get(p) {
            Some(&"**") => {
                retry = Some((p + 1, s));
                p += 1;
            }
            Some(segment) if *segment == "*" || *segment == path[s] || (segment.starts_with('{') && segment.ends_with('}')) => {
                (p, s) = (p + 1, s + 1);
            }
            _ => match retry {
                Some((after, skipped)) => {
                    retry = Some((after, skipped + 1));
                    (p, s) = (after, skipped + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|segment| *segment == "**")
}

#[cfg(test)]
mod tests {
    use super::path_matches;

    #[test]
    fn rules_match_by_segment() {
        for (pattern, path, is) in [
            ("/v3/users", "/v3/users", true),
            ("/v3/users/*", "/v3/users/x", true),
            ("/v3/users/*", "/v3/users/x/y", false),
            ("/v3/users/{id}/groups", "/v3/users/x/groups", true),
            ("/v3/**", "/v3/a/b/c", true),
            ("/**/c", "/v3/a/b/c", true),
            ("/v3/users", "/v3/user", false),
        ] {
            assert_eq!(path_matches(pattern, path), is, "{pattern} {path}");
        }
    }
}
