//! A user: somebody, or a program, that can prove who it is.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Extra, Project};
use crate::{Derived, Id, Kind, Meta};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct User {
    pub meta: Meta<User>,
    pub domain: Id<Project>,
    #[serde(default = "super::project::yes")]
    pub enabled: bool,
    #[serde(default)]
    pub default_project: Option<String>,
    #[serde(default)]
    pub password: Option<Password>,
    #[serde(default)]
    pub options: Extra,
    /// `description`, `email` and whatever else was sent.
    #[serde(default)]
    pub extra: Extra,
    /// Tokens issued before this are void: set by a change of password and by disabling.
    #[serde(default)]
    pub tokens_from: Timestamp,
}

/// What is kept of a password.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Password {
    /// In PHC form, so that the cost can grow without a migration.
    pub hash: String,
    pub set: Timestamp,
}

impl User {
    pub fn new(id: impl Into<Id<User>>, name: &str, domain: &Id<Project>) -> Self {
        User {
            meta: Meta::new(id).named(name),
            domain: domain.clone(),
            enabled: true,
            default_project: None,
            password: None,
            options: Extra::new(),
            extra: Extra::new(),
            tokens_from: Timestamp::UNIX_EPOCH,
        }
    }

    /// An option that is set to true, such as `lock_password`.
    pub fn has_option(&self, name: &str) -> bool {
        self.options.get(name).and_then(serde_json::Value::as_bool).unwrap_or(false)
    }
}

impl Kind for User {
    const NAME: &'static str = "user";
    crate::meta_accessors!();

    fn derive(&self, d: &mut Derived) {
        d.claim("user-name", format!("{}/{}", self.domain, self.meta.name));
        d.index("domain", &self.domain);
        d.refers(&self.domain);
        if let Some(project) = &self.default_project {
            d.index("default-project", project);
        }
    }
}
