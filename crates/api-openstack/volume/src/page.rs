//! Lists: who asks for whose, order, pages and the link to the next one.

use std::cmp::Ordering;
use std::sync::Arc;

use serde_json::{Value, json};
use unkai_model::{Error, Kind};
use unkai_openstack::web::query::truth;
use unkai_openstack::web::schema::as_int;
use unkai_openstack::web::{Fault, Query};
use unkai_store::View;

use crate::cx::Cx;

/// All of one kind that the query is about: those of the token's project, or for administrators of all or of one project.
pub fn visible<K: Kind>(view: &View, cx: &Cx, query: &Query) -> Result<Vec<Arc<K>>, Fault> {
    let all = match query.get("all_tenants").filter(|text| !text.is_empty()) {
        Some(text) => truth(text).ok_or_else(|| Fault::bad_request(format!("all_tenants={text} is not a boolean")))?,
        None => false,
    };
    if cx.is_admin() && all {
        let wanted = query.get("project_id").or(query.get("tenant_id"));
        return Ok(view
            .all::<K>()
            .filter(|one| wanted.is_none_or(|id| one.meta().project.as_ref().is_some_and(|p| p.as_str() == id)))
            .collect());
    }
    let own = cx.project()?;
    Ok(view.by_index::<K>("project", own.as_str()).collect())
}

/// What a list is ordered by.
pub type Key<K> = fn(&View, &K) -> Value;

/// Sorts as the query says: `sort=name:asc,created_at`, or the older `sort_key` and `sort_dir`. Without either, and among equals, the newest
/// come first.
pub fn sort<K: Kind>(view: &View, items: &mut [Arc<K>], query: &Query, key: fn(&str) -> Option<Key<K>>) -> Result<(), Fault> {
    let mut orders: Vec<(String, bool)> = Vec::new();
    match (query.get("sort"), query.get("sort_key"), query.get("sort_dir")) {
        (Some(_), Some(_), _) | (Some(_), _, Some(_)) => {
            return Err(Fault::bad_request(
                "The 'sort_key' and 'sort_dir' parameters are deprecated and cannot be used with the 'sort' parameter.",
            ));
        }
        (Some(text), None, None) => {
            for part in text.split(',') {
                let (name, direction) = part.trim().split_once(':').unwrap_or((part.trim(), "desc"));
                orders.push((name.trim().to_owned(), descends(direction.trim())?));
            }
        }
        (None, None, None) => orders.push(("created_at".into(), true)),
        (None, name, direction) => orders.push((name.unwrap_or("created_at").trim().into(), descends(direction.unwrap_or("desc").trim())?)),
    }
    let last = orders.last().is_none_or(|(_, descends)| *descends);
    orders.push(("id".into(), last));
    let find = |(name, descends): (String, bool)| key(&name).map(|key| (key, descends)).ok_or_else(|| bad_key(&name));
    let keys: Vec<(Key<K>, bool)> = orders.into_iter().map(find).collect::<Result<_, _>>()?;
    items.sort_by(|a, b| {
        let orders = keys.iter().map(|(key, descends)| {
            let order = compare(&key(view, a), &key(view, b));
            if *descends { order.reverse() } else { order }
        });
        orders.fold(Ordering::Equal, Ordering::then)
    });
    Ok(())
}

fn descends(direction: &str) -> Result<bool, Fault> {
    match direction {
        "desc" => Ok(true),
        "asc" => Ok(false),
        _ => Err(Fault::bad_request(format!(
            "Invalid input received: Invalid sort direction {direction} passed: must be one of ['asc', 'desc']."
        ))),
    }
}

fn bad_key(name: &str) -> Fault {
    Fault::bad_request(format!("Invalid input received: Invalid sort key passed: {name}."))
}

fn compare(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Number(_), Value::Number(_)) => as_int(a).cmp(&as_int(b)),
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Null, Value::Null) => Ordering::Equal,
        (Value::Null, _) => Ordering::Less,
        (_, Value::Null) => Ordering::Greater,
        _ => a.to_string().cmp(&b.to_string()),
    }
}

/// One page of a list.
pub struct Page<K: Kind> {
    pub items: Vec<Arc<K>>,
    /// Of the whole list.
    pub count: usize,
    /// The query of the next page, when there may be one.
    next: Option<String>,
}

/// The page that `marker`, `offset` and `limit` ask for.
pub fn cut<K: Kind>(mut items: Vec<Arc<K>>, query: &Query) -> Result<Page<K>, Fault> {
    let count = items.len();
    let limit = query.limit()?;
    if let Some(marker) = query.get("marker") {
        let found = items.iter().position(|item| item.meta().id.as_str() == marker);
        items.drain(..=found.ok_or_else(|| Error::not_found::<K>(marker))?);
    }
    if let Some(text) = query.get("offset") {
        let offset: i64 = text.parse().map_err(|_| Fault::bad_request("offset must be an integer"))?;
        let offset = usize::try_from(offset).map_err(|_| Fault::bad_request("offset must be non-negative"))?;
        items.drain(..offset.min(items.len()));
    }
    let full = items.len() >= limit && query.has("limit") || items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| full && limit > 0).map(|last| query.with_marker(last.meta().id.as_str()));
    Ok(Page { items, count, next })
}

impl<K: Kind> Page<K> {
    /// `{"volumes": [...], "volumes_links": [...]}`, the second when there may be another page.
    pub fn body(&self, cx: &Cx, name: &str, path: &str, render: impl Fn(&K) -> Value) -> Value {
        let items: Vec<Value> = self.items.iter().map(|item| render(item)).collect();
        let mut body = json!({ name: items });
        if let Some(next) = &self.next {
            body[format!("{name}_links")] = json!([{ "rel": "next", "href": format!("{}?{next}", href(cx, path)) }]);
        }
        body
    }
}

/// Where something of this service is, for this caller: `volumes/ID`.
pub fn href(cx: &Cx, path: &str) -> String {
    let project = cx.caller.project.as_ref().map_or_else(String::new, |project| format!("{project}/"));
    format!("{}/volume/v3/{project}{path}", cx.cloud.url)
}

/// The `self` and `bookmark` links of one resource.
pub fn links(cx: &Cx, path: &str) -> Value {
    let href = href(cx, path);
    let bookmark = href.replacen("/v3/", "/", 1);
    json!([{ "rel": "self", "href": href }, { "rel": "bookmark", "href": bookmark }])
}
