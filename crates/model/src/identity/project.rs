//! A project: the owner of resources. A domain is a project too, with `is_domain` and no domain of its own: it holds users, groups and
//! projects.
//!
//! Names are unique among domains, and among the projects of a domain. A project stands below its `parent`, which is another project
//! or its domain.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Extra;
use crate::{Derived, Id, Kind, Meta};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Project {
    /// `project` in it stays empty: a project belongs to its domain.
    pub meta: Meta<Project>,
    #[serde(default)]
    pub is_domain: bool,
    /// None for a domain.
    #[serde(default)]
    pub domain: Option<Id<Project>>,
    /// None for a domain; the domain for a project at the top.
    #[serde(default)]
    pub parent: Option<Id<Project>>,
    #[serde(default = "crate::identity::project::yes")]
    pub enabled: bool,
    #[serde(default)]
    pub description: String,
    #[serde(default)]
    pub tags: BTreeSet<String>,
    #[serde(default)]
    pub options: Extra,
    #[serde(default)]
    pub extra: Extra,
    /// Tokens issued before this are void: set when it is disabled.
    #[serde(default)]
    pub tokens_from: Timestamp,
}

pub(crate) fn yes() -> bool {
    true
}

impl Project {
    /// The id of the domain that everything without a domain belongs to.
    pub const DEFAULT_DOMAIN: &'static str = "default";
    /// How deep projects may stand below their domain, the domain counted.
    pub const MAX_DEPTH: usize = 5;

    pub fn domain(id: impl Into<Id<Project>>, name: &str) -> Self {
        Project {
            meta: Meta::new(id).named(name),
            is_domain: true,
            domain: None,
            parent: None,
            enabled: true,
            description: String::new(),
            tags: BTreeSet::new(),
            options: Extra::new(),
            extra: Extra::new(),
            tokens_from: Timestamp::UNIX_EPOCH,
        }
    }

    pub fn new(id: impl Into<Id<Project>>, name: &str, domain: &Id<Project>, parent: &Id<Project>) -> Self {
        Project { is_domain: false, domain: Some(domain.clone()), parent: Some(parent.clone()), ..Self::domain(id, name) }
    }

    /// The domain whose administrators manage this: its own id for a domain.
    pub fn managing_domain(&self) -> &Id<Project> {
        self.domain.as_ref().unwrap_or(&self.meta.id)
    }

    /// Immutable resources refuse changes until the option is cleared.
    pub fn is_immutable(&self) -> bool {
        super::role::immutable(&self.options)
    }
}

impl Kind for Project {
    const NAME: &'static str = "project";
    crate::meta_accessors!();

    fn derive(&self, d: &mut Derived) {
        match &self.domain {
            None if self.is_domain => d.claim("domain-name", &self.meta.name),
            None => {}
            Some(domain) => {
                d.claim("project-name", format!("{domain}/{}", self.meta.name));
                d.index("domain", domain);
                d.refers(domain);
            }
        }
        if let Some(parent) = &self.parent {
            d.index("parent", parent);
            d.refers(parent);
        }
        if self.is_domain {
            d.index("is-domain", "true");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(project: &Project) -> Vec<(&'static str, std::sync::Arc<str>)> {
        let mut derived = Derived::default();
        project.derive(&mut derived);
        derived.claims
    }

    #[test]
    fn names_are_unique_among_domains_and_within_one() {
        let (a, b) = (Project::domain("a", "same"), Project::domain("b", "other"));
        let in_domain = |domain: &Project| Project::new("p", "same", &domain.meta.id, &domain.meta.id);
        assert_eq!(claims(&a), [("domain-name", "same".into())]);
        assert_ne!(claims(&in_domain(&a)), claims(&in_domain(&b)));
        assert_ne!(claims(&in_domain(&a)), claims(&a));
    }

    #[test]
    fn a_domain_manages_itself() {
        let domain = Project::domain("d", "d");
        assert_eq!(domain.managing_domain().as_str(), "d");
        assert_eq!(Project::new("p", "p", &domain.meta.id, &domain.meta.id).managing_domain().as_str(), "d");
    }
}
