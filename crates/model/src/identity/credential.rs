//! Secrets that a user makes for programs: application credentials for tokens, and blobs for other protocols.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Extra, Project, Role, User};
use crate::{Derived, Id, Kind, Meta};

/// A credential that gives a program some of a user's roles on one project.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AppCredential {
    /// Unique by name for its user.
    pub meta: Meta<AppCredential>,
    pub user: Id<User>,
    pub project: Id<Project>,
    #[serde(default)]
    pub description: Option<String>,
    /// In PHC form.
    pub secret_hash: String,
    pub roles: BTreeSet<Id<Role>>,
    #[serde(default)]
    pub expires: Option<Timestamp>,
    /// May make and delete other application credentials.
    #[serde(default)]
    pub unrestricted: bool,
    /// In the order given. Empty: everything that the roles allow.
    #[serde(default)]
    pub access_rules: Vec<Id<AccessRule>>,
}

impl Kind for AppCredential {
    const NAME: &'static str = "app_credential";
    const NOUN: &'static str = "application credential";
    crate::meta_accessors!();

    fn derive(&self, d: &mut Derived) {
        d.claim("app-credential-name", format!("{}/{}", self.user, self.meta.name));
        d.index("user", &self.user);
        d.index("project", &self.project);
        d.refers(&self.user);
        d.refers(&self.project);
        for role in &self.roles {
            d.index("role", role);
            d.refers(role);
        }
        for rule in &self.access_rules {
            d.index("access-rule", rule);
            d.refers(rule);
        }
    }
}

/// One kind of request that an application credential may be limited to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AccessRule {
    pub meta: Meta<AccessRule>,
    pub user: Id<User>,
    /// The service's type.
    pub service: String,
    pub method: String,
    pub path: String,
}

impl Kind for AccessRule {
    const NAME: &'static str = "access_rule";
    const NOUN: &'static str = "access rule";
    crate::meta_accessors!();

    fn derive(&self, d: &mut Derived) {
        d.claim("access-rule", format!("{}/{}/{}/{}", self.user, self.service, self.method, self.path));
        d.index("user", &self.user);
        d.refers(&self.user);
    }
}

/// A secret of another protocol, kept encrypted: EC2 key pairs, one-time passwords, certificates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Credential {
    pub meta: Meta<Credential>,
    pub user: Id<User>,
    #[serde(default)]
    pub project: Option<Id<Project>>,
    pub r#type: String,
    /// Base64 of the sealed blob.
    pub sealed: String,
    #[serde(default)]
    pub extra: Extra,
}

impl Kind for Credential {
    const NAME: &'static str = "credential";
    crate::meta_accessors!();

    fn derive(&self, d: &mut Derived) {
        d.index("user", &self.user);
        d.refers(&self.user);
        if let Some(project) = &self.project {
            d.index("project", project);
        }
    }
}
