//! Validation of requests, as strict as the original's JSON schemas and in the same words.
//!
//! A schema is built once (`LazyLock`) and checked for a microversion: properties carry the range of versions that know them,
//! so one schema describes a request through all its history. Unknown properties are refused unless the object is open.

use std::collections::HashSet;
use std::ops::{Bound, RangeBounds};

use serde_json::Value;

use super::{Fault, Microversion};

/// What a value must look like.
#[derive(Debug, Clone)]
pub enum Schema {
    Any,
    Null,
    /// What Nova takes for a boolean: also `"True"`, `"on"`, `"0"` ...
    Boolean,
    /// A whole number, also as digits in a string.
    Integer {
        min: i64,
        max: i64,
    },
    String {
        min: usize,
        max: usize,
        format: Option<Format>,
    },
    /// One of these values.
    Enum(Vec<Value>),
    Array {
        items: Box<Schema>,
        min: usize,
        max: usize,
        unique: bool,
    },
    Object(Object),
    /// At least one of these.
    Union(Vec<Schema>),
}

/// A test of a string's content, with the words for its failure.
#[derive(Debug, Clone, Copy)]
pub struct Format {
    /// As in `'x' is not a 'uuid'`.
    pub name: &'static str,
    pub accepts: fn(&str) -> bool,
    /// The whole message, when the original has its own.
    pub message: Option<&'static str>,
}

#[derive(Debug, Clone, Default)]
pub struct Object {
    properties: Vec<Property>,
    others: Option<Others>,
    min: usize,
    max: Option<usize>,
}

/// What properties without an entry of their own must be.
#[derive(Debug, Clone)]
struct Others {
    versions: (u16, u16),
    name: fn(&str) -> bool,
    schema: Box<Schema>,
}

#[derive(Debug, Clone)]
struct Property {
    name: &'static str,
    from: u16,
    to: u16,
    required: bool,
    schema: Schema,
}

/// An object with no properties yet: `{}` and nothing else.
pub fn object() -> Object {
    Object::default()
}

impl Object {
    pub fn required(self, name: &'static str, schema: impl Into<Schema>) -> Self {
        self.property(.., name, true, schema.into())
    }
    pub fn optional(self, name: &'static str, schema: impl Into<Schema>) -> Self {
        self.property(.., name, false, schema.into())
    }
    /// Known in these minor versions only: `required_in(37.., ...)`.
    pub fn required_in(self, versions: impl RangeBounds<u16>, name: &'static str, schema: impl Into<Schema>) -> Self {
        self.property(versions, name, true, schema.into())
    }
    pub fn optional_in(self, versions: impl RangeBounds<u16>, name: &'static str, schema: impl Into<Schema>) -> Self {
        self.property(versions, name, false, schema.into())
    }
    /// Accepts any other property whose name passes and whose value is as said.
    pub fn others(self, name: fn(&str) -> bool, schema: impl Into<Schema>) -> Self {
        self.others_in(.., name, schema)
    }
    /// The same, in these minor versions only.
    pub fn others_in(mut self, versions: impl RangeBounds<u16>, name: fn(&str) -> bool, schema: impl Into<Schema>) -> Self {
        self.others = Some(Others { versions: ends(versions), name, schema: Box::new(schema.into()) });
        self
    }
    /// Accepts everything else as well.
    pub fn open(self) -> Self {
        self.others(|_| true, Schema::Any)
    }
    pub fn sizes(mut self, min: usize, max: Option<usize>) -> Self {
        (self.min, self.max) = (min, max);
        self
    }

    fn property(mut self, versions: impl RangeBounds<u16>, name: &'static str, required: bool, schema: Schema) -> Self {
        let (from, to) = ends(versions);
        self.properties.push(Property { name, from, to, required, schema });
        self
    }
}

