//! Refusals as Nova and Cinder word them: `{"itemNotFound": {"code": 404, "message": "..."}}`.
//!
//! The only place that knows how `unkai_model::Error` becomes a code and a body.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::json;
use unkai_model::Error;

/// An answer other than success. Handlers return it; transactions may abort with it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    pub code: StatusCode,
    pub message: String,
}

impl Fault {
    pub fn new(code: StatusCode, message: impl Into<String>) -> Self {
        Fault { code, message: message.into() }
    }
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, message)
    }
    /// What Nova says when a policy rule refuses.
    pub fn policy(rule: &str) -> Self {
        Self::forbidden(format!("Policy doesn't allow {rule} to be performed."))
    }
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }
    pub fn not_implemented(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, message)
    }

    /// The key of the body, by code.
    fn name(&self) -> &'static str {
        match self.code.as_u16() {
            400 => "badRequest",
            401 => "unauthorized",
            403 => "forbidden",
            404 => "itemNotFound",
            405 => "badMethod",
            409 => "conflictingRequest",
            413 | 429 => "overLimit",
            415 => "badMediaType",
            501 => "notImplemented",
            503 => "serviceUnavailable",
            _ => "computeFault",
        }
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let body = json!({ self.name(): { "code": self.code.as_u16(), "message": self.message } });
        (self.code, Json(body)).into_response()
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound { kind, id } => Fault::not_found(absent(kind, &id)),
            Error::Conflict(text) => Fault::conflict(text),
            taken @ (Error::Taken { .. } | Error::InUse { .. }) => Fault::conflict(taken.to_string()),
            Error::Invalid(text) => Fault::bad_request(text),
            Error::Denied(text) => Fault::forbidden(text),
            Error::Quota { resource: "VCPU" | "MEMORY_MB" | "DISK_GB", .. } => {
                Fault::bad_request("No valid host was found. No valid host found for resize")
            }
            Error::Quota { resource: "port", .. } => Fault::forbidden("Maximum number of ports exceeded"),
            Error::Quota { resource, limit, used, requested } => match storage_quota(resource, limit, used, requested) {
                Some(text) => Fault::new(StatusCode::PAYLOAD_TOO_LARGE, text),
                None => Fault::forbidden(format!(
                    "Quota exceeded for {resource}: Requested {requested}, but already used {used} of {limit} {resource}"
                )),
            },
            Error::Unavailable(text) => Fault::new(StatusCode::SERVICE_UNAVAILABLE, text),
            internal @ Error::Internal { .. } => {
                tracing::error!(error = %chain(&internal), "request failed");
                Fault::new(StatusCode::INTERNAL_SERVER_ERROR, "Unexpected API Error. The log of the controller says more.")
            }
        }
    }
}

/// What block storage says about its quotas.
fn storage_quota(resource: &str, limit: i64, used: i64, requested: i64) -> Option<String> {
    let what = match resource {
        "volumes" => return Some(format!("Maximum number of volumes allowed ({limit}) exceeded for quota '{resource}'.")),
        "snapshots" | "backups" => return Some(format!("Maximum number of {resource} allowed ({limit}) exceeded")),
        "gigabytes" => "volume or snapshot exceeds allowed gigabytes",
        "backup_gigabytes" => "backup exceeds allowed Backup gigabytes",
        _ => return None,
    };
    Some(format!("Requested {what} quota. Requested {requested}G, quota is {limit}G and {used}G has been consumed."))
}

/// The original's sentences about what is not there.
fn absent(kind: &str, id: &str) -> String {
    match kind {
        "server" => format!("Instance {id} could not be found."),
        "image" => format!("Image {id} could not be found."),
        "flavor" => format!("Flavor {id} could not be found."),
        "network" => format!("Network {id} could not be found."),
        "port" => format!("Port id {id} could not be found."),
        "security group" => format!("Security group {id} not found."),
        "host" => format!("Compute host {id} could not be found."),
        kind => format!("{}{} {id} could not be found.", kind[..1].to_uppercase(), &kind[1..]),
    }
}

/// An error with its causes, for the log.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

pub async fn no_such_resource() -> Fault {
    Fault::not_found("The resource could not be found.")
}

pub async fn no_such_method() -> Fault {
    Fault::new(StatusCode::METHOD_NOT_ALLOWED, "The method specified is not allowed for this resource.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_refusal_has_its_code_and_key() {
        let table = [
            (Error::NotFound { kind: "server", id: "x".into() }, 404, "itemNotFound", "Instance x could not be found."),
            (Error::conflict("busy"), 409, "conflictingRequest", "busy"),
            (Error::invalid("odd"), 400, "badRequest", "odd"),
            (Error::denied("no"), 403, "forbidden", "no"),
            (
                Error::Quota { resource: "cores", limit: 20, used: 18, requested: 5 },
                403,
                "forbidden",
                "Quota exceeded for cores: Requested 5, but already used 18 of 20 cores",
            ),
            (Error::unavailable("later"), 503, "serviceUnavailable", "later"),
            (Error::internal("secret"), 500, "computeFault", "Unexpected API Error. The log of the controller says more."),
        ];
        for (error, code, name, message) in table {
            let fault = Fault::from(error);
            assert_eq!((fault.code.as_u16(), fault.name(), fault.message.as_str()), (code, name, message));
        }
    }
}
