//! What all collections of the API have in common: list, show, create (one or many), update, delete.
//!
//! A handler reads the body, runs one transaction in which it looks the resource up, asks whether the caller may, and does it; the
//! answer is rendered in the same transaction. What a caller may not see does not exist for it (404); what it sees and may not do is
//! forbidden (403).

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::{OriginalUri, Path, Query as Pairs, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use serde::Serialize;
use serde_json::{Map, Value, json};
use unkai_model::{Id, Kind};
use unkai_openstack::{Caller, CallerName, Cloud, Routes};
use unkai_store::{Tx, View};

use crate::Refusal;
use crate::fields::Fields;
use crate::object::Object;
use crate::query::{Page, Query};

/// Whose eyes an answer is for, and the state it tells of.
pub struct Cx<'a> {
    pub view: &'a View,
    pub who: &'a CallerName,
}

impl Cx<'_> {
    /// May look at what projects own: neither a stranger's token nor one without a role that reads.
    pub fn reads(&self) -> bool {
        self.who.has_role("reader") || self.who.has_role("member")
    }
}

/// A kind as the API shows it.
pub trait Resource: Kind {
    /// The key of one in a body: `security_group`.
    const ONE: &'static str;
    /// The key of many: `security_groups`.
    const MANY: &'static str;
    /// The collection's path without the version: `security-groups`.
    const PATH: &'static str;
    /// Attributes that exist but can never be set, besides those of all resources.
    const FIXED: &'static [&'static str] = &[];
    /// Attributes that cannot be changed once set.
    const ONCE: &'static [&'static str] = &[];

    /// A list shows the caller's default security group, which is made for it.
    const WITH_DEFAULT_GROUP: bool = false;

    type New: Clone + Send + 'static;
    type Change: Clone + Send + 'static;

    fn visible(&self, cx: &Cx) -> bool;
    fn render(&self, cx: &Cx, out: &mut Object);

    /// A list's starting point: at least everything that the filters accept.
    fn candidates(cx: &Cx, query: &Query) -> Vec<Arc<Self>>;

    fn read_new(fields: &mut Fields, who: &CallerName) -> Result<Self::New, Refusal>;
    fn create(tx: &mut Tx, who: &CallerName, new: &Self::New) -> Result<Id<Self>, Refusal>;

    fn read_change(fields: &mut Fields, who: &CallerName) -> Result<Self::Change, Refusal>;
    fn change(tx: &mut Tx, who: &CallerName, id: &Id<Self>, change: &Self::Change) -> Result<(), Refusal>;

    fn remove(tx: &mut Tx, who: &CallerName, id: &Id<Self>) -> Result<(), Refusal>;

    fn may_change(&self, cx: &Cx) -> bool {
        cx.who.may_write(self.meta().project.as_ref())
    }
    fn may_remove(&self, cx: &Cx) -> bool {
        self.may_change(cx)
    }
}

/// The five operations of a collection.
pub fn crud<R: Resource>() -> Routes {
    let (all, one) = (format!("/v2.0/{}", R::PATH), format!("/v2.0/{}/{{id}}", R::PATH));
    Routes::new()
        .get(&all, list::<R>)
        .post(&all, create::<R>)
        .get(&format!("{all}/"), list::<R>)
        .post(&format!("{all}/"), create::<R>)
        .get(&one, show::<R>)
        .put(&one, update::<R>)
        .delete(&one, remove::<R>)
}

type QueryPairs = Pairs<Vec<(String, String)>>;

pub fn answer(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => (status, [(header::CONTENT_TYPE, "application/json")], bytes).into_response(),
        Err(error) => Refusal::from(unkai_model::Error::caused("rendering an answer", error)).into_response(),
    }
}

/// `{"network": {...}}` with a borrowed key.
pub struct Keyed<'k, T>(pub &'k str, pub T);

impl<T: Serialize> Serialize for Keyed<'_, T> {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = s.serialize_map(Some(1))?;
        map.serialize_entry(self.0, &self.1)?;
        map.end()
    }
}

struct Listing {
    many: &'static str,
    page: Page<Object<'static>>,
    links: Vec<Value>,
}

impl Serialize for Listing {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = s.serialize_map(None)?;
        map.serialize_entry(self.many, &self.page.items)?;
        if !self.links.is_empty() {
            map.serialize_entry(&format!("{}_links", self.many), &self.links)?;
        }
        map.end()
    }
}