/// First and last minor version of a range.
fn ends(versions: impl RangeBounds<u16>) -> (u16, u16) {
    let from = match versions.start_bound() {
        Bound::Included(n) => *n,
        Bound::Excluded(n) => n + 1,
        Bound::Unbounded => 0,
    };
    let to = match versions.end_bound() {
        Bound::Included(n) => *n,
        Bound::Excluded(n) => n - 1,
        Bound::Unbounded => u16::MAX,
    };
    (from, to)
}

impl From<Object> for Schema {
    fn from(object: Object) -> Self {
        Schema::Object(object)
    }
}

/// Constructors for what many requests share.
impl Schema {
    pub fn string(min: usize, max: usize) -> Schema {
        Schema::String { min, max, format: None }
    }
    pub fn text(format: Format) -> Schema {
        Schema::String { min: 0, max: usize::MAX, format: Some(format) }
    }
    pub fn uuid() -> Schema {
        Schema::text(UUID)
    }
    /// A name: 1 to 255 printable characters, no space at its ends.
    pub fn name() -> Schema {
        Schema::String { min: 1, max: 255, format: Some(NAME) }
    }
    pub fn count() -> Schema {
        Schema::Integer { min: 0, max: i64::MAX }
    }
    pub fn positive() -> Schema {
        Schema::Integer { min: 1, max: i64::MAX }
    }
    pub fn one_of<const N: usize>(words: [&str; N]) -> Schema {
        Schema::Enum(words.iter().map(|w| Value::from(*w)).collect())
    }
    pub fn list(items: impl Into<Schema>) -> Schema {
        Schema::Array { items: Box::new(items.into()), min: 0, max: usize::MAX, unique: false }
    }
    pub fn or_null(self) -> Schema {
        Schema::Union(vec![self, Schema::Null])
    }
    /// A query parameter that may come any number of times.
    pub fn many(self) -> Schema {
        Schema::list(self)
    }
    /// A query parameter that may come once.
    pub fn single(self) -> Schema {
        Schema::Array { items: Box::new(self), min: 0, max: 1, unique: false }
    }
    /// The body `{key: inner}`.
    pub fn wrapped(key: &'static str, inner: impl Into<Schema>) -> Schema {
        object().required(key, inner).into()
    }
}

/// What the original accepts as a name, leading and trailing spaces apart.
pub fn is_printable(text: &str) -> bool {
    !text.chars().any(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}'))
}

pub const UUID: Format = Format { name: "uuid", accepts: is_uuid, message: None };
pub const NAME: Format = Format {
    name: "name",
    accepts: |text| is_printable(text) && text.trim() == text && !text.is_empty(),
    message: Some("An invalid 'name' value was provided. The name must be: printable characters. Can not start or end with whitespace."),
};
pub const IPV4: Format = Format { name: "ipv4", accepts: |text| text.parse::<std::net::Ipv4Addr>().is_ok(), message: None };
pub const IPV6: Format = Format { name: "ipv6", accepts: |text| text.parse::<std::net::Ipv6Addr>().is_ok(), message: None };
pub const IP: Format = Format { name: "ip", accepts: |text| text.parse::<std::net::IpAddr>().is_ok(), message: None };
pub const DATE_TIME: Format = Format { name: "date-time", accepts: |text| super::query::time(text).is_some(), message: None };
pub const BASE64: Format = Format {
    name: "base64",
    accepts: |text| {
        use base64::Engine as _;
        let packed: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        base64::engine::general_purpose::STANDARD.decode(packed).is_ok()
    },
    message: None,
};
pub const REGEX: Format =
    Format { name: "regex", accepts: |text| regex::RegexBuilder::new(text).size_limit(1 << 20).build().is_ok(), message: None };

/// A UUID in any of the spellings that oslo accepts: with or without dashes, any case.
pub fn is_uuid(text: &str) -> bool {
    let digits = text.bytes().filter(|b| *b != b'-');
    text.len() <= 36 && digits.clone().count() == 32 && digits.clone().all(|b| b.is_ascii_hexdigit())
}

