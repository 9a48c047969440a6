//! Lists: filters by attribute, limits and links.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use http::request::Parts;
use serde_json::{Value, json};
use unkai_openstack::Cloud;

/// The query of a request, in order.
#[derive(Debug, Clone, Default)]
pub struct Params {
    pairs: Vec<(String, String)>,
    raw: String,
}

impl FromRequestParts<Cloud> for Params {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &Cloud) -> Result<Self, Infallible> {
        let pairs = axum::extract::Query::try_from_uri(&parts.uri).map_or_else(|_| Vec::new(), |query| query.0);
        Ok(Params { pairs, raw: parts.uri.query().unwrap_or("").to_owned() })
    }
}

impl Params {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// `?include_names`, `?include_names=true`: said, and not said to be false.
    pub fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| !matches!(value.to_ascii_lowercase().as_str(), "0" | "false" | "no" | "off"))
    }

    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Keeps what matches every filter on one of `attributes`: `name=x`, `name__icontains=x`, `enabled=true`.
    pub fn filter(&self, items: &mut Vec<Value>, attributes: &[&str]) {
        for (key, wanted) in &self.pairs {
            let (attribute, how) = key.split_once("__").unwrap_or((key, "equals"));
            if attributes.contains(&attribute) {
                items.retain(|item| matches(item.get(attribute), how, wanted));
            }
        }
    }

    /// The collection as the API shows it, after filters; `limit` cuts it and says so.
    pub fn collection(&self, base: &str, path: &str, name: &str, mut items: Vec<Value>, attributes: &[&str]) -> Value {
        self.filter(&mut items, attributes);
        let id_of = |item: &Value| item.get("id").and_then(Value::as_str).unwrap_or("").to_owned();
        if let Some(marker) = self.get("marker")
            && let Some(at) = items.iter().position(|item| id_of(item) == marker)
        {
            items.drain(..=at);
        }
        let limit = self.get("limit").and_then(|text| text.parse::<usize>().ok());
        let cut = limit.is_some_and(|limit| limit > 0 && items.len() > limit);
        let mut next = Value::Null;
        if let Some(limit) = limit.filter(|_| cut) {
            items.truncate(limit);
            let marker = items.last().map(id_of).unwrap_or_default();
            let others = self.raw.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("marker="));
            let query = others.map(str::to_owned).chain([format!("marker={marker}")]).collect::<Vec<_>>().join("&");
            next = format!("{base}{path}?{query}").into();
        }
        let query = if self.raw.is_empty() { String::new() } else { format!("?{}", self.raw) };
        let links = json!({"next": next, "self": format!("{base}{path}{query}"), "previous": null});
        let mut body = json!({ "links": links });
        body[name] = items.into();
        if cut {
            body["truncated"] = true.into();
        }
        body
    }
}

fn matches(value: Option<&Value>, how: &str, wanted: &str) -> bool {
    match value {
        Some(Value::Bool(is)) => *is != matches!(wanted.to_ascii_lowercase().as_str(), "0" | "false" | "no" | "off" | "f"),
        Some(Value::String(is)) => text_matches(is, how, wanted),
        Some(Value::Null) | None => matches!(wanted, "" | "null" | "None"),
        Some(other) => wanted.parse::<Value>().is_ok_and(|wanted| wanted == *other),
    }
}

fn text_matches(is: &str, how: &str, wanted: &str) -> bool {
    let (is, wanted) = match how.strip_prefix('i') {
        Some("contains" | "startswith" | "endswith" | "exact") => (is.to_lowercase(), wanted.to_lowercase()),
        _ => (is.to_owned(), wanted.to_owned()),
    };
    match how {
        "contains" | "icontains" => is.contains(&wanted),
        "startswith" | "istartswith" => is.starts_with(&wanted),
        "endswith" | "iendswith" => is.ends_with(&wanted),
        "equals" | "exact" | "iexact" => is == wanted,
        // An unknown comparison is no filter.
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(text: &str) -> Params {
        let pairs = text.split('&').filter_map(|pair| pair.split_once('=')).map(|(k, v)| (k.into(), v.into())).collect();
        Params { pairs, raw: text.into() }
    }

    #[test]
    fn filters_compare_as_asked() {
        let all = || vec![json!({"id": "1", "name": "Alpha", "enabled": true}), json!({"id": "2", "name": "beta", "enabled": false})];
        for (query, ids) in [
            ("name=beta", "2"),
            ("name=Beta", ""),
            ("name__icontains=A", "12"),
            ("name__contains=A", "1"),
            ("name__startswith=be", "2"),
            ("name__endswith=ta", "2"),
            ("enabled=true", "1"),
            ("enabled=0", "2"),
            ("unknown=3", "12"),
            ("name__istartswith=al&enabled=true", "1"),
        ] {
            let mut items = all();
            params(query).filter(&mut items, &["name", "enabled"]);
            let found: String = items.iter().map(|item| item["id"].as_str().unwrap()).collect();
            assert_eq!(found, ids, "{query}");
        }
    }

    #[test]
    fn a_limit_cuts_and_leads_on() {
        let items = || (0..5).map(|n| json!({"id": n.to_string()})).collect::<Vec<_>>();
        let page = params("limit=2&marker=1").collection("http://x", "/v3/things", "things", items(), &[]);
        assert_eq!(page["things"], json!([{"id": "2"}, {"id": "3"}]));
        assert_eq!(page["links"]["next"], "http://x/v3/things?limit=2&marker=3");
        assert_eq!(page["truncated"], true);
        let last = params("limit=2&marker=3").collection("http://x", "/v3/things", "things", items(), &[]);
        assert_eq!((last["things"].as_array().unwrap().len(), &last["links"]["next"]), (1, &Value::Null));
    }
}
