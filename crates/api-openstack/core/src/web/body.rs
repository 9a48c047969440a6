//! The body of a request: JSON, of bounded size, validated before anything else looks at it.

use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde_json::Value;

use super::schema::Schema;
use super::{Fault, Microversion};

/// The largest body the original accepts.
const LIMIT: usize = 114_688;

/// A JSON body as it came; null when there was none. Use [`Body::validated`] to get at it.
#[derive(Debug)]
pub struct Body(Value);

impl Body {
    /// The body, when it is what `schema` says at this microversion.
    pub fn validated(self, schema: &Schema, version: Microversion) -> Result<Value, Fault> {
        schema.check_body(&self.0, version)?;
        Ok(self.0)
    }

    /// For the dispatcher of actions, which must look at the key before it knows the schema.
    pub fn unchecked(self) -> Value {
        self.0
    }
}

impl<S: Sync> FromRequest<S> for Body {
    type Rejection = Response;

    async fn from_request(request: Request, _: &S) -> Result<Self, Response> {
        read(request).await.map(Body).map_err(IntoResponse::into_response)
    }
}

async fn read(request: Request) -> Result<Value, Fault> {
    let is_json = match request.headers().get(header::CONTENT_TYPE).map(|v| v.to_str().unwrap_or("?")) {
        Some(kind) => kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json")),
        None => true,
    };
    let bytes = axum::body::to_bytes(request.into_body(), LIMIT)
        .await
        .map_err(|_| Fault::new(StatusCode::PAYLOAD_TOO_LARGE, "Request is too large."))?;
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    if !is_json {
        return Err(Fault::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Unsupported Content-Type"));
    }
    serde_json::from_slice(&bytes).map_err(|_| Fault::bad_request("Malformed request body"))
}