const TRUE_WORDS: [&str; 10] = ["True", "TRUE", "true", "1", "ON", "On", "on", "YES", "Yes", "yes"];
const FALSE_WORDS: [&str; 10] = ["False", "FALSE", "false", "0", "OFF", "Off", "off", "NO", "No", "no"];

/// The value of something that passed [`Schema::Boolean`].
pub fn as_bool(value: &Value) -> bool {
    match value {
        Value::Bool(value) => *value,
        Value::String(text) => TRUE_WORDS.contains(&text.as_str()),
        _ => false,
    }
}

/// The value of something that passed [`Schema::Integer`].
pub fn as_int(value: &Value) -> Option<i64> {
    match value {
        Value::String(text) => text.parse().ok(),
        other => other.as_i64(),
    }
}

/// Why and where a value is not what it must be.
struct Violation {
    path: Vec<String>,
    value: String,
    message: String,
    /// The message stands alone.
    own_words: bool,
}

impl Schema {
    pub fn check_body(&self, value: &Value, version: Microversion) -> Result<(), Fault> {
        self.check(value, version, &mut Vec::new()).map_err(|v| v.fault("field/attribute", |path| path.last()))
    }

    /// The value is an object of lists of strings.
    pub fn check_query(&self, value: &Value, version: Microversion) -> Result<(), Fault> {
        self.check(value, version, &mut Vec::new()).map_err(|v| v.fault("query parameters", |path| path.first()))
    }

    fn check(&self, value: &Value, version: Microversion, path: &mut Vec<String>) -> Result<(), Violation> {
        let wrong = |message: String| Err(Violation { path: path.clone(), value: plain(value), message, own_words: false });
        let not_type = |kind: &str| wrong(format!("{} is not of type {kind}", repr(value)));
        match self {
            Schema::Any => Ok(()),
            Schema::Null if value.is_null() => Ok(()),
            Schema::Null => not_type("'null'"),
            Schema::Boolean => match value {
                Value::Bool(_) => Ok(()),
                Value::String(text) if TRUE_WORDS.contains(&text.as_str()) || FALSE_WORDS.contains(&text.as_str()) => Ok(()),
                Value::String(_) => {
                    wrong(format!("{} is not one of [True, 'True', 'true', '1', False, 'False', 'false', '0']", repr(value)))
                }
                _ => not_type("'boolean', 'string'"),
            },
            Schema::Integer { min, max } => match number(value) {
                Some(Ok(number)) if number < i128::from(*min) => wrong(format!("{} is less than the minimum of {min}", repr(value))),
                Some(Ok(number)) if number > i128::from(*max) => wrong(format!("{} is greater than the maximum of {max}", repr(value))),
                Some(Ok(_)) => Ok(()),
                Some(Err(())) => wrong(format!("{} does not match '^-?[0-9]+$'", repr(value))),
                None => not_type("'integer', 'string'"),
            },
            Schema::String { min, max, format } => {
                let Value::String(text) = value else { return not_type("'string'") };
                let length = text.chars().count();
                if length < *min {
                    return wrong(format!("{} is too short", repr(value)));
                }
                if length > *max {
                    return wrong(format!("{} is too long", repr(value)));
                }
                match format {
                    Some(format) if !(format.accepts)(text) => {
                        let message = format.message.map_or_else(|| format!("{} is not a '{}'", repr(value), format.name), str::to_owned);
                        Err(Violation { path: path.clone(), value: plain(value), message, own_words: format.message.is_some() })
                    }
                    _ => Ok(()),
                }
            }
            Schema::Enum(words) if words.contains(value) => Ok(()),
            Schema::Enum(words) => wrong(format!("{} is not one of {}", repr(value), repr(&Value::Array(words.clone())))),
            Schema::Array { items, min, max, unique } => {
                let Value::Array(list) = value else { return not_type("'array'") };
                if list.len() < *min {
                    return wrong(format!("{} is too short", repr(value)));
                }
                if list.len() > *max {
                    return wrong(format!("{} is too long", repr(value)));
                }
                if *unique && list.iter().map(Value::to_string).collect::<HashSet<_>>().len() != list.len() {
                    return wrong(format!("{} has non-unique elements", repr(value)));
                }
                for (no, item) in list.iter().enumerate() {
                    path.push(no.to_string());
                    items.check(item, version, path)?;
                    path.pop();
                }
                Ok(())
            }
            Schema::Object(object) => object.check(value, version, path),
            Schema::Union(choices) => {
                let mut depth = path.clone();
                let failures: Vec<Violation> = choices
                    .iter()
                    .map_while(|choice| {
                        depth.truncate(path.len());
                        choice.check(value, version, &mut depth).err()
                    })
                    .collect();
                if failures.len() < choices.len() {
                    return Ok(());
                }
                // One real choice beside null: its own complaint says more.
                let real: Vec<Violation> =
                    failures.into_iter().zip(choices).filter(|(_, c)| !matches!(c, Schema::Null)).map(|(f, _)| f).collect();
                match <[Violation; 1]>::try_from(real) {
                    Ok([only]) => Err(only),
                    Err(_) => wrong(format!("{} is not valid under any of the given schemas", repr(value))),
                }
            }
        }
    }
}

