//! Request bodies in JSON, refused in Glance's words.

use axum::body::Bytes;
use serde_json::{Map, Value};

use crate::error::{ApiError, Result};

/// Any object or array.
pub fn parse(body: &Bytes) -> Result<Value> {
    if body.is_empty() {
        return Err(ApiError::bad_request("Body expected in request."));
    }
    match serde_json::from_slice(body) {
        Ok(value @ (Value::Object(_) | Value::Array(_))) => Ok(value),
        Ok(_) => Err(ApiError::bad_request("Unexpected body type. Expected list/dict.")),
        Err(_) => Err(ApiError::bad_request("Malformed JSON in request body.")),
    }
}

/// An object of the schema `schema`.
pub fn object(body: &Bytes, schema: &str) -> Result<Map<String, Value>> {
    match parse(body)? {
        Value::Object(object) => Ok(object),
        other => Err(mismatch(schema, format!("{other} is not of type 'object'"))),
    }
}

/// The refusal of a value that does not follow its schema.
pub fn mismatch(schema: &str, reason: impl std::fmt::Display) -> ApiError {
    ApiError::bad_request(format!("Provided object does not match schema '{schema}': {reason}"))
}
