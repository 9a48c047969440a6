//! Refusals as Glance words them.
//!
//! An error is made without knowing the request; [`render`] then writes it the way the client accepts: JSON, HTML or plain text.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use unkai_model::Error;

use crate::bytes::BytesError;

/// One refusal.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiError {
    pub status: StatusCode,
    pub text: String,
    header: Option<(HeaderName, HeaderValue)>,
}

pub type Result<T, E = ApiError> = std::result::Result<T, E>;

macro_rules! refusals {
    ($($name:ident $status:ident),* $(,)?) => { $(
        pub fn $name(text: impl Into<String>) -> Self {
            Self::new(StatusCode::$status, text)
        }
    )* };
}

impl ApiError {
    refusals! {
        bad_request BAD_REQUEST, forbidden FORBIDDEN, not_found NOT_FOUND, conflict CONFLICT, gone GONE, too_large PAYLOAD_TOO_LARGE,
        unsupported UNSUPPORTED_MEDIA_TYPE, bad_range RANGE_NOT_SATISFIABLE,
    }

    pub fn new(status: StatusCode, text: impl Into<String>) -> Self {
        ApiError { status, text: text.into(), header: None }
    }

    /// The refusal for an image that is not there, or not for this caller.
    pub fn no_image(id: impl std::fmt::Display) -> Self {
        Self::not_found(format!("No image found with ID {id}"))
    }

    /// The refusal of a policy by its name.
    pub fn policy(rule: &str) -> Self {
        Self::forbidden(format!("You are not authorized to complete {rule} action."))
    }

    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.header = Some((name, value));
        self
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound { kind: "image", id } => Self::no_image(id),
            Error::NotFound { .. } => Self::not_found(error.to_string()),
            Error::Conflict(_) | Error::InUse { .. } => Self::conflict(error.to_string()),
            Error::Taken { namespace: "image", key, .. } => Self::conflict(format!("Image ID {key} already exists!")),
            Error::Taken { .. } => Self::conflict(error.to_string()),
            Error::Invalid(text) => Self::bad_request(text),
            Error::Denied(text) => Self::forbidden(text),
            Error::Quota { resource, limit, used, requested } => Self::too_large(format!(
                "Request exceeds the {resource} limit of the project: limit {limit}, used {used}, requested {requested}"
            )),
            Error::Unavailable(text) => Self::new(StatusCode::SERVICE_UNAVAILABLE, text),
            Error::Internal { .. } => {
                tracing::error!(error = chain(&error), "image request failed");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, DEFECT)
            }
        }
    }
}

impl From<BytesError> for ApiError {
    fn from(error: BytesError) -> Self {
        match error {
            BytesError::TooLarge { .. } | BytesError::Full => Self::too_large(error.to_string()),
            BytesError::Refused(_) => Self::unsupported(error.to_string()),
            BytesError::Broken(_) => Self::bad_request(error.to_string()),
            BytesError::Io { .. } => {
                tracing::error!(error = chain(&error), "image data could not be stored");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, DEFECT)
            }
            BytesError::Store(error) => error.into(),
        }
    }
}

const DEFECT: &str = "The server has either erred or is incapable of performing the requested operation.";

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    text
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        if let Some((name, value)) = self.header.clone() {
            response.headers_mut().insert(name, value);
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// Middleware: writes the body of a refusal in the form that the client accepts.
pub async fn render(request: Request, next: Next) -> Response {
    let accept = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("*/*").to_owned();
    let head = request.method() == Method::HEAD;
    let mut response = next.run(request).await;
    if let Some(error) = response.extensions_mut().remove::<ApiError>() {
        let (content_type, body) = body(&error, &accept);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        *response.body_mut() = if head { axum::body::Body::empty() } else { body.into() };
    }
    response
}

fn body(error: &ApiError, accept: &str) -> (&'static str, String) {
    let title = error.status.canonical_reason().unwrap_or("Error");
    let status = format!("{} {title}", error.status.as_u16());
    let text = &error.text;
    if accepts(accept, "text/html") && !prefers_json(accept) {
        let text = escape(text);
        let html = format!(
            "<html>\n <head>\n  <title>{status}</title>\n </head>\n <body>\n  <h1>{status}</h1>\n  {text}<br /><br />\n\n\n\n </body>\n</html>"
        );
        ("text/html; charset=UTF-8", html)
    } else if accept.trim().is_empty() || accepts(accept, "application/json") {
        // The common SDK uploads with an empty Accept and shows the reason only if it comes as JSON.
        let message = format!("{text}<br /><br />\n\n\n");
        ("application/json", serde_json::json!({ "message": message, "code": status, "title": title }).to_string())
    } else {
        ("text/plain; charset=UTF-8", format!("{status}\n\n{text}\n\n\n\n\n"))
    }
}

fn accepts(accept: &str, wanted: &str) -> bool {
    let family = wanted.split('/').next().unwrap_or(wanted);
    media_types(accept).any(|one| one == "*/*" || one == wanted || one.strip_suffix("/*") == Some(family))
}

/// JSON is named and HTML is not.
fn prefers_json(accept: &str) -> bool {
    media_types(accept).any(|one| one == "application/json") && !media_types(accept).any(|one| one == "text/html")
}

fn media_types(accept: &str) -> impl Iterator<Item = &str> {
    accept.split(',').map(|one| one.split(';').next().unwrap_or("").trim())
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#x27;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_follows_the_accept_header() {
        let error = ApiError::no_image("<x>");
        assert!(body(&error, "*/*").1.contains("No image found with ID &lt;x&gt;<br />"));
        let (kind, json) = body(&error, "application/json");
        assert_eq!(kind, "application/json");
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["message"], "No image found with ID <x><br /><br />\n\n\n");
        assert_eq!(json["code"], "404 Not Found");
        assert_eq!(body(&error, "").0, "application/json");
        assert_eq!(body(&error, "image/png").0, "text/plain; charset=UTF-8");
        assert_eq!(body(&error, "application/json, */*").0, "application/json");
    }

    #[test]
    fn faults_of_ours_say_nothing_to_the_caller() {
        let error = ApiError::from(Error::internal("disk /secret is broken"));
        assert_eq!(error.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(!error.text.contains("secret"));
    }
}
