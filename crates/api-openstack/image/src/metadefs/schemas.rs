//! The JSON schemas of metadata definitions; requests are held against them.

use axum::Json;
use axum::extract::Path;
use serde_json::{Value, json};
use unkai_openstack::Caller;

use crate::error::{ApiError, Result};
use crate::schemas::collection;

pub async fn show(_: Caller, Path(name): Path<String>) -> Result<Json<Value>> {
    let schema = match name.as_str() {
        "namespace" => namespace(),
        "namespaces" => collection("namespaces", namespace()),
        "resource_type" => resource_type(),
        "resource_types" => collection("resource_type_associations", resource_type()),
        "object" => object(),
        "objects" => collection("objects", object()),
        "property" => named_property(),
        "properties" => properties(),
        "tag" => tag(),
        "tags" => collection("tags", tag()),
        _ => return Err(ApiError::not_found("The resource could not be found.")),
    };
    Ok(Json(schema))
}

fn text(most: u32) -> Value {
    json!({ "type": "string", "maxLength": most })
}

fn strings() -> Value {
    json!({ "type": "array", "items": { "type": "string" }, "uniqueItems": true })
}

/// Set by the service; allowed in requests where the original ignores them.
fn kept() -> [(&'static str, Value); 2] {
    [("created_at", json!({ "type": "string", "readOnly": true })), ("updated_at", json!({ "type": "string", "readOnly": true }))]
}

fn schema<const N: usize>(name: &str, required: Value, fields: [(&str, Value); N]) -> Value {
    let mut properties: serde_json::Map<String, Value> = fields.into_iter().map(|(name, field)| (name.to_owned(), field)).collect();
    properties.extend(kept().map(|(name, field)| (name.to_owned(), field)));
    json!({ "name": name, "properties": properties, "required": required, "additionalProperties": false })
}

/// One property, as a JSON schema of its own.
fn property_fields() -> Value {
    let types = json!(["array", "boolean", "integer", "number", "object", "string", null]);
    let count = json!({ "type": "integer", "minimum": 0 });
    json!({
        "name": text(80),
        "title": { "type": "string" },
        "description": { "type": "string" },
        "operators": { "type": "array", "items": { "type": "string" } },
        "type": { "type": "string", "enum": types },
        "required": strings(),
        "minimum": { "type": "number" },
        "maximum": { "type": "number" },
        "maxLength": count,
        "minLength": count,
        "pattern": { "type": "string", "format": "regex" },
        "enum": { "type": "array" },
        "readonly": { "type": "boolean" },
        "default": {},
        "items": { "type": "object", "properties": { "type": { "type": "string", "enum": types }, "enum": { "type": "array" } } },
        "maxItems": count,
        "minItems": count,
        "uniqueItems": { "type": "boolean", "default": false },
        "additionalItems": { "type": "boolean" },
    })
}

/// Properties by name, inside of a namespace or an object.
fn property_map() -> Value {
    let property = json!({ "type": "object", "required": ["title", "type"], "properties": property_fields() });
    json!({ "type": "object", "additionalProperties": property })
}

pub fn named_property() -> Value {
    json!({
        "name": "property",
        "properties": property_fields(),
        "required": ["type", "title", "name"],
        "additionalProperties": false,
    })
}

fn properties() -> Value {
    let mut whole = collection("properties", json!({}));
    whole["properties"]["properties"] = property_map();
    whole
}

pub fn object() -> Value {
    let read_only = json!({ "type": "string", "readOnly": true });
    schema(
        "object",
        json!(["name"]),
        [
            ("name", text(80)),
            ("description", json!({ "type": "string" })),
            ("required", strings()),
            ("properties", property_map()),
            ("schema", read_only.clone()),
            ("self", read_only),
        ],
    )
}

pub fn tag() -> Value {
    schema("tag", json!(["name"]), [("name", text(80))])
}

pub fn tag_list() -> Value {
    let tag = json!({ "type": "object", "properties": { "name": text(80) }, "required": ["name"], "additionalProperties": false });
    json!({
        "name": "tags",
        "properties": { "tags": { "type": "array", "items": tag } },
        "required": ["tags"],
        "additionalProperties": false,
    })
}

pub fn resource_type() -> Value {
    let fields = [("name", text(80)), ("prefix", text(80)), ("properties_target", text(80))];
    schema("resource_type_association", json!(["name"]), fields)
}

pub fn namespace() -> Value {
    let read_only = json!({ "type": "string", "readOnly": true });
    let of = |mut inner: Value| {
        inner["type"] = json!("object");
        json!({ "type": "array", "items": inner })
    };
    schema(
        "namespace",
        json!(["namespace"]),
        [
            ("namespace", text(80)),
            ("display_name", text(80)),
            ("description", text(500)),
            ("visibility", json!({ "type": "string", "enum": ["public", "private"] })),
            ("protected", json!({ "type": "boolean" })),
            ("owner", text(255)),
            ("schema", read_only.clone()),
            ("self", read_only),
            ("resource_type_associations", of(resource_type())),
            ("properties", property_map()),
            ("objects", of(object())),
            ("tags", of(tag())),
        ],
    )
}
