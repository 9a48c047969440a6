//! The query of a list: filters, fields, order and pages, as all collections understand them.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::Refusal;
use crate::object::Object;

/// What a list was asked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Query {
    /// Attribute -> accepted values.
    pub filters: BTreeMap<String, Vec<String>>,
    pub fields: BTreeSet<String>,
    sort: Vec<(String, bool)>,
    limit: Option<usize>,
    marker: Option<String>,
    reverse: bool,
    /// As given, for links.
    pairs: Vec<(String, String)>,
}

/// One page of a list, with the ids to go on from.
#[derive(Debug, PartialEq)]
pub struct Page<T> {
    pub items: Vec<T>,
    pub next: Option<String>,
    pub previous: Option<String>,
}

/// The filters on tags: has all, has one of, has not all, has none of.
const TAG_FILTERS: [&str; 4] = ["tags", "tags-any", "not-tags", "not-tags-any"];

impl Query {
    pub fn parse(pairs: Vec<(String, String)>) -> Result<Self, Refusal> {
        let mut query = Query::default();
        let (mut keys, mut directions) = (Vec::new(), Vec::new());
        for (name, value) in &pairs {
            match name.as_str() {
                "fields" => query.fields.extend(value.split(',').filter(|f| !f.is_empty()).map(str::to_owned)),
                "sort_key" => keys.push(value.clone()),
                "sort_dir" => directions.push(parse_direction(value)?),
                "limit" => query.limit = parse_limit(value)?,
                "marker" => query.marker = Some(value.clone()),
                "page_reverse" => query.reverse = parse_flag(value),
                _ => query.filters.entry(name.clone()).or_default().push(value.clone()),
            }
        }
        if !directions.is_empty() && keys.len() != directions.len() {
            return Err(Refusal::request("The number of sort_keys and sort_dirs must be same"));
        }
        directions.resize(keys.len(), true);
        query.sort = keys.into_iter().zip(directions).collect();
        query.pairs = pairs;
        Ok(query)
    }

    /// The attributes that filters look at; none: there are no filters.
    pub fn probe(&self) -> Option<BTreeSet<String>> {
        let tags = self.filters.keys().any(|name| TAG_FILTERS.contains(&name.as_str())).then(|| "tags".to_owned());
        (!self.filters.is_empty()).then(|| self.filters.keys().cloned().chain(tags).collect())
    }

    /// The attributes that are answered; none: all.
    pub fn wanted(&self) -> Option<&BTreeSet<String>> {
        (!self.fields.is_empty()).then_some(&self.fields)
    }

    /// The only value asked for, when there is exactly one; lets a list start from an index.
    pub fn only(&self, name: &str) -> Option<&str> {
        match self.filters.get(name)?.as_slice() {
            [value] => Some(value),
            _ => None,
        }
    }

    pub fn accepts(&self, object: &Object) -> bool {
        self.filters.iter().all(|(name, values)| {
            if TAG_FILTERS.contains(&name.as_str()) {
                return accepts_tags(name, values, object);
            }
            match object.get(name) {
                Some(Value::Array(items)) if name == "fixed_ips" => accepts_addresses(values, items),
                Some(value) => values.iter().any(|wanted| is(value, wanted)),
                // As in the original, filters by what a resource does not have are not applied.
                None => true,
            }
        })
    }

    /// Puts items in the order asked for; `look` renders the attributes it names.
    pub fn arrange<T>(&self, items: Vec<T>, look: impl Fn(&T, &BTreeSet<String>) -> Object<'static>) -> Vec<T> {
        if self.sort.is_empty() {
            return items;
        }
        let keys = self.sort.iter().map(|(key, _)| key.clone()).collect();
        let mut keyed: Vec<_> = items.into_iter().map(|item| (look(&item, &keys), item)).collect();
        keyed.sort_by(|(a, _), (b, _)| self.compare(a, b));
        keyed.into_iter().map(|(_, item)| item).collect()
    }