async fn list<R: Resource>(
    State(cloud): State<Cloud>,
    Caller(who): Caller,
    OriginalUri(uri): OriginalUri,
    Pairs(pairs): QueryPairs,
) -> Result<Response, Refusal> {
    if R::WITH_DEFAULT_GROUP {
        crate::security_groups::ensure_default(&cloud, &who).await?;
    }
    let view = cloud.store.read().await?;
    let query = Query::parse(pairs)?;
    let page = select::<R>(&Cx { view: &view, who: &who }, &query)?;
    let href = |marker: &str, reverse| format!("{}{}?{}", cloud.url, uri.path(), query.link(marker, reverse));
    let mut links = Vec::new();
    links.extend(page.next.as_ref().map(|m| json!({"rel": "next", "href": href(m, false)})));
    links.extend(page.previous.as_ref().map(|m| json!({"rel": "previous", "href": href(m, true)})));
    Ok(answer(StatusCode::OK, &Listing { many: R::MANY, page, links }))
}

/// The page of what the caller may see and the query accepts. Only the page is rendered whole.
fn select<R: Resource>(cx: &Cx, query: &Query) -> Result<Page<Object<'static>>, Refusal> {
    let mut found = match query.only("id") {
        Some(id) => cx.view.get(&Id::<R>::new(id)).into_iter().collect(),
        None => R::candidates(cx, query),
    };
    let probe = query.probe();
    found.retain(|r| r.visible(cx) && probe.as_ref().is_none_or(|names| query.accepts(&look(r, cx, Some(names)))));
    let found = query.arrange(found, |r, names| look(r, cx, Some(names)).freed());
    let page = query.page(found, |r| r.meta().id.as_str())?;
    let items = page.items.iter().map(|r| look(r, cx, query.wanted()).freed()).collect();
    Ok(Page { items, next: page.next, previous: page.previous })
}

fn look<'n, R: Resource>(resource: &Arc<R>, cx: &Cx, names: Option<&'n BTreeSet<String>>) -> Object<'n> {
    let mut object = Object::of(names);
    resource.render(cx, &mut object);
    object
}

async fn show<R: Resource>(
    State(cloud): State<Cloud>,
    Caller(who): Caller,
    Path(id): Path<String>,
    Pairs(pairs): QueryPairs,
) -> Result<Response, Refusal> {
    let view = cloud.store.read().await?;
    let cx = Cx { view: &view, who: &who };
    let resource = visible::<R>(&cx, &Id::new(id))?;
    let query = Query::parse(pairs)?;
    Ok(answer(StatusCode::OK, &Keyed(R::ONE, look(&resource, &cx, query.wanted()))))
}

/// The resource, if it exists for this caller.
pub fn visible<R: Resource>(cx: &Cx, id: &Id<R>) -> Result<Arc<R>, Refusal> {
    cx.view.get(id).filter(|r| r.visible(cx)).ok_or_else(|| Refusal::not_found(R::NOUN, id.as_str()))
}

/// The same inside a transaction.
pub fn visible_in<R: Resource>(tx: &Tx, who: &CallerName, id: &Id<R>) -> Result<Arc<R>, Refusal> {
    visible(&Cx { view: &tx.view(), who }, id)
}

fn rendered<R: Resource>(tx: &Tx, who: &CallerName, id: &Id<R>) -> Result<Object<'static>, Refusal> {
    let resource = tx.require(id)?;
    Ok(look(&resource, &Cx { view: &tx.view(), who }, None).freed())
}

/// The JSON object of a body.
pub fn body(bytes: &Bytes) -> Result<Map<String, Value>, Refusal> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(Refusal::request("Resource body required")),
        Err(_) if bytes.is_empty() => Err(Refusal::request("Resource body required")),
        Err(_) => {
            Err(Refusal::request("The server could not comply with the request since it is either malformed or otherwise incorrect."))
        }
    }
}

fn object(value: Value, one: &str) -> Result<Map<String, Value>, Refusal> {
    match value {
        Value::Object(map) => Ok(map),
        _ => Err(Refusal::request(format!("Body contains invalid data for {one}"))),
    }
}

/// What is inside the one key that a body must have.
pub fn inner(bytes: &Bytes, one: &str) -> Result<Map<String, Value>, Refusal> {
    let mut map = body(bytes)?;
    let value = map.remove(one).ok_or_else(|| Refusal::request(format!("Unable to find '{one}' in request body")))?;
    object(value, one)
}

fn read_new<R: Resource>(map: Map<String, Value>, who: &CallerName) -> Result<R::New, Refusal> {
    let mut fields = Fields::new(map, true);
    let new = R::read_new(&mut fields, who)?;
    fields.finish(R::FIXED)?;
    Ok(new)
}

