//! The properties of an image by name: which there are, who may set them, and what they may hold.

use serde_json::Value;
use unkai_model::image::{ContainerFormat, DiskFormat, ImageSpec, Visibility};

use crate::error::{ApiError, Result};
use crate::json::mismatch;

/// Kept by the service.
const READ_ONLY: [&str; 14] = [
    "created_at",
    "updated_at",
    "status",
    "checksum",
    "size",
    "virtual_size",
    "direct_url",
    "self",
    "file",
    "schema",
    "stores",
    "id",
    "os_hash_algo",
    "os_hash_value",
];
/// Names that mean something to the service and are no properties.
const RESERVED: [&str; 3] = ["location", "deleted", "deleted_at"];
const RESERVED_PREFIX: &str = "os_glance";

/// Properties that have a place of their own, settable ones only. All others are custom.
const BASE: [&str; 11] = [
    "name",
    "visibility",
    "protected",
    "os_hidden",
    "owner",
    "container_format",
    "disk_format",
    "min_ram",
    "min_disk",
    "tags",
    "locations",
];

pub const MAX_PROPERTIES: usize = 128;
pub const MAX_TAGS: usize = 128;
pub const MAX_MEMBERS: usize = 128;
const MAX_TEXT: usize = 255;

pub fn is_base(name: &str) -> bool {
    BASE.contains(&name) || READ_ONLY.contains(&name)
}

/// 403 for names that callers may not set. `creating`: the id may be chosen then.
pub fn check_settable(name: &str, creating: bool) -> Result<()> {
    if READ_ONLY.contains(&name) && !(creating && name == "id") {
        return Err(ApiError::forbidden(format!("Attribute '{name}' is read-only.")));
    }
    if RESERVED.contains(&name) || name.starts_with(RESERVED_PREFIX) || (creating && name == "locations") {
        return Err(ApiError::forbidden(format!("Attribute '{name}' is reserved.")));
    }
    Ok(())
}

/// 400 for values that the image schema does not allow under this name.
pub fn check_value(name: &str, value: &Value) -> Result<()> {
    let problem = match name {
        "name" | "owner" | "checksum" | "os_hash_algo" | "os_hash_value" => nullable_text(value),
        "id" => id(value),
        "visibility" => one_of(value, names(Visibility::ALL), false),
        "disk_format" => one_of(value, names(DiskFormat::ALL), true),
        "container_format" => one_of(value, names(ContainerFormat::ALL), true),
        "protected" | "os_hidden" => of_type(value, value.is_boolean(), "boolean"),
        "min_ram" | "min_disk" => of_type(value, value.is_i64() || value.is_u64(), "integer"),
        "size" | "virtual_size" => of_type(value, value.is_i64() || value.is_u64() || value.is_null(), "null', 'integer"),
        "tags" => tags(value),
        "locations" => of_type(value, value.is_array(), "array"),
        _ => of_type(value, value.is_string(), "string"),
    };
    problem.map_or(Ok(()), |reason| Err(mismatch("image", reason)))
}

/// 413 when there are more properties or tags than one image may have.
pub fn check_counts(spec: &ImageSpec) -> Result<()> {
    let counts = [("properties", spec.properties.len(), MAX_PROPERTIES), ("tags", spec.tags.len(), MAX_TAGS)];
    match counts.into_iter().find(|(_, count, most)| count > most) {
        Some((what, count, most)) => Err(ApiError::too_large(format!(
            "The limit has been exceeded on the number of allowed image {what}. Attempted: {count}, Maximum: {most}"
        ))),
        None => Ok(()),
    }
}

/// Sets a property of the spec to a value that [`check_value`] accepted. The owner is not part of the spec.
pub fn set(spec: &mut ImageSpec, name: &str, value: &Value) -> Result<()> {
    let text = value.as_str();
    match name {
        "visibility" => spec.visibility = text.and_then(Visibility::named).unwrap_or(spec.visibility),
        "disk_format" => spec.disk_format = text.and_then(DiskFormat::named),
        "container_format" => spec.container_format = text.and_then(ContainerFormat::named),
        "protected" => spec.protected = value.as_bool().unwrap_or(false),
        "os_hidden" => spec.hidden = value.as_bool().unwrap_or(false),
        "min_ram" => spec.min_ram_mib = amount(name, value)?,
        "min_disk" => spec.min_disk_gib = amount(name, value)?,
        "tags" => spec.tags = value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => {
            spec.properties.insert(name.to_owned(), text.unwrap_or_default().to_owned());
        }
    }
    Ok(())
}

