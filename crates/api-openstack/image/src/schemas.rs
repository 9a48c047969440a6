//! The JSON schemas of what this service speaks: `/v2/schemas/...`.

use axum::Json;
use axum::extract::Path;
use serde_json::{Map, Value, json};
use unkai_model::image::{ContainerFormat, DiskFormat, ImageState, MemberStatus, TaskState, Visibility};
use unkai_openstack::Caller;

use crate::error::{ApiError, Result};

pub async fn show(_: Caller, Path(name): Path<String>) -> Result<Json<Value>> {
    let schema = match name.as_str() {
        "image" => image(),
        "images" => collection("images", image()),
        "member" => strict("member", member()),
        "members" => collection("members", strict("member", member())),
        "task" => strict("task", task()),
        "tasks" => collection("tasks", strict("task", task_stub())),
        _ => return Err(ApiError::not_found("The resource could not be found.")),
    };
    Ok(Json(schema))
}

const UUID: &str = "^([0-9a-fA-F]){8}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){12}$";

fn image() -> Value {
    let mut properties = identity();
    properties.extend(formats());
    properties.extend(kept_by_the_service());
    json!({
        "name": "image",
        "properties": properties,
        "additionalProperties": { "type": "string" },
        "links": [
            { "rel": "self", "href": "{self}" },
            { "rel": "enclosure", "href": "{file}" },
            { "rel": "describedby", "href": "{schema}" },
        ],
    })
}

fn identity() -> Map<String, Value> {
    let visibility: Vec<_> = Visibility::ALL.iter().map(|one| one.as_str()).collect();
    properties([
        ("id", json!({ "type": "string", "description": "The id of the image", "pattern": UUID })),
        ("name", json!({ "type": ["null", "string"], "description": "A name for people", "maxLength": 255 })),
        ("owner", json!({ "type": ["null", "string"], "description": "The project that owns the image", "maxLength": 255 })),
        ("visibility", json!({ "type": "string", "description": "Who may see and use the image", "enum": visibility })),
        ("protected", json!({ "type": "boolean", "description": "If true, the image cannot be deleted." })),
        ("os_hidden", json!({ "type": "boolean", "description": "If true, the image is not in lists unless asked for." })),
        (
            "tags",
            json!({
                "type": "array", "description": "Words attached to the image", "items": { "type": "string", "maxLength": 255 },
            }),
        ),
    ])
}

fn formats() -> Map<String, Value> {
    let nullable = |names: Vec<&'static str>| std::iter::once(Value::Null).chain(names.into_iter().map(Value::from)).collect::<Vec<_>>();
    let disk = nullable(DiskFormat::ALL.iter().map(|one| one.as_str()).collect());
    let container = nullable(ContainerFormat::ALL.iter().map(|one| one.as_str()).collect());
    properties([
        ("disk_format", json!({ "type": ["null", "string"], "description": "What the bytes are", "enum": disk })),
        ("container_format", json!({ "type": ["null", "string"], "description": "What the bytes are wrapped in", "enum": container })),
        ("min_ram", json!({ "type": "integer", "description": "Memory that a server needs, in MB" })),
        ("min_disk", json!({ "type": "integer", "description": "Disk that a server needs, in GB" })),
        (
            "locations",
            json!({
                "type": "array",
                "description": "Where the bytes are; not shown by this cloud",
                "items": {
                    "type": "object",
                    "required": ["url", "metadata"],
                    "properties": { "url": { "type": "string", "maxLength": 255 }, "metadata": { "type": "object" } },
                },
            }),
        ),
    ])
}

fn kept_by_the_service() -> Map<String, Value> {
    let states: Vec<_> = ImageState::ALL.iter().map(|one| one.as_str()).chain(["killed", "deleted", "pending_delete"]).collect();
    let read_only = |kind: Value, description: &str| json!({ "type": kind, "readOnly": true, "description": description });
    let limited = |description: &str, length: u32| json!({ "type": ["null", "string"], "readOnly": true, "description": description, "maxLength": length });
    properties([
        ("status", json!({ "type": "string", "readOnly": true, "description": "What became of the image", "enum": states })),
        ("checksum", limited("MD5 of the bytes", 32)),
        ("os_hash_algo", limited("The algorithm of os_hash_value", 64)),
        ("os_hash_value", limited("The digest of the bytes", 128)),
        ("size", read_only(json!(["null", "integer"]), "Length of the file in bytes")),
        ("virtual_size", read_only(json!(["null", "integer"]), "Size of the disk that the file describes, in bytes")),
        ("created_at", read_only(json!("string"), "When the image was made")),
        ("updated_at", read_only(json!("string"), "When the image was last changed")),
        ("direct_url", read_only(json!("string"), "Where the bytes are; not shown by this cloud")),
        ("self", read_only(json!("string"), "The URL of the image")),
        ("file", read_only(json!("string"), "The URL of the bytes")),
        ("schema", read_only(json!("string"), "The URL of this schema")),
        ("stores", read_only(json!("string"), "Names of stores; this cloud has one store without a name")),
    ])
}

fn member() -> Map<String, Value> {
    let states: Vec<_> = MemberStatus::ALL.iter().map(|one| one.as_str()).collect();
    properties([
        ("member_id", json!({ "type": "string", "description": "The project that the image is shared with" })),
        ("image_id", json!({ "type": "string", "description": "The id of the image", "pattern": UUID })),
        ("status", json!({ "type": "string", "description": "What the member made of the offer", "enum": states })),
        ("created_at", json!({ "type": "string", "description": "When the member was added" })),
        ("updated_at", json!({ "type": "string", "description": "When the member was last changed" })),
        ("schema", json!({ "type": "string", "readOnly": true })),
    ])
}

fn task_stub() -> Map<String, Value> {
    let states: Vec<_> = TaskState::ALL.iter().map(|one| one.as_str()).collect();
    properties([
        ("id", json!({ "type": "string", "description": "The id of the task", "pattern": UUID })),
        ("type", json!({ "type": "string", "description": "What the task does" })),
        ("status", json!({ "type": "string", "description": "How far the task is", "enum": states })),
        ("owner", json!({ "type": ["null", "string"], "description": "The project of the task" })),
        ("expires_at", json!({ "type": ["null", "string"], "description": "When the task may be forgotten" })),
        ("created_at", json!({ "type": "string", "description": "When the task was made" })),
        ("updated_at", json!({ "type": "string", "description": "When the task was last changed" })),
        ("self", json!({ "type": "string", "readOnly": true })),
        ("schema", json!({ "type": "string", "readOnly": true })),
    ])
}

fn task() -> Map<String, Value> {
    let mut properties = task_stub();
    properties.extend(self::properties([
        ("input", json!({ "type": ["null", "object"], "description": "What was asked for" })),
        ("result", json!({ "type": ["null", "object"], "description": "What came of it" })),
        ("message", json!({ "type": "string", "description": "Why it failed" })),
    ]));
    properties
}

fn properties<const N: usize>(list: [(&str, Value); N]) -> Map<String, Value> {
    list.into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect()
}

pub fn strict(name: &str, properties: Map<String, Value>) -> Value {
    json!({ "name": name, "properties": properties, "additionalProperties": false })
}

pub fn collection(name: &str, item: Value) -> Value {
    json!({
        "name": name,
        "properties": {
            name: { "type": "array", "items": item },
            "first": { "type": "string" },
            "next": { "type": "string" },
            "schema": { "type": "string" },
        },
        "links": [
            { "rel": "first", "href": "{first}" },
            { "rel": "next", "href": "{next}" },
            { "rel": "describedby", "href": "{schema}" },
        ],
    })
}
