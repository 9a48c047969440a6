//! Holds a value against a JSON schema: the words that the schemas of metadata definitions use.

use serde_json::{Map, Value};

use crate::error::Result;
use crate::json::mismatch;

/// The object, if it follows the schema called `name`.
pub fn object<'a>(name: &str, schema: &Value, value: &'a Value) -> Result<&'a Map<String, Value>> {
    match (problem(schema, value), value.as_object()) {
        (None, Some(object)) => Ok(object),
        (reason, _) => Err(mismatch(name, reason.unwrap_or_else(|| format!("{value} is not of type 'object'")))),
    }
}

/// What is wrong with the value; none when nothing is.
fn problem(schema: &Value, value: &Value) -> Option<String> {
    wrong_type(schema, value)
        .or_else(|| wrong_choice(schema, value))
        .or_else(|| too_long(schema, value))
        .or_else(|| too_small(schema, value))
        .or_else(|| value.as_array().and_then(|items| items.iter().find_map(|item| problem(&schema["items"], item))))
        .or_else(|| value.as_object().and_then(|object| object_problem(schema, object)))
}

fn wrong_type(schema: &Value, value: &Value) -> Option<String> {
    let wanted: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => return None,
    };
    let fits = wanted.iter().any(|kind| match *kind {
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        _ => false,
    });
    (!fits).then(|| format!("{value} is not of type '{}'", wanted.join("', '")))
}

fn wrong_choice(schema: &Value, value: &Value) -> Option<String> {
    let choices = schema["enum"].as_array()?;
    (!choices.contains(value)).then(|| format!("{value} is not one of {}", schema["enum"]))
}

fn too_long(schema: &Value, value: &Value) -> Option<String> {
    let (most, text) = (schema["maxLength"].as_u64()?, value.as_str()?);
    (text.chars().count() as u64 > most).then(|| format!("{value} is too long"))
}

fn too_small(schema: &Value, value: &Value) -> Option<String> {
    let (least, number) = (schema["minimum"].as_f64()?, value.as_f64()?);
    (number < least).then(|| format!("{value} is less than the minimum of {least}"))
}

fn object_problem(schema: &Value, object: &Map<String, Value>) -> Option<String> {
    let missing = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).find(|name| !object.contains_key(*name));
    if let Some(missing) = missing {
        return Some(format!("'{missing}' is a required property"));
    }
    object.iter().find_map(|(name, value)| match (schema["properties"].get(name), &schema["additionalProperties"]) {
        (Some(known), _) => problem(known, value),
        (None, Value::Bool(false)) => Some(format!("Additional properties are not allowed ('{name}' was unexpected)")),
        (None, other @ Value::Object(_)) => problem(other, value),
        (None, _) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_words_of_the_schemas() {
        let schema = json!({
            "type": "object",
            "required": ["name"],
            "additionalProperties": false,
            "properties": {
                "name": { "type": "string", "maxLength": 3 },
                "kind": { "type": ["string", "null"], "enum": ["a", null] },
                "size": { "type": "integer", "minimum": 0 },
                "list": { "type": "array", "items": { "type": "string" } },
                "map": { "type": "object", "additionalProperties": { "type": "object", "required": ["title"] } },
            },
        });
        let good = json!({ "name": "abc", "kind": null, "size": 0, "list": ["x"], "map": { "x": { "title": 1 } } });
        assert!(object("s", &schema, &good).is_ok());
        for bad in [
            json!([]),
            json!({}),
            json!({ "name": "abcd" }),
            json!({ "name": 1 }),
            json!({ "name": "a", "kind": "b" }),
            json!({ "name": "a", "size": -1 }),
            json!({ "name": "a", "size": 1.5 }),
            json!({ "name": "a", "list": ["x", 1] }),
            json!({ "name": "a", "map": { "x": {} } }),
            json!({ "name": "a", "other": 1 }),
        ] {
            assert_eq!(object("s", &schema, &bad).unwrap_err().status, 400, "{bad}");
        }
    }
}