impl Object {
    fn check(&self, value: &Value, version: Microversion, path: &mut Vec<String>) -> Result<(), Violation> {
        let wrong = |message: String| Violation { path: path.clone(), value: plain(value), message, own_words: false };
        let Value::Object(map) = value else { return Err(wrong(format!("{} is not of type 'object'", repr(value)))) };
        let known: Vec<&Property> = self.properties.iter().filter(|p| (p.from..=p.to).contains(&version.0)).collect();
        if let Some(missing) = known.iter().find(|p| p.required && !map.contains_key(p.name)) {
            return Err(wrong(format!("'{}' is a required property", missing.name)));
        }
        let others = self.others.as_ref().filter(|others| (others.versions.0..=others.versions.1).contains(&version.0));
        let is_strange = |key: &str| !known.iter().any(|p| p.name == key) && !others.is_some_and(|others| (others.name)(key));
        let strange: Vec<String> = map.keys().filter(|key| is_strange(key)).map(|key| repr_text(key)).collect();
        if !strange.is_empty() {
            let were = if strange.len() == 1 { "was" } else { "were" };
            return Err(wrong(format!("Additional properties are not allowed ({} {were} unexpected)", strange.join(", "))));
        }
        if map.len() < self.min {
            return Err(wrong(format!("{} does not have enough properties", repr(value))));
        }
        if self.max.is_some_and(|max| map.len() > max) {
            return Err(wrong(format!("{} has too many properties", repr(value))));
        }
        for (key, inner) in map {
            let schema = known.iter().find(|p| p.name == key).map(|p| &p.schema).or(others.map(|others| &*others.schema));
            path.push(key.clone());
            schema.expect("unknown properties were refused above").check(inner, version, path)?;
            path.pop();
        }
        Ok(())
    }
}

/// `Some(Err)`: a string that is no number. `None`: of another type.
fn number(value: &Value) -> Option<Result<i128, ()>> {
    match value {
        Value::Number(n) => n.as_i64().map(i128::from).or(n.as_u64().map(i128::from)).map(Ok),
        Value::String(text) => {
            let digits = text.strip_prefix('-').unwrap_or(text);
            let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            Some(if plain { text.parse().map_err(|_| ()) } else { Err(()) })
        }
        _ => None,
    }
}

impl Violation {
    fn fault(self, place: &str, end: fn(&[String]) -> Option<&String>) -> Fault {
        match end(&self.path) {
            _ if self.own_words => Fault::bad_request(self.message),
            Some(name) if self.value.len() <= 512 => {
                Fault::bad_request(format!("Invalid input for {place} {name}. Value: {}. {}", self.value, self.message))
            }
            Some(name) => Fault::bad_request(format!("Invalid input for {place} {name}. {}", self.message)),
            None => Fault::bad_request(self.message),
        }
    }
}

