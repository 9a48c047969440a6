//! `/os-hypervisors`: hosts as machines, with what is given out of them. Numbers name them before 2.53, UUIDs since; what is
//! given out is not shown from 2.88 on.

mod older;
mod render;

use std::sync::{Arc, LazyLock};

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};
use unkai_model::Id;
use unkai_model::compute::Host;
use unkai_openstack::{Caller, Cloud, Routes};
use unkai_store::View;

use super::page::{self, QuerySchema};
use super::policy;
use super::services::hosts;
use crate::query::Query;
use crate::schema::{Schema, is_uuid, object};
use crate::{Fault, Microversion};

pub fn routes() -> Routes {
    Routes::new()
        .get("/v2.1/os-hypervisors", index)
        .get("/v2.1/os-hypervisors/detail", detail)
        .get("/v2.1/os-hypervisors/statistics", older::statistics)
        .get("/v2.1/os-hypervisors/{id}", show)
        .get("/v2.1/os-hypervisors/{id}/uptime", older::uptime)
        .get("/v2.1/os-hypervisors/{id}/search", older::search)
        .get("/v2.1/os-hypervisors/{id}/servers", older::servers)
}

static LIST: LazyLock<QuerySchema> = LazyLock::new(|| {
    let text = || Schema::string(0, usize::MAX).many();
    QuerySchema::new(
        object()
            .optional_in(33.., "limit", Schema::count().many())
            .optional_in(33.., "marker", text())
            .optional_in(53.., "hypervisor_hostname_pattern", Schema::string(0, usize::MAX).single())
            .optional_in(53.., "with_servers", Schema::Boolean.single()),
    )
});
static SHOW: LazyLock<QuerySchema> =
    LazyLock::new(|| QuerySchema::new(object().optional_in(53.., "with_servers", Schema::Boolean.single())));

/// The name of a hypervisor in this version's URLs.
fn name(host: &Host, version: Microversion) -> String {
    if version.at_least(53) { host.meta.id.to_string() } else { host.number.to_string() }
}

fn find(view: &View, id: &str, version: Microversion) -> Result<Arc<Host>, Fault> {
    let found = if version.at_least(53) {
        if !is_uuid(id) {
            return Err(Fault::bad_request(format!("Invalid uuid {id}")));
        }
        view.get(&Id::new(id))
    } else {
        view.holder::<Host>("host-number", id).and_then(|id| view.get(&id))
    };
    found.ok_or_else(|| Fault::not_found(format!("Hypervisor with ID '{id}' could not be found.")))
}

/// The hosts whose name contains `pattern`; none is an error.
fn matching(view: &View, pattern: &str) -> Result<Vec<Arc<Host>>, Fault> {
    let found: Vec<_> = hosts(view).into_iter().filter(|host| host.meta.name.contains(pattern)).collect();
    if found.is_empty() {
        return Err(Fault::not_found(format!("No hypervisor matching '{pattern}' could be found.")));
    }
    Ok(found)
}

fn with_servers(query: &Query, version: Microversion) -> bool {
    version.at_least(53) && query.get("with_servers").and_then(crate::query::truth).unwrap_or(false)
}

async fn index(State(cloud): State<Cloud>, caller: Caller, version: Microversion, query: Query) -> Result<Json<Value>, Fault> {
    policy::admin(&caller, "os_compute_api:os-hypervisors:list")?;
    list(&cloud, version, &query, "os-hypervisors", render::brief).await
}

async fn detail(State(cloud): State<Cloud>, caller: Caller, version: Microversion, query: Query) -> Result<Json<Value>, Fault> {
    policy::admin(&caller, "os_compute_api:os-hypervisors:list-detail")?;
    list(&cloud, version, &query, "os-hypervisors/detail", render::full).await
}

async fn list(
    cloud: &Cloud,
    version: Microversion,
    query: &Query,
    path: &str,
    render: fn(&View, &Host, Microversion) -> Value,
) -> Result<Json<Value>, Fault> {
    LIST.check(query, version)?;
    let view = cloud.store.read().await?;
    let pattern = query.get("hypervisor_hostname_pattern").filter(|_| version.at_least(53));
    let paged = version.at_least(33) && (query.has("limit") || query.has("marker"));
    let found = match pattern {
        Some(_) if paged => {
            return Err(Fault::bad_request(
                "Paging over hypervisors with the hypervisor_hostname_pattern query parameter is not supported.",
            ));
        }
        Some(pattern) => matching(&view, pattern)?,
        None => hosts(&view),
    };
    let mut found: Vec<(String, Arc<Host>)> = found.into_iter().map(|host| (name(&host, version), host)).collect();
    let mut links = None;
    if version.at_least(33) {
        found = page::cut(found, query, |(id, _)| id, |marker| format!("Marker {marker} could not be found."))?;
        links = page::next(cloud, path, query, found.len(), found.last().map(|(id, _)| id.as_str()));
    }
    let mut shown: Vec<Value> = Vec::with_capacity(found.len());
    for (_, host) in &found {
        let mut item = render(&view, host, version);
        // The original's list, unlike its detail, says nothing of a host without servers.
        let servers = if with_servers(query, version) { render::servers(&view, host) } else { Vec::new() };
        if !servers.is_empty() {
            item["servers"] = json!(servers);
        }
        shown.push(item);
    }
    let mut body = json!({ "hypervisors": shown });
    if let Some(links) = links {
        body["hypervisors_links"] = json!(links);
    }
    Ok(Json(body))
}

async fn show(
    State(cloud): State<Cloud>,
    caller: Caller,
    version: Microversion,
    Path(id): Path<String>,
    query: Query,
) -> Result<Json<Value>, Fault> {
    SHOW.check(&query, version)?;
    policy::admin(&caller, "os_compute_api:os-hypervisors:show")?;
    let view = cloud.store.read().await?;
    let host = find(&view, &id, version)?;
    let mut shown = render::full(&view, &host, version);
    if with_servers(&query, version) {
        shown["servers"] = json!(render::servers(&view, &host));
    }
    Ok(Json(json!({ "hypervisor": shown })))
}