    /// Cuts the page out of all that is accepted, in order.
    pub fn page<T>(&self, mut items: Vec<T>, id: impl Fn(&T) -> &str) -> Result<Page<T>, Refusal> {
        let (mut from, mut to) = (0, items.len());
        if let Some(marker) = &self.marker {
            let at = items.iter().position(|item| id(item) == marker).ok_or_else(|| Refusal::not_found("marker", marker))?;
            if self.reverse { to = at } else { from = at + 1 }
        }
        if let Some(limit) = self.limit {
            if self.reverse { from = from.max(to.saturating_sub(limit)) } else { to = to.min(from + limit) }
        }
        let (more_before, more_after) = (from > 0, to < items.len());
        items.truncate(to);
        items.drain(..from);
        let marker = |item: Option<&T>| item.map(|item| id(item).to_owned());
        let paged = self.limit.is_some();
        let next = marker(items.last()).filter(|_| paged && more_after);
        let previous = marker(items.first()).filter(|_| paged && more_before);
        Ok(Page { items, next, previous })
    }

    fn compare(&self, a: &Object, b: &Object) -> Ordering {
        let by_key = |(key, ascending): &(String, bool)| {
            let order = order(a.get(key), b.get(key));
            if *ascending { order } else { order.reverse() }
        };
        self.sort.iter().map(by_key).find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
    }

    /// The query of a neighbouring page.
    pub fn link(&self, marker: &str, reverse: bool) -> String {
        let kept = self.pairs.iter().filter(|(name, _)| name != "marker" && name != "page_reverse");
        let mut text: Vec<String> = kept.map(|(name, value)| format!("{}={}", escape(name), escape(value))).collect();
        text.push(format!("marker={}", escape(marker)));
        if reverse {
            text.push("page_reverse=True".into());
        }
        text.join("&")
    }
}

fn parse_direction(text: &str) -> Result<bool, Refusal> {
    match text {
        "asc" => Ok(true),
        "desc" => Ok(false),
        _ => Err(Refusal::request(format!("'{text}' is invalid attribute for sort_dir: must be 'asc' or 'desc'"))),
    }
}

/// 0 is no limit.
fn parse_limit(text: &str) -> Result<Option<usize>, Refusal> {
    let number: i64 = text.parse().map_err(|_| bad_limit(text))?;
    match usize::try_from(number) {
        Ok(0) => Ok(None),
        Ok(limit) => Ok(Some(limit)),
        Err(_) => Err(bad_limit(text)),
    }
}

fn bad_limit(text: &str) -> Refusal {
    Refusal::request(format!("Limit must be an integer 0 or greater and not '{text}'"))
}

pub fn parse_flag(text: &str) -> bool {
    matches!(text.to_ascii_lowercase().as_str(), "true" | "1" | "yes" | "t" | "on" | "y")
}

fn accepts_tags(name: &str, values: &[String], object: &Object) -> bool {
    let has = |tag: &str| object.get("tags").and_then(Value::as_array).is_some_and(|tags| tags.iter().any(|t| t == tag));
    let mut wanted = values.iter().flat_map(|v| v.split(','));
    match name {
        "tags" => wanted.all(has),
        "tags-any" => wanted.any(has),
        "not-tags" => !wanted.all(has),
        _ => !wanted.any(has),
    }
}

/// `ip_address=A`, `subnet_id=S`, `ip_address_substr=T`: values of one key are alternatives, keys must all be met.
fn accepts_addresses(values: &[String], items: &[Value]) -> bool {
    let mut by_key: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for value in values {
        let (key, value) = value.split_once('=').unwrap_or(("ip_address", value));
        by_key.entry(key).or_default().push(value);
    }
    by_key.iter().all(|(key, wanted)| {
        let (attribute, part) = match *key {
            "ip_address_substr" => ("ip_address", true),
            key => (key, false),
        };
        let fits = |text: &str| wanted.iter().any(|w| if part { text.contains(w) } else { text == *w });
        items.iter().any(|item| item.get(attribute).and_then(Value::as_str).is_some_and(fits))
    })
}

fn is(value: &Value, wanted: &str) -> bool {
    match value {
        Value::String(text) => text == wanted,
        Value::Bool(flag) => parse_flag(wanted) == *flag,
        Value::Null => wanted.is_empty() || wanted == "null" || wanted == "None",
        Value::Number(number) => number.to_string() == wanted,
        Value::Array(items) => items.iter().any(|item| is(item, wanted)),
        Value::Object(_) => false,
    }
}