/// A value as the original's messages show it.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => repr(other),
    }
}

fn repr(value: &Value) -> String {
    match value {
        Value::Null => "None".into(),
        Value::Bool(true) => "True".into(),
        Value::Bool(false) => "False".into(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => repr_text(text),
        Value::Array(list) => format!("[{}]", list.iter().map(repr).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => {
            format!("{{{}}}", map.iter().map(|(k, v)| format!("{}: {}", repr_text(k), repr(v))).collect::<Vec<_>>().join(", "))
        }
    }
}

fn repr_text(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::from(quote);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            c if c == quote => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn server() -> Schema {
        Schema::wrapped(
            "server",
            object()
                .required("name", Schema::name())
                .optional("count", Schema::positive())
                .optional("flag", Schema::Boolean)
                .optional_in(19.., "description", Schema::string(0, 255).or_null())
                .optional_in(..=56, "personality", Schema::list(Schema::Any))
                .optional("metadata", object().others(|key| key.len() < 256, Schema::string(0, 255))),
        )
    }

    fn message(body: Value, minor: u16) -> Option<String> {
        server().check_body(&body, Microversion(minor)).err().map(|fault| fault.message)
    }

    #[test]
    fn what_is_right_passes() {
        for body in [
            json!({"server": {"name": "a"}}),
            json!({"server": {"name": "a", "count": "3", "flag": "on", "metadata": {"k": "v"}}}),
            json!({"server": {"name": "a", "count": 3, "flag": false, "description": null}}),
        ] {
            assert_eq!(message(body, 19), None);
        }
    }

    #[test]
    fn what_is_wrong_is_named_in_the_originals_words() {
        let table = [
            (json!(null), "None is not of type 'object'"),
            (json!({}), "'server' is a required property"),
            (json!({"server": {}}), "Invalid input for field/attribute server. Value: {}. 'name' is a required property"),
            (json!({"server": {"name": 5}}), "Invalid input for field/attribute name. Value: 5. 5 is not of type 'string'"),
            (json!({"server": {"name": ""}}), "Invalid input for field/attribute name. Value: . '' is too short"),
            (
                json!({"server": {"name": " a"}}),
                "An invalid 'name' value was provided. The name must be: printable characters. Can not start or end with whitespace.",
            ),
            (
                json!({"server": {"name": "a", "count": 0}}),
                "Invalid input for field/attribute count. Value: 0. 0 is less than the minimum of 1",
            ),
            (
                json!({"server": {"name": "a", "count": "many"}}),
                "Invalid input for field/attribute count. Value: many. 'many' does not match '^-?[0-9]+$'",
            ),
            (
                json!({"server": {"name": "a", "x": 1, "y": null}}),
                "Invalid input for field/attribute server. Value: {'name': 'a', 'x': 1, 'y': None}. \
                 Additional properties are not allowed ('x', 'y' were unexpected)",
            ),
            (
                json!({"server": {"name": "a", "description": 1}}),
                "Invalid input for field/attribute description. Value: 1. 1 is not of type 'string'",
            ),
        ];
        for (body, expected) in table {
            assert_eq!(message(body, 19).as_deref(), Some(expected));
        }
    }

    #[test]
    fn properties_live_in_their_versions() {
        let described = json!({"server": {"name": "a", "description": "d"}});
        assert!(message(described.clone(), 18).unwrap().contains("'description' was unexpected"));
        assert_eq!(message(described, 19), None);
        let files = json!({"server": {"name": "a", "personality": []}});
        assert_eq!(message(files.clone(), 56), None);
        assert!(message(files, 57).is_some());
    }

    #[test]
    fn python_would_write_it_so() {
        assert_eq!(repr(&json!(["a'b", "a'\"b", "x\n", {"k": true}])), r#"["a'b", 'a\'"b', 'x\n', {'k': True}]"#);
    }
}
