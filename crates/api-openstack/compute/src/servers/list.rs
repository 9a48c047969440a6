//! Lists of servers: which ones, in which order, and which page.

use std::cmp::Ordering;
use std::sync::Arc;

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;
use unkai_model::Id;
use unkai_model::compute::Server;
use unkai_model::identity::Project;
use unkai_store::View;

use super::cx::Cx;
use super::filter::Filter;
use super::renderer::Renderer;
use super::view::{Body, Extent};
use super::{schemas, sort};
use crate::Fault;
use crate::query::{MAX_PAGE, Query};

pub async fn index(cx: Cx, query: Query) -> Result<Response, Fault> {
    list(cx, query, Extent::Brief, "servers").await
}

pub async fn detail(cx: Cx, query: Query) -> Result<Response, Fault> {
    list(cx, query, Extent::Listed, "servers/detail").await
}

#[derive(Serialize)]
struct Page<'a> {
    servers: Vec<Body<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    servers_links: Option<serde_json::Value>,
}

async fn list(cx: Cx, query: Query, extent: Extent, collection: &str) -> Result<Response, Fault> {
    query.check(&schemas::LIST, cx.version)?;
    let view = cx.view().await?;
    let renderer = Renderer::new(&cx, &view);
    let (limit, marker) = (query.limit()?, query.get("marker"));
    let (filter, order) = (Filter::parse(&cx, &query)?, sort::Order::parse(&query)?);
    let page = if order.is_default() && !filter.with_deleted() {
        newest(&view, &renderer, &filter, marker, limit)?
    } else {
        page(select(&view, &renderer, &filter, &order), marker, limit)?
    };
    let full = limit > 0 && page.len() == limit && (query.has("limit") || limit == MAX_PAGE);
    let last = page.last().filter(|_| full).map(|server| server.meta.id.clone());
    let servers_links =
        last.map(|last| json!([{ "rel": "next", "href": renderer.next_link(collection, &query.with_marker(last.as_str())) }]));
    let servers = page.iter().map(|server| renderer.body(server, extent)).collect();
    Ok(Json(Page { servers, servers_links }).into_response())
}

/// The page of servers that match, the newest first. Looks only at those that come before its end: ids tell the time.
fn newest(view: &View, renderer: &Renderer, filter: &Filter, marker: Option<&str>, limit: usize) -> Result<Vec<Arc<Server>>, Fault> {
    let marker = marker.map(|text| known(view, filter, text).ok_or_else(|| unknown(text))).transpose()?;
    let accepts = |server: &Arc<Server>| filter.accepts(renderer, server);
    Ok(match filter.project() {
        Some(project) => view.by_index_before::<Server>("project", project.as_str(), marker.as_ref()).filter(accepts).take(limit).collect(),
        None => view.before::<Server>(marker.as_ref()).filter(accepts).take(limit).collect(),
    })
}

/// The server that a marker names, of those whose servers are asked for.
fn known(view: &View, filter: &Filter, marker: &str) -> Option<Id<Server>> {
    let server = view.get(&Id::<Server>::new(marker))?;
    let shown = filter.project().is_none_or(|project| server.meta.project.as_ref() == Some(project));
    shown.then(|| server.meta.id.clone())
}

fn unknown(marker: &str) -> Fault {
    Fault::bad_request(format!("marker [{marker}] not found"))
}

/// The servers that match, in order.
fn select(view: &View, renderer: &Renderer, filter: &Filter, order: &sort::Order) -> Vec<Arc<Server>> {
    let mut found: Vec<Arc<Server>> = Vec::new();
    let mut take = |server: Arc<Server>| {
        if filter.accepts(renderer, &server) {
            found.push(server);
        }
    };
    match filter.project() {
        Some(project) => candidates(view, project, filter.with_deleted()).for_each(&mut take),
        None => view.all::<Server>().for_each(&mut take),
    }
    found.sort_by(|a, b| if order.is_default() { newest_first(a, b) } else { order.compare(renderer, a, b) });
    found
}

fn candidates<'v>(view: &'v View, project: &Id<Project>, deleted: bool) -> impl Iterator<Item = Arc<Server>> + 'v {
    let gone = deleted.then(|| view.by_index::<Server>("deleted", project.as_str()));
    view.by_index::<Server>("project", project.as_str()).chain(gone.into_iter().flatten())
}

fn newest_first(a: &Arc<Server>, b: &Arc<Server>) -> Ordering {
    (b.meta.created, &b.meta.id).cmp(&(a.meta.created, &a.meta.id))
}

fn page(found: Vec<Arc<Server>>, marker: Option<&str>, limit: usize) -> Result<Vec<Arc<Server>>, Fault> {
    let start = match marker {
        None => 0,
        Some(marker) => match found.iter().position(|server| server.meta.id.as_str() == marker) {
            Some(place) => place + 1,
            None => return Err(unknown(marker)),
        },
    };
    Ok(found.into_iter().skip(start).take(limit).collect())
}