/// What fits the database of the original.
fn amount(name: &str, value: &Value) -> Result<u64> {
    match value.as_i64() {
        Some(number @ 0..=0x7fff_ffff) => Ok(number as u64),
        Some(..0) => Err(ApiError::bad_request(format!("Invalid value '{value}' for parameter '{name}': Cannot be a negative value"))),
        _ => Err(ApiError::bad_request(format!("Invalid value '{value}' for parameter '{name}': Out of range"))),
    }
}

type Problem = Option<String>;

fn names<T: Copy + std::fmt::Display>(all: &[T]) -> Vec<String> {
    all.iter().map(T::to_string).collect()
}

fn of_type(value: &Value, is: bool, kind: &str) -> Problem {
    (!is).then(|| format!("{value} is not of type '{kind}'"))
}

fn one_of(value: &Value, allowed: Vec<String>, nullable: bool) -> Problem {
    let fits = value.as_str().is_some_and(|text| allowed.iter().any(|one| one == text)) || (nullable && value.is_null());
    (!fits).then(|| format!("{value} is not one of {allowed:?}"))
}

fn nullable_text(value: &Value) -> Problem {
    if value.is_null() { None } else { short_text(value) }
}

fn short_text(value: &Value) -> Problem {
    match value.as_str() {
        None => Some(format!("{value} is not of type 'string'")),
        Some(text) if text.chars().count() > MAX_TEXT => Some(format!("{value} is too long")),
        Some(text) if text.contains('\0') => Some("a null character is not allowed".into()),
        Some(_) => None,
    }
}

fn tags(value: &Value) -> Problem {
    match value.as_array() {
        Some(tags) => tags.iter().find_map(short_text),
        None => Some(format!("{value} is not of type 'array'")),
    }
}

fn id(value: &Value) -> Problem {
    let is_uuid = |text: &str| text.len() == 36 && uuid::Uuid::try_parse(text).is_ok();
    (!value.as_str().is_some_and(is_uuid)).then(|| format!("{value} does not match the pattern of an image id"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_by_schema() {
        let table = [
            ("name", json!(null), true),
            ("name", json!("x".repeat(256)), false),
            ("disk_format", json!("qcow2"), true),
            ("disk_format", json!(null), true),
            ("disk_format", json!("floppy"), false),
            ("visibility", json!(null), false),
            ("protected", json!("true"), false),
            ("min_ram", json!(1.5), false),
            ("min_ram", json!("1"), false),
            ("tags", json!(["a", 1]), false),
            ("id", json!("0b2b8e2e-7d3c-4b8f-9a3a-0d0e5f8c1a11"), true),
            ("id", json!("{0b2b8e2e-7d3c-4b8f-9a3a-0d0e5f8c1a11}"), false),
            ("custom", json!("x"), true),
            ("custom", json!(null), false),
            ("custom", json!(1), false),
        ];
        for (name, value, fits) in table {
            assert_eq!(check_value(name, &value).is_ok(), fits, "{name} = {value}");
        }
    }

    #[test]
    fn some_names_are_not_for_callers() {
        for name in ["status", "id", "location", "os_glance_import_task", "self"] {
            assert_eq!(check_settable(name, false).unwrap_err().status, 403, "{name}");
        }
        assert!(check_settable("id", true).is_ok());
        assert!(check_settable("hw_disk_bus", false).is_ok());
    }

    #[test]
    fn amounts_are_not_negative() {
        let mut spec = ImageSpec::default();
        assert_eq!(set(&mut spec, "min_disk", &json!(-1)).unwrap_err().status, 400);
        assert_eq!(set(&mut spec, "min_disk", &json!(1u64 << 40)).unwrap_err().status, 400);
        set(&mut spec, "min_disk", &json!(3)).unwrap();
        assert_eq!(spec.min_disk_gib, 3);
    }
}
