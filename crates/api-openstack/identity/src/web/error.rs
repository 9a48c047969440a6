//! The one place where refusals become Keystone's answers.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;
use unkai_model::Error;

/// An answer that says no. The message is for the caller.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    pub status: StatusCode,
    pub message: String,
}

pub type Answer<T = Response> = Result<T, Refusal>;

const MALFORMED: &str = "The server could not comply with the request since it is either malformed or otherwise incorrect. \
                         The client is assumed to be in error.";

impl Refusal {
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Refusal { status, message: message.into() }
    }
    /// No good proof of who is asking. Never says which part was wrong.
    pub fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "The request you have made requires authentication.")
    }
    /// `action` without its `identity:`.
    pub fn forbidden(action: &str) -> Self {
        Self::not_allowed(&format!("identity:{action}"))
    }
    pub fn not_allowed(action: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, format!("You are not authorized to perform the requested action: {action}."))
    }
    pub fn denied(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, message)
    }
    pub fn not_found(noun: &str, id: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("Could not find {noun}: {id}."))
    }
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }
    pub fn missing(attribute: &str, target: &str) -> Self {
        Self::invalid(format!("Expecting to find {attribute} in {target}. {MALFORMED}"))
    }
    pub fn conflict(what: &str, details: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::CONFLICT, format!("Conflict occurred attempting to store {what} - {details}."))
    }
}

/// What a claim protects, and how a duplicate is named to the caller.
fn duplicate(namespace: &str, key: &str) -> Refusal {
    let last = key.rsplit_once('/').map_or(key, |(_, last)| last);
    let (what, scoped) = match namespace {
        "domain-name" => ("domain", false),
        "project-name" => ("project", true),
        "user-name" => ("user", true),
        "group-name" => ("group", true),
        "role-name" => ("role", false),
        "app-credential-name" => return Refusal::conflict("application_credential", format!("Duplicate entry found with name {last}")),
        "access-rule" => return Refusal::conflict("access_rule", "Duplicate entry"),
        other => return Refusal::conflict(other, format!("Duplicate entry found with id {key}")),
    };
    match key.split_once('/') {
        Some((domain, name)) if scoped => Refusal::conflict(what, format!("Duplicate entry found with name {name} at domain ID {domain}")),
        Some((_, name)) => Refusal::conflict(what, format!("Duplicate entry found with name {name}")),
        None => Refusal::conflict(what, format!("Duplicate entry found with name {last}")),
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound { kind, id } => Refusal::not_found(kind, id),
            Error::Taken { namespace, key, .. } => duplicate(namespace, &key),
            Error::InUse { kind, id, by } => Refusal::conflict(kind, format!("{kind} {id} is still in use by {by}")),
            Error::Conflict(text) => Refusal::new(StatusCode::CONFLICT, text),
            Error::Invalid(text) => Refusal::invalid(text),
            Error::Denied(text) => Refusal::denied(text),
            Error::Quota { .. } => Refusal::denied(error.to_string()),
            Error::Unavailable(text) => Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text),
            Error::Internal { .. } => {
                tracing::error!(error = %chain(&error), "a request failed");
                Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "An unexpected error prevented the server from fulfilling your request.")
            }
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(error.source(), |e| e.source()).fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let title = self.status.canonical_reason().unwrap_or("Error");
        let body = json!({"error": {"code": self.status.as_u16(), "message": self.message, "title": title}});
        let mut response = (self.status, axum::Json(body)).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            let value = HeaderValue::from_static("Keystone uri=\"/identity\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, value);
        }
        response.headers_mut().insert(header::VARY, HeaderValue::from_static("X-Auth-Token"));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duplicate_names_the_domain() {
        let taken = Error::Taken { namespace: "user-name", key: "default/a/b".into(), holder: "x".into() };
        let refusal = Refusal::from(taken);
        assert_eq!(refusal.status, 409);
        let expected = "Conflict occurred attempting to store user - Duplicate entry found with name a/b at domain ID default.";
        assert_eq!(refusal.message, expected);
    }

    #[test]
    fn internal_causes_stay_inside() {
        let refusal = Refusal::from(Error::caused("reading /secret", std::io::Error::other("boom")));
        assert_eq!(refusal.status, 500);
        assert!(!refusal.message.contains("secret"));
    }
}
