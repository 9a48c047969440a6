//! A security group: a named set of rules. Its rules are documents of their own: [`super::SecurityGroupRule`].

use serde::{Deserialize, Serialize};

use super::Standard;
use crate::{Derived, Kind, Meta};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SecurityGroup {
    pub meta: Meta<SecurityGroup>,
    #[serde(default)]
    pub standard: Standard,
    /// Answers to allowed packets are allowed.
    pub stateful: bool,
    /// The one that a project's ports get when they name none; made with the project's first use, and never deleted by it.
    #[serde(default)]
    pub is_default: bool,
}

impl SecurityGroup {
    /// The namespace of the claim that keeps the default group of a project single.
    pub const DEFAULT: &'static str = "default-security-group";
}

impl Kind for SecurityGroup {
    const NAME: &'static str = "security_group";
    const NOUN: &'static str = "security group";
    crate::meta_accessors!();

    /// Index: `project`. Tally: `security_group` by project.
    fn derive(&self, d: &mut Derived) {
        super::port::owned(d, Self::NAME, self.meta.project.as_ref());
        if self.is_default
            && let Some(project) = &self.meta.project
        {
            d.claim(Self::DEFAULT, project);
        }
    }
}
