//! The body of a request, read attribute by attribute. What nobody read at the end is unknown and refused.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde_json::{Map, Value};
use unkai_model::Id;
use unkai_model::identity::Project;
use unkai_openstack::CallerName;

use crate::Refusal;

pub const NAME_LENGTH: usize = 255;

/// What the original says of a value it does not like.
pub fn invalid(attribute: &str, reason: impl std::fmt::Display) -> Refusal {
    Refusal::request(format!("Invalid input for {attribute}. Reason: {reason}."))
}

/// A value as messages show it: text bare, the rest as JSON.
pub fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "None".into(),
        other => other.to_string(),
    }
}

/// Is it a UUID, with or without dashes?
pub fn is_uuid(text: &str) -> bool {
    let digits = text.bytes().filter(|b| *b != b'-').count();
    digits == 32 && text.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit())
}

#[derive(Debug, Clone)]
pub struct Fields {
    map: Map<String, Value>,
    create: bool,
}

/// Attributes that everything has and nobody may write.
const READ_ONLY: [&str; 6] = ["id", "status", "created_at", "updated_at", "revision_number", "tags"];

impl Fields {
    pub fn new(map: Map<String, Value>, create: bool) -> Self {
        Fields { map, create }
    }

    pub fn has(&self, name: &str) -> bool {
        self.map.contains_key(name)
    }

    pub fn given(&self, name: &str) -> Option<&Value> {
        self.map.get(name)
    }

    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.map.remove(name)
    }

    pub fn required<T>(&self, name: &str, value: Option<T>) -> Result<T, Refusal> {
        value.ok_or_else(|| Refusal::request(format!("Failed to parse request. Required attribute '{name}' not specified")))
    }

    pub fn string(&mut self, name: &str, longest: usize) -> Result<Option<String>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) if text.chars().count() <= longest => Ok(Some(text)),
            Some(Value::String(text)) => Err(invalid(name, format!("'{text}' exceeds maximum length of {longest}"))),
            Some(other) => Err(invalid(name, format!("'{}' is not a valid string", shown(&other)))),
        }
    }

    /// The attributes `name` and `description`.
    pub fn name(&mut self) -> Result<Option<String>, Refusal> {
        self.string("name", NAME_LENGTH)
    }
    pub fn description(&mut self) -> Result<Option<String>, Refusal> {
        self.string("description", NAME_LENGTH)
    }

    pub fn flag(&mut self, name: &str) -> Result<Option<bool>, Refusal> {
        self.take(name).map(|value| to_flag(&value)).transpose()
    }

    pub fn number(&mut self, name: &str) -> Result<Option<u64>, Refusal> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let number = match &value {
            Value::Number(n) => n.as_i64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        let number = number.ok_or_else(|| Refusal::input(format!("'{}' is not an integer", shown(&value))))?;
        u64::try_from(number).map(Some).map_err(|_| invalid(name, format!("'{number}' should be non-negative")))
    }

    /// Some(None): null was given, which means "none".
    pub fn uuid_or_null(&mut self, name: &str) -> Result<Option<Option<String>>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Null) => Ok(Some(None)),
            Some(Value::String(text)) if is_uuid(&text) => Ok(Some(Some(text))),
            Some(other) => Err(invalid(name, format!("'{}' is not a valid UUID", shown(&other)))),
        }
    }

    pub fn uuid(&mut self, name: &str) -> Result<Option<String>, Refusal> {
        match self.uuid_or_null(name)? {
            None => Ok(None),
            Some(Some(text)) => Ok(Some(text)),
            Some(None) => Err(invalid(name, "'None' is not a valid UUID")),
        }
    }

    /// An id that is looked up whatever it looks like; null and nothing are the same.
    pub fn uuid_or_text(&mut self, name: &str) -> Result<Option<String>, Refusal> {
        match self.take(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(invalid(name, format!("'{}' is not a valid string", shown(&other)))),
        }
    }

    pub fn address_or_null(&mut self, name: &str) -> Result<Option<Option<IpAddr>>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Null) => Ok(Some(None)),
            Some(value) => to_address(&value).map(|a| Some(Some(a))).map_err(|reason| invalid(name, reason)),
        }
    }

    pub fn list(&mut self, name: &str) -> Result<Option<Vec<Value>>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Null) => Ok(Some(Vec::new())),
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(other) => Err(invalid(name, format!("'{}' is not a list", shown(&other)))),
        }
    }

    pub fn strings(&mut self, name: &str) -> Result<Option<Vec<String>>, Refusal> {
        let to_text = |item: Value| match item {
            Value::String(text) => Ok(text),
            other => Err(invalid(name, format!("'{}' is not a valid string", shown(&other)))),
        };
        self.list(name)?.map(|items| items.into_iter().map(to_text).collect()).transpose()
    }

    /// One of some words.
    pub fn word<T>(&mut self, name: &str, parse: impl Fn(&str) -> Option<T>, words: &[&str]) -> Result<Option<T>, Refusal> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let found = value.as_str().and_then(parse);
        let listed = words.iter().map(|w| format!("'{w}'")).collect::<Vec<_>>().join(", ");
        found.map(Some).ok_or_else(|| invalid(name, format!("'{}' is not in [{listed}]", shown(&value))))
    }

    /// The owner of what is created: the caller's project, or for administrators any.
    pub fn owner(&mut self, who: &CallerName) -> Result<Id<Project>, Refusal> {
        let (project, tenant) = (self.string("project_id", 255)?, self.string("tenant_id", 255)?);
        if project.is_some() && tenant.is_some() && project != tenant {
            return Err(Refusal::request("'project_id' and 'tenant_id' do not match"));
        }
        match (project.or(tenant), &who.project) {
            (Some(wished), own) => {
                let wished = Id::new(wished);
                if !who.is_admin() && own.as_ref() != Some(&wished) {
                    let text =
                        "Specifying 'project_id' other than the authenticated project in request is not allowed for the current user.";
                    return Err(Refusal::request(text));
                }
                Ok(wished)
            }
            (None, Some(own)) => Ok(own.clone()),
            (None, None) => Err(Refusal::request("Running without keystone AuthN requires that project_id is specified")),
        }
    }

    /// Refuses what was given and not read. `fixed`: attributes that exist but cannot be changed.
    pub fn finish(self, fixed: &[&str]) -> Result<(), Refusal> {
        let known = |name: &&str| self.map.contains_key(*name);
        let owner = ["tenant_id", "project_id"];
        if let Some(name) = READ_ONLY.iter().chain(fixed).chain(&owner).find(|name| known(name)) {
            return Err(match self.create {
                true => Refusal::request(format!("Attribute '{name}' not allowed in POST")),
                false => Refusal::request(format!("Cannot update read-only attribute {name}")),
            });
        }
        if self.map.is_empty() {
            return Ok(());
        }
        let unknown = self.map.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        Err(Refusal::request(format!("Unrecognized attribute(s) '{unknown}'")))
    }
}

