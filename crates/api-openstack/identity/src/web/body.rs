//! Request bodies: JSON, checked against a short list of fields.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use http::StatusCode;
use serde_json::{Map, Value};
use unkai_openstack::Cloud;

use super::Refusal;

/// Larger bodies are refused; images do not come this way.
const LARGEST_BODY: usize = 112 << 10;

/// The body of a request, as a JSON object.
pub struct Json(pub Value);

impl FromRequest<Cloud> for Json {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &Cloud) -> Result<Self, Refusal> {
        let bytes: Bytes = axum::body::to_bytes(request.into_body(), LARGEST_BODY)
            .await
            .map_err(|_| Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "Request is too large."))?;
        match serde_json::from_slice(&bytes) {
            Ok(value @ Value::Object(_)) => Ok(Json(value)),
            _ => Err(Refusal::missing("valid JSON", "request body")),
        }
    }
}

impl Json {
    /// The object under `name`, checked.
    pub fn part(self, name: &str, fields: &'static [Field], extra: Extra) -> Result<Part, Refusal> {
        let Value::Object(mut body) = self.0 else { return Err(Refusal::missing(name, "request body")) };
        match body.remove(name) {
            Some(Value::Object(map)) => {
                check(&map, fields, extra)?;
                Ok(Part { map, fields })
            }
            Some(other) => Err(Refusal::invalid(format!("{other} is not of type 'object'"))),
            None => Err(Refusal::missing(name, "request body")),
        }
    }
}

/// A checked object of a request.
#[derive(Debug, Clone)]
pub struct Part {
    map: Map<String, Value>,
    fields: &'static [Field],
}

impl Part {
    pub fn has(&self, name: &str) -> bool {
        self.map.contains_key(name)
    }
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.map.get(name)
    }
    /// The text; none also when null.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.map.get(name).and_then(Value::as_str)
    }
    pub fn flag(&self, name: &str) -> Option<bool> {
        self.map.get(name).and_then(Value::as_bool)
    }
    pub fn list(&self, name: &str) -> Option<&Vec<Value>> {
        self.map.get(name).and_then(Value::as_array)
    }
    pub fn object(&self, name: &str) -> Option<&Map<String, Value>> {
        self.map.get(name).and_then(Value::as_object)
    }
    /// What was sent beside the known fields.
    pub fn rest(&self) -> impl Iterator<Item = (String, Value)> + '_ {
        let known = |name: &str| name == "id" || name == "links" || self.fields.iter().any(|field| field.name == name);
        self.map.iter().filter(move |(name, _)| !known(name)).map(|(name, value)| (name.clone(), value.clone()))
    }
    /// An id in the body must be the one in the path.
    pub fn is_about(&self, noun: &str, id: &str) -> Result<(), Refusal> {
        match self.text("id") {
            Some(said) if said != id => Err(Refusal::invalid(format!("Cannot change {noun} ID"))),
            _ => Ok(()),
        }
    }
    /// Puts the `options` of the request into those that are there; null takes one away.
    pub fn merge_options(&self, options: &mut std::collections::BTreeMap<String, Value>) {
        for (name, value) in self.object("options").into_iter().flatten() {
            match value {
                Value::Null => options.remove(name),
                value => options.insert(name.clone(), value.clone()),
            };
        }
    }
    /// Refuses to change something immutable, unless the change is that it no longer is.
    pub fn respects(&self, immutable: bool, noun: &str, id: &str) -> Result<(), Refusal> {
        let freed = self.object("options").and_then(|options| options.get("immutable")).is_some_and(|is| is != &Value::Bool(true));
        if immutable && !freed { Err(immutable_refusal("update", noun, id)) } else { Ok(()) }
    }
}

/// The answer to changing or deleting what its options protect.
pub fn immutable_refusal(action: &str, noun: &str, id: &str) -> Refusal {
    let text = format!("Unable to {action} immutable {noun} resource: `{id}`. Set resource option \"immutable\" to false first.");
    Refusal::denied(text)
}

/// Options are true, false or null, and only the known ones.
pub fn check_options(part: &Part, known: &[&str]) -> Result<(), Refusal> {
    for (name, value) in part.object("options").into_iter().flatten() {
        if !known.contains(&name.as_str()) {
            return Err(Refusal::invalid(format!("Additional properties are not allowed ('{name}' was unexpected)")));
        }
        let good = if name == "multi_factor_auth_rules" { value.is_array() } else { value.is_boolean() };
        if !good && !value.is_null() {
            return Err(Refusal::invalid(format!("Invalid input for field 'options.{name}': {value} is not of the right type")));
        }
    }
    Ok(())
}

/// What a field may hold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Is {
    /// Text with something to see in it, of at most so many characters.
    Name(usize),
    Text,
    NullText,
    Bool,
    /// An identifier: letters, digits, dash, underscore.
    Id,
    NullId,
    Object,
    List,
    Url,
    OneOf(&'static [&'static str]),
    NullTime,
    Any,
}

