//! The few kinds of refusal. Each dialect maps them to its own codes and bodies in one file.

use std::fmt;

/// Why something was refused or failed. The text of every variant but `Internal` is written for the caller.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `kind` is the noun as the field says it ("server", "security group").
    #[error("{kind} {id} could not be found")]
    NotFound { kind: &'static str, id: String },
    /// The request is fine, the present state is not.
    #[error("{0}")]
    Conflict(String),
    /// Something unique is already held by another document.
    #[error("{namespace} {key} is already in use by {holder}")]
    Taken { namespace: &'static str, key: String, holder: String },
    /// A document still names the one that was to be deleted.
    #[error("{kind} {id} is in use by {by}")]
    InUse { kind: &'static str, id: String, by: String },
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    Denied(String),
    #[error("quota exceeded for {resource}: limit {limit}, used {used}, requested {requested}")]
    Quota { resource: &'static str, limit: i64, used: i64, requested: i64 },
    /// Try again: nothing was changed.
    #[error("{0}")]
    Unavailable(String),
    /// A fault of ours. `context` is for the operator's log; callers see only that it happened.
    #[error("{context}")]
    Internal {
        context: String,
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}

impl Error {
    pub fn not_found<K: crate::Kind>(id: impl fmt::Display) -> Self {
        Error::NotFound { kind: K::NOUN, id: id.to_string() }
    }
    pub fn conflict(text: impl Into<String>) -> Self {
        Error::Conflict(text.into())
    }
    pub fn invalid(text: impl Into<String>) -> Self {
        Error::Invalid(text.into())
    }
    pub fn denied(text: impl Into<String>) -> Self {
        Error::Denied(text.into())
    }
    pub fn unavailable(text: impl Into<String>) -> Self {
        Error::Unavailable(text.into())
    }
    /// `context` says what was attempted on what.
    pub fn internal(context: impl Into<String>) -> Self {
        Error::Internal { context: context.into(), source: None }
    }
    pub fn caused(context: impl Into<String>, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Error::Internal { context: context.into(), source: Some(source.into()) }
    }
}