pub fn to_flag(value: &Value) -> Result<bool, Refusal> {
    let flag = match value {
        Value::Bool(flag) => Some(*flag),
        Value::Number(n) => match n.as_i64() {
            Some(0) => Some(false),
            Some(1) => Some(true),
            _ => None,
        },
        Value::String(text) => match text.to_ascii_lowercase().as_str() {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        },
        _ => None,
    };
    flag.ok_or_else(|| Refusal::input(format!("'{}' cannot be converted to boolean", shown(value))))
}

pub fn to_address(value: &Value) -> Result<IpAddr, String> {
    let text = value.as_str().unwrap_or_default();
    IpAddr::from_str(text).map_err(|_| format!("'{}' is not a valid IP address", shown(value)))
}

/// A prefix; a bare address is one of full length.
pub fn to_prefix(text: &str) -> Option<IpNet> {
    text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields(value: Value) -> Fields {
        Fields::new(value.as_object().unwrap().clone(), true)
    }

    #[test]
    fn values_are_read_as_the_original_reads_them() {
        let mut f = fields(json!({"a": "True", "b": 0, "c": "maybe", "d": "7", "e": -1, "f": "x".repeat(256), "g": null}));
        assert_eq!(f.flag("a").unwrap(), Some(true));
        assert_eq!(f.flag("b").unwrap(), Some(false));
        assert_eq!(f.flag("c").unwrap_err().message, "Invalid input for operation: 'maybe' cannot be converted to boolean.");
        assert_eq!(f.number("d").unwrap(), Some(7));
        assert!(f.number("e").is_err());
        assert!(f.string("f", 255).unwrap_err().message.ends_with("exceeds maximum length of 255."));
        assert_eq!(f.uuid_or_null("g").unwrap(), Some(None));
        assert_eq!(f.flag("h").unwrap(), None);
    }

    #[test]
    fn what_is_left_is_refused() {
        assert_eq!(fields(json!({"foo": 1})).finish(&[]).unwrap_err().message, "Unrecognized attribute(s) 'foo'");
        assert_eq!(fields(json!({"id": 1})).finish(&[]).unwrap_err().message, "Attribute 'id' not allowed in POST");
        assert!(fields(json!({})).finish(&[]).is_ok());
    }

    #[test]
    fn uuids_and_prefixes() {
        assert!(is_uuid("018f3c9e-7f7e-7000-8000-000000000000"));
        assert!(is_uuid("018f3c9e7f7e70008000000000000000"));
        assert!(!is_uuid("bad_prefix"));
        assert_eq!(to_prefix("10.0.0.1").unwrap().to_string(), "10.0.0.1/32");
        assert_eq!(to_prefix("192.168.1./24"), None);
    }
}