/// May there be fields that are not in the list?
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Extra {
    Allowed,
    Refused,
}

#[derive(Debug, Clone, Copy)]
pub struct Field {
    pub name: &'static str,
    pub is: Is,
    pub required: bool,
}

pub const fn must(name: &'static str, is: Is) -> Field {
    Field { name, is, required: true }
}

pub const fn may(name: &'static str, is: Is) -> Field {
    Field { name, is, required: false }
}

pub fn check(object: &Map<String, Value>, fields: &[Field], extra: Extra) -> Result<(), Refusal> {
    for field in fields {
        match object.get(field.name) {
            Some(value) => {
                field.is.check(value).map_err(|why| Refusal::invalid(format!("Invalid input for field '{}': {why}", field.name)))?
            }
            None if field.required => return Err(Refusal::invalid(format!("'{}' is a required property", field.name))),
            None => {}
        }
    }
    if extra == Extra::Refused
        && let Some(name) = object.keys().find(|name| !fields.iter().any(|field| field.name == **name))
    {
        return Err(Refusal::invalid(format!("Additional properties are not allowed ('{name}' was unexpected)")));
    }
    Ok(())
}

impl Is {
    fn check(self, value: &Value) -> Result<(), String> {
        let not = |what: &str| Err(format!("{value} is not of type '{what}'"));
        match (self, value) {
            (Is::Any, _) | (Is::NullText | Is::NullId | Is::NullTime, Value::Null) => Ok(()),
            (Is::Name(most), Value::String(text)) => name(text, most),
            (Is::Text | Is::NullText, Value::String(_)) => Ok(()),
            (Is::Id | Is::NullId, Value::String(text)) => id(text),
            (Is::Bool, Value::Bool(_)) | (Is::Object, Value::Object(_)) | (Is::List, Value::Array(_)) => Ok(()),
            (Is::Url, Value::String(text)) => url(text),
            (Is::OneOf(choices), Value::String(text)) if choices.contains(&text.as_str()) => Ok(()),
            (Is::OneOf(choices), _) => Err(format!("{value} is not one of {choices:?}")),
            (Is::NullTime, Value::String(text)) => text
                .parse::<jiff::Timestamp>()
                .or_else(|_| format!("{text}Z").parse())
                .map(drop)
                .map_err(|_| format!("{text} is not a 'date-time'")),
            (Is::Bool, _) => not("boolean"),
            (Is::Object, _) => not("object"),
            (Is::List, _) => not("array"),
            _ => not("string"),
        }
    }
}

fn name(text: &str, most: usize) -> Result<(), String> {
    let long = text.chars().count();
    match () {
        () if long == 0 => Err("'' is too short".into()),
        () if long > most => Err(format!("'{text}' is too long")),
        () if text.trim().is_empty() => Err(format!("'{text}' does not match '[\\\\S]+'")),
        () => Ok(()),
    }
}

fn id(text: &str) -> Result<(), String> {
    let good = !text.is_empty() && text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if good { Ok(()) } else { Err(format!("'{text}' does not match '^[a-zA-Z0-9-]+$'")) }
}

fn url(text: &str) -> Result<(), String> {
    let rest =
        text.split_once("://").filter(|(scheme, _)| !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+'));
    match rest {
        Some((_, rest)) if !rest.is_empty() && text.len() <= 225 => Ok(()),
        _ => Err(format!("'{text}' does not match '^[a-zA-Z0-9+.-]+:.+'")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_field_takes_only_its_own() {
        let cases = [
            (Is::Name(4), json!("abcd"), true),
            (Is::Name(4), json!("abcde"), false),
            (Is::Name(4), json!(" "), false),
            (Is::Name(4), json!(""), false),
            (Is::Name(4), json!(4), false),
            (Is::Bool, json!(true), true),
            (Is::Bool, json!("true"), false),
            (Is::NullId, json!(null), true),
            (Is::Id, json!(null), false),
            (Is::Id, json!("a b"), false),
            (Is::Url, json!("http://x/$(project_id)s"), true),
            (Is::Url, json!("x"), false),
            (Is::OneOf(&["a"]), json!("b"), false),
            (Is::NullTime, json!("2026-01-01T00:00:00.000000"), true),
            (Is::NullTime, json!("soon"), false),
            (Is::Object, json!([]), false),
        ];
        for (is, value, good) in cases {
            assert_eq!(is.check(&value).is_ok(), good, "{is:?} {value}");
        }
    }

    #[test]
    fn unknown_fields_are_refused_only_where_asked() {
        let object = json!({"a": "x", "b": 1});
        let object = object.as_object().unwrap();
        assert!(check(object, &[must("a", Is::Text)], Extra::Allowed).is_ok());
        assert!(check(object, &[must("a", Is::Text)], Extra::Refused).is_err());
        assert_eq!(check(object, &[must("c", Is::Any)], Extra::Allowed).unwrap_err().message, "'c' is a required property");
    }
}
