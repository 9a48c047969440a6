//! Identity: who may ask, where, and with which roles; and the catalog that tells clients where to ask.
//!
//! All of these documents are written by the identity API alone (and by its bootstrap); everybody else reads them.

mod assignment;
mod catalog;
mod credential;
mod endpoint_filter;
mod group;
mod policy;
mod project;
mod role;
mod token;
mod user;

use std::collections::BTreeMap;

use serde_json::Value;

pub use assignment::{Actor, Assignment, Scope};
pub use catalog::{Endpoint, Interface, Region, Service};
pub use credential::{AccessRule, AppCredential, Credential};
pub use endpoint_filter::{EndpointAssociation, EndpointGroup, Filtered};
pub use group::{Group, Membership};
pub use policy::{DomainConfig, Policy};
pub use project::Project;
pub use role::Role;
pub use token::{KeyPurpose, Revocation, SecretKey};
pub use user::{Password, User};

/// Attributes that the API stores and returns without knowing them.
pub type Extra = BTreeMap<String, Value>;