async fn create<R: Resource>(State(cloud): State<Cloud>, Caller(who): Caller, bytes: Bytes) -> Result<Response, Refusal> {
    if !who.is_admin() && !who.has_role("member") {
        return Err(Refusal::policy(format!("create_{}", R::ONE)));
    }
    let mut map = body(&bytes)?;
    let (bulk, items) = match (map.remove(R::ONE), map.remove(R::MANY)) {
        (Some(one), None) => (false, vec![object(one, R::ONE)?]),
        (None, Some(Value::Array(items))) if !items.is_empty() => {
            (true, items.into_iter().map(|item| bulk_item(item, R::ONE)).collect::<Result<_, _>>()?)
        }
        (None, Some(_)) => return Err(Refusal::request("Resources required")),
        _ => return Err(Refusal::request(format!("Unable to find '{}' in request body", R::ONE))),
    };
    let news = items.into_iter().map(|map| read_new::<R>(map, &who)).collect::<Result<Vec<_>, _>>()?;
    let made = cloud.store.transact(move |tx| {
        let ids = news.iter().map(|new| R::create(tx, &who, new)).collect::<Result<Vec<_>, Refusal>>()?;
        ids.iter().map(|id| rendered(tx, &who, id)).collect::<Result<Vec<_>, _>>()
    });
    let made = made.await?;
    Ok(match bulk {
        true => answer(StatusCode::CREATED, &Keyed(R::MANY, made)),
        false => answer(StatusCode::CREATED, &Keyed(R::ONE, made.first())),
    })
}

/// An item of a bulk request may, or may not, be wrapped in its own key.
fn bulk_item(item: Value, one: &str) -> Result<Map<String, Value>, Refusal> {
    let mut map = object(item, one)?;
    match (map.len(), map.remove(one)) {
        (1, Some(Value::Object(wrapped))) => Ok(wrapped),
        (_, Some(other)) => {
            map.insert(one.to_owned(), other);
            Ok(map)
        }
        (_, None) => Ok(map),
    }
}

async fn update<R: Resource>(
    State(cloud): State<Cloud>,
    Caller(who): Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<Response, Refusal> {
    let expected = expected_revision(&headers)?;
    let id = Id::<R>::new(id);
    visible(&Cx { view: &cloud.store.read().await?, who: &who }, &id)?;
    let mut fields = Fields::new(inner(&bytes, R::ONE)?, false);
    let change = R::read_change(&mut fields, &who)?;
    let unchangeable: Vec<&str> = R::FIXED.iter().chain(R::ONCE).copied().collect();
    fields.finish(&unchangeable)?;
    let changed = cloud.store.transact(move |tx| {
        let resource = visible_in::<R>(tx, &who, &id)?;
        if !resource.may_change(&Cx { view: &tx.view(), who: &who }) {
            return Err(Refusal::policy(format!("update_{}", R::ONE)));
        }
        check_revision(expected, resource.meta().version)?;
        R::change(tx, &who, &id, &change)?;
        rendered(tx, &who, &id)
    });
    Ok(answer(StatusCode::OK, &Keyed(R::ONE, changed.await?)))
}

async fn remove<R: Resource>(
    State(cloud): State<Cloud>,
    Caller(who): Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Refusal> {
    let expected = expected_revision(&headers)?;
    let id = Id::<R>::new(id);
    let removed = cloud.store.transact(move |tx| {
        let resource = visible_in::<R>(tx, &who, &id)?;
        if !resource.may_remove(&Cx { view: &tx.view(), who: &who }) {
            return Err(Refusal::policy(format!("delete_{}", R::ONE)));
        }
        check_revision(expected, resource.meta().version)?;
        R::remove(tx, &who, &id)
    });
    removed.await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `If-Match: revision_number=7`.
pub fn expected_revision(headers: &HeaderMap) -> Result<Option<u64>, Refusal> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let number = value.to_str().ok().and_then(|v| v.trim_matches('"').strip_prefix("revision_number=")).and_then(|n| n.parse().ok());
    number.map(Some).ok_or_else(|| Refusal::request("Invalid If-Match value: only revision_number=<number> is understood"))
}

pub fn check_revision(expected: Option<u64>, current: u64) -> Result<(), Refusal> {
    match expected {
        Some(expected) if expected != current => {
            let text = format!("Constrained to {expected}, but current revision is {current}");
            Err(Refusal::new(StatusCode::PRECONDITION_FAILED, "RevisionNumberConstraintFailed", text))
        }
        _ => Ok(()),
    }
}

/// What a caller owns of a kind, or everything for administrators; starts from the index of the project asked for.
pub fn owned<K: Kind>(cx: &Cx, query: &Query) -> Vec<Arc<K>> {
    let project = query.only("project_id").or(query.only("tenant_id"));
    match (project, cx.who.is_admin()) {
        (Some(project), _) => cx.view.by_index("project", project).collect(),
        (None, true) => cx.view.all().collect(),
        (None, false) => cx.who.project.iter().flat_map(|p| cx.view.by_index::<K>("project", p.as_str()).collect::<Vec<_>>()).collect(),
    }
}

/// Sorts by id and leaves each once, for candidates from several indexes.
pub fn unique<K: Kind>(mut found: Vec<Arc<K>>) -> Vec<Arc<K>> {
    found.sort_by(|a, b| a.meta().id.cmp(&b.meta().id));
    found.dedup_by(|a, b| a.meta().id == b.meta().id);
    found
}
