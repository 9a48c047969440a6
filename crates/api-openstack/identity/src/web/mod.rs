//! What every handler of this dialect uses: refusals, bodies, queries, lists.

pub mod body;
pub mod error;
pub mod list;
pub mod who;

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::Value;

pub use body::{Is, Json, Part, check};
pub use error::{Answer, Refusal};
pub use list::Params;
pub use who::Who;

/// An answer with a JSON body.
pub fn reply(status: StatusCode, body: &Value) -> Response {
    (status, axum::Json(body)).into_response()
}

pub fn ok(body: &Value) -> Response {
    reply(StatusCode::OK, body)
}

pub fn created(body: &Value) -> Response {
    reply(StatusCode::CREATED, body)
}

pub fn no_content() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

/// Attributes that are only kept, below those that are known.
pub fn shown(extra: &unkai_model::identity::Extra, known: Value) -> Value {
    let mut body = serde_json::Map::from_iter(extra.iter().map(|(name, value)| (name.clone(), value.clone())));
    if let Value::Object(known) = known {
        body.extend(known);
    }
    Value::Object(body)
}
