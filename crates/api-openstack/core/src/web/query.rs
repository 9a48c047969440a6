//! Query strings: decoding, validation, and the paging parameters that all lists share.

use std::convert::Infallible;
use std::fmt::Write as _;

use axum::extract::FromRequestParts;
use http::request::Parts;
use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use serde_json::{Map, Value};

use super::schema::Schema;
use super::{Fault, Microversion};

/// The original's `max_limit`: the most items in one page.
pub const MAX_PAGE: usize = 1000;

/// The parameters of a query string, decoded, in order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Query(pub Vec<(String, String)>);

impl Query {
    pub fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        Query(pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(k, v)| (decode(k), decode(v))).collect())
    }

    /// The last value given, as the original takes it.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Every parameter is a list of strings for the schema, as the original sees it.
    pub fn check(&self, schema: &Schema, version: Microversion) -> Result<(), Fault> {
        let mut object = Map::new();
        for (key, value) in &self.0 {
            let list = object.entry(key.clone()).or_insert_with(|| Value::Array(Vec::new()));
            list.as_array_mut().expect("only lists are inserted").push(Value::String(value.clone()));
        }
        schema.check_query(&Value::Object(object), version)
    }

    /// `limit`, bounded by the largest page. 400 in the original's words when it is not a whole number of at least 0.
    pub fn limit(&self) -> Result<usize, Fault> {
        let Some(text) = self.get("limit") else { return Ok(MAX_PAGE) };
        match text.parse::<i64>() {
            Ok(limit) if limit >= 0 => Ok((limit as usize).min(MAX_PAGE)),
            Ok(_) => Err(Fault::bad_request("limit must be non-negative")),
            Err(_) => Err(Fault::bad_request("limit must be an integer")),
        }
    }

    /// The same query with another marker, for the link to the next page.
    pub fn with_marker(&self, marker: &str) -> String {
        let mut text = String::new();
        let kept = self.0.iter().filter(|(key, _)| key != "marker").map(|(k, v)| (k.as_str(), v.as_str()));
        for (key, value) in kept.chain([("marker", marker)]) {
            if !text.is_empty() {
                text.push('&');
            }
            encode(key, &mut text);
            text.push('=');
            encode(value, &mut text);
        }
        text
    }
}

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Query::parse(parts.uri.query().unwrap_or("")))
    }
}

/// `True`, `1`, `yes` and so on, as the original reads words in queries; none when it is no such word.
pub fn truth(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "t" | "true" | "on" | "y" | "yes" => Some(true),
        "0" | "f" | "false" | "off" | "n" | "no" => Some(false),
        _ => None,
    }
}

/// A point in time as the original parses it: ISO 8601 with or without zone, seconds or time of day; no zone means UTC.
pub fn time(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time);
    }
    let civil = text.parse::<DateTime>().ok().or_else(|| text.parse::<Date>().ok().map(|date| date.to_datetime(Time::midnight())))?;
    civil.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}

/// Percent and plus decoding; what is not well formed stays as it is.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%').then(|| bytes.get(at + 1..at + 3)).flatten();
        let byte = hex.and_then(|h| std::str::from_utf8(h).ok()).and_then(|h| u8::from_str_radix(h, 16).ok());
        match byte {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(if bytes[at] == b'+' { b' ' } else { bytes[at] });
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte as char),
            _ => write!(out, "%{byte:02X}").expect("writing to a string does not fail"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_decoded_and_rebuilt() {
        let query = Query::parse("name=a%20b+c&limit=2&tag=%zz&tag=%C3%A4&flag");
        assert_eq!(query.get("name"), Some("a b c"));
        assert_eq!(query.all("tag").collect::<Vec<_>>(), ["%zz", "ä"]);
        assert_eq!(query.get("flag"), Some(""));
        assert_eq!(query.limit(), Ok(2));
        assert_eq!(Query::parse("limit=5&marker=old").with_marker("x y"), "limit=5&marker=x%20y");
    }

    #[test]
    fn times_come_in_several_spellings() {
        let noon: Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
        for text in ["2026-01-31T12:00:00Z", "2026-01-31T12:00:00", "2026-01-31 12:00:00", "2026-01-31T14:00:00+02:00"] {
            assert_eq!(time(text), Some(noon), "{text}");
        }
        assert!(time("2026-01-31").is_some());
        assert_eq!(time("2026/01/31"), None);
        assert_eq!(time("yesterday"), None);
    }

    #[test]
    fn limits_are_whole_numbers() {
        assert_eq!(Query::parse("limit=99999").limit(), Ok(MAX_PAGE));
        assert_eq!(Query::parse("limit=-1").limit().unwrap_err().code, 400);
        assert_eq!(Query::parse("limit=x").limit().unwrap_err().code, 400);
    }
}