fn order(a: Option<&Value>, b: Option<&Value>) -> Ordering {
    match (a, b) {
        (Some(Value::String(a)), Some(Value::String(b))) => a.cmp(b),
        (Some(Value::Bool(a)), Some(Value::Bool(b))) => a.cmp(b),
        (Some(Value::Number(a)), Some(Value::Number(b))) => a.as_f64().partial_cmp(&b.as_f64()).unwrap_or(Ordering::Equal),
        (Some(Value::Null) | None, Some(Value::Null) | None) => Ordering::Equal,
        (Some(Value::Null) | None, _) => Ordering::Less,
        (_, Some(Value::Null) | None) => Ordering::Greater,
        _ => Ordering::Equal,
    }
}

/// Percent-encodes what may not stand in a query's name or value.
fn escape(text: &str) -> String {
    let keep = |b: u8| b.is_ascii_alphanumeric() || b"-_.~:".contains(&b);
    text.bytes().map(|b| if keep(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn query(text: &str) -> Query {
        let pairs = text.split('&').filter(|p| !p.is_empty()).map(|p| p.split_once('=').unwrap());
        Query::parse(pairs.map(|(n, v)| (n.to_owned(), v.to_owned())).collect()).unwrap()
    }

    fn object(no: u32, name: &str, tags: &[&str]) -> Object<'static> {
        let mut object = Object::of(None);
        object.put("id", || no.to_string());
        object.put("name", || name);
        object.put("up", || no.is_multiple_of(2));
        object.put("tags", || tags.to_vec());
        object.put("fixed_ips", || json!([{"subnet_id": "s", "ip_address": format!("10.0.0.{no}")}]));
        object
    }

    fn id<'a>(object: &'a Object) -> &'a str {
        object.get("id").and_then(Value::as_str).unwrap()
    }

    fn found(text: &str) -> Vec<String> {
        let all = [object(1, "b", &["red"]), object(2, "a", &["red", "blue"]), object(3, "a", &[])];
        let query = query(text);
        let items = all.into_iter().filter(|o| query.accepts(o)).collect();
        let items = query.arrange(items, |object, _| object.clone());
        query.page(items, |o| id(o)).unwrap().items.iter().map(|o| id(o).to_owned()).collect()
    }

    #[test]
    fn filters() {
        assert_eq!(found(""), ["1", "2", "3"]);
        assert_eq!(found("name=a"), ["2", "3"]);
        assert_eq!(found("id=1&id=3"), ["1", "3"]);
        assert_eq!(found("up=True"), ["2"]);
        assert_eq!(found("tags=red,blue"), ["2"]);
        assert_eq!(found("tags-any=red,blue"), ["1", "2"]);
        assert_eq!(found("not-tags=red,blue"), ["1", "3"]);
        assert_eq!(found("not-tags-any=red"), ["3"]);
        assert_eq!(found("fixed_ips=ip_address=10.0.0.3"), ["3"]);
        assert_eq!(found("fixed_ips=ip_address_substr=0.2"), ["2"]);
        assert_eq!(found("unknown=x"), ["1", "2", "3"]);
    }

    #[test]
    fn order_and_pages() {
        assert_eq!(found("sort_key=name&sort_dir=asc&sort_key=id&sort_dir=desc"), ["3", "2", "1"]);
        assert_eq!(found("limit=2"), ["1", "2"]);
        assert_eq!(found("limit=2&marker=2"), ["3"]);
        assert_eq!(found("limit=1&marker=3&page_reverse=True"), ["2"]);
        let page = query("limit=1&marker=1&name=x y").page(vec!["1", "2", "3"], |id| id).unwrap();
        assert_eq!((page.next.as_deref(), page.previous.as_deref()), (Some("2"), Some("2")));
        assert_eq!(query("limit=1&marker=1&name=x y").link("2", true), "limit=1&name=x%20y&marker=2&page_reverse=True");
        assert!(Query::parse(vec![("limit".into(), "-1".into())]).is_err());
        assert_eq!(query("limit=1&marker=9").page(Vec::<&str>::new(), |id| id).unwrap_err().status.as_u16(), 404);
    }
}
