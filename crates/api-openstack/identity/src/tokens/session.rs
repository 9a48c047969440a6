//! What a token means now: the documents it names, judged against the present state. A pure function of a view and a token.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use unkai_model::identity::{AppCredential, Project, Revocation, Role, Scope, User};
use unkai_model::{Error, Id};
use unkai_openstack::{Asked, CallerName};
use unkai_store::View;

use super::grants;
use super::payload::{Token, audit_text};

/// A good token and everything about it that answers need.
#[derive(Debug)]
pub struct Session {
    pub token: Token,
    pub user: Arc<User>,
    pub user_domain: Arc<Project>,
    pub place: Place,
    /// Sorted by id; effective.
    pub roles: Vec<(Id<Role>, String)>,
    pub app_credential: Option<Arc<AppCredential>>,
    pub name: Arc<CallerName>,
    /// The body of a validation, with the catalog; kept because the same token is validated again and again.
    pub rendered: OnceLock<Bytes>,
}

impl Session {
    /// An application credential with access rules may do only what one of them says.
    pub fn obeys_access_rules(&self, view: &View, asked: &Asked<'_>) -> bool {
        let Some(credential) = self.app_credential.as_ref().filter(|credential| !credential.access_rules.is_empty()) else {
            return true;
        };
        let mut rules = credential.access_rules.iter().filter_map(|id| view.get(id));
        asked.is_validation() || rules.any(|rule| asked.matches(&rule.service, &rule.method, &rule.path))
    }
}

/// The scope with its documents.
#[derive(Debug, Clone)]
pub enum Place {
    Nowhere,
    Project { project: Arc<Project>, domain: Arc<Project> },
    Domain(Arc<Project>),
    System,
}

impl Place {
    pub fn scope(&self) -> Option<Scope> {
        match self {
            Place::Nowhere => None,
            Place::Project { project, .. } => Some(Scope::Project(project.meta.id.clone())),
            Place::Domain(domain) => Some(Scope::Domain(domain.meta.id.clone())),
            Place::System => Some(Scope::System),
        }
    }
}

fn refused(why: &str) -> Error {
    Error::denied(why.to_owned())
}

/// Judges everything but the expiry. The reasons are for the log, never for the caller.
pub fn judge(view: &View, token: Token) -> Result<Session, Error> {
    let user = view.get(&token.user).ok_or_else(|| refused("the user is gone"))?;
    let user_domain = enabled_domain(view, &user.domain, &token)?;
    if !user.enabled || token.issued < user.tokens_from {
        return Err(refused("the user is disabled, or changed its password since"));
    }
    if view.get(&Revocation::id(&audit_text(&token.audit), token.expires)).is_some() {
        return Err(refused("the token was revoked"));
    }
    let place = place(view, &token)?;
    let app_credential = match &token.app_credential {
        None => None,
        Some(id) => Some(view.get(id).ok_or_else(|| refused("the application credential is gone"))?),
    };
    let roles = roles(view, &token.user, &place, app_credential.as_deref());
    if roles.is_empty() && !matches!(place, Place::Nowhere) {
        return Err(refused("the user has no role there any more"));
    }
    let name = Arc::new(caller(&token, &user, &place, &roles));
    Ok(Session { token, user, user_domain, place, roles, app_credential, name, rendered: OnceLock::new() })
}

fn enabled_domain(view: &View, id: &Id<Project>, token: &Token) -> Result<Arc<Project>, Error> {
    let domain = view.get(id).ok_or_else(|| refused("the domain is gone"))?;
    if domain.enabled && domain.is_domain && token.issued >= domain.tokens_from {
        Ok(domain)
    } else {
        Err(refused("the domain is disabled"))
    }
}

fn place(view: &View, token: &Token) -> Result<Place, Error> {
    match &token.scope {
        None => Ok(Place::Nowhere),
        Some(Scope::System) => Ok(Place::System),
        Some(Scope::Domain(id)) => enabled_domain(view, id, token).map(Place::Domain),
        Some(Scope::Project(id)) => {
            let project = view.get(id).ok_or_else(|| refused("the project is gone"))?;
            if !project.enabled || token.issued < project.tokens_from {
                return Err(refused("the project is disabled"));
            }
            let domain = enabled_domain(view, project.managing_domain(), token)?;
            Ok(Place::Project { project, domain })
        }
    }
}

fn roles(view: &View, user: &Id<User>, place: &Place, limit: Option<&AppCredential>) -> Vec<(Id<Role>, String)> {
    let Some(scope) = place.scope() else { return Vec::new() };
    let mut ids = grants::effective(view, user, &scope);
    if let Some(credential) = limit {
        let given = grants::implied(view, credential.roles.iter().cloned());
        ids.retain(|id| given.contains(id));
    }
    ids.into_iter().filter_map(|id| view.get(&id).map(|role| (id, role.meta.name.clone()))).collect()
}

fn caller(token: &Token, user: &User, place: &Place, roles: &[(Id<Role>, String)]) -> CallerName {
    let (project, project_name, project_domain) = match place {
        Place::Project { project, domain } => {
            (Some(project.meta.id.clone()), project.meta.name.clone(), domain.meta.id.as_str().to_owned())
        }
        _ => (None, String::new(), String::new()),
    };
    CallerName {
        user: user.meta.id.as_str().to_owned(),
        user_name: user.meta.name.clone(),
        user_domain: user.domain.as_str().to_owned(),
        project,
        project_name,
        project_domain,
        domain: match place {
            Place::Domain(domain) => Some(domain.meta.id.as_str().to_owned()),
            _ => None,
        },
        system: matches!(place, Place::System),
        roles: roles.iter().map(|(_, name)| name.to_lowercase()).collect::<BTreeSet<_>>(),
        expires: token.expires,
    }
}
