//! `/os-aggregates`: sets of hosts. Named by number; the document's UUID shows from 2.41 on.

mod hosts;
mod metadata;

use std::sync::{Arc, LazyLock};

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};
use unkai_model::compute::{Aggregate, Host};
use unkai_model::{Id, Meta};
use unkai_openstack::{Caller, Cloud, Routes, iso};
use unkai_store::{Tx, View};

use super::policy;
use crate::body::Body;
use crate::schema::{Format, Schema, is_printable, object};
use crate::{Fault, Microversion};

pub fn routes() -> Routes {
    Routes::new()
        .get("/v2.1/os-aggregates", index)
        .post("/v2.1/os-aggregates", create)
        .get("/v2.1/os-aggregates/{id}", show)
        .put("/v2.1/os-aggregates/{id}", metadata::update)
        .delete("/v2.1/os-aggregates/{id}", delete)
        .post("/v2.1/os-aggregates/{id}/action", action)
        .post("/v2.1/os-aggregates/{id}/images", hosts::cache)
}

/// The name of a zone: what is a name, without a colon, or null.
fn zone() -> Schema {
    let zone = Format {
        name: "availability zone",
        accepts: |text| is_printable(text) && text.trim() == text && !text.contains(':'),
        message: None,
    };
    Schema::String { min: 1, max: 255, format: Some(zone) }.or_null()
}
static CREATE: LazyLock<Schema> =
    LazyLock::new(|| Schema::wrapped("aggregate", object().required("name", Schema::name()).optional("availability_zone", zone())));

fn brief(aggregate: &Aggregate, version: Microversion) -> Value {
    let meta = &aggregate.meta;
    let mut shown = json!({
        "id": aggregate.number,
        "name": meta.name,
        "availability_zone": aggregate.zone(),
        "created_at": iso(meta.created),
        "updated_at": (meta.version > 1).then(|| iso(meta.updated)),
        "deleted": false,
        "deleted_at": null,
    });
    if version.at_least(41) {
        shown["uuid"] = json!(meta.id);
    }
    shown
}

fn full(view: &View, aggregate: &Aggregate, version: Microversion) -> Value {
    let mut shown = brief(aggregate, version);
    let names = aggregate.hosts.iter().filter_map(|id| view.get::<Host>(id)).map(|host| host.meta.name.clone());
    shown["hosts"] = json!(names.collect::<Vec<_>>());
    shown["metadata"] = json!(aggregate.metadata);
    shown
}

fn answer(view: &View, aggregate: &Aggregate, version: Microversion) -> Json<Value> {
    Json(json!({ "aggregate": full(view, aggregate, version) }))
}

fn number(text: &str) -> Result<i64, Fault> {
    text.parse().map_err(|_| Fault::bad_request("Invalid input received: id must be an integer"))
}

fn find(view: &View, id: &str) -> Result<Arc<Aggregate>, Fault> {
    let holder = view.holder::<Aggregate>("aggregate-number", &number(id)?.to_string());
    holder.and_then(|id| view.get(&id)).ok_or_else(|| Fault::not_found(format!("Aggregate {id} could not be found.")))
}

async fn index(State(cloud): State<Cloud>, caller: Caller, version: Microversion) -> Result<Json<Value>, Fault> {
    policy::admin(&caller, "os_compute_api:os-aggregates:index")?;
    let view = cloud.store.read().await?;
    let mut all: Vec<_> = view.all::<Aggregate>().collect();
    all.sort_by_key(|aggregate| aggregate.number);
    let shown: Vec<_> = all.iter().map(|aggregate| full(&view, aggregate, version)).collect();
    Ok(Json(json!({ "aggregates": shown })))
}

async fn show(State(cloud): State<Cloud>, caller: Caller, version: Microversion, Path(id): Path<String>) -> Result<Json<Value>, Fault> {
    policy::admin(&caller, "os_compute_api:os-aggregates:show")?;
    let view = cloud.store.read().await?;
    let aggregate = find(&view, &id)?;
    Ok(answer(&view, &aggregate, version))
}

async fn create(State(cloud): State<Cloud>, caller: Caller, version: Microversion, body: Body) -> Result<Json<Value>, Fault> {
    let body = body.validated(&CREATE, version)?;
    policy::admin(&caller, "os_compute_api:os-aggregates:create")?;
    let name = body["aggregate"]["name"].as_str().unwrap_or("").trim().to_owned();
    let zone = body["aggregate"]["availability_zone"].as_str().map(str::to_owned);
    let transaction = move |tx: &mut Tx| {
        must_be_free(tx, &name)?;
        let number = tx.all::<Aggregate>().map(|aggregate| aggregate.number).max().unwrap_or(0) + 1;
        let meta = Meta::new(tx.new_id()).named(name.clone());
        Ok::<_, Fault>(tx.insert(Aggregate::new(meta, number, zone.clone()))?)
    };
    let aggregate = cloud.store.transact(transaction).await?;
    Ok(Json(json!({ "aggregate": brief(&aggregate, version) })))
}

fn must_be_free(tx: &Tx, name: &str) -> Result<(), Fault> {
    if tx.is_claimed("aggregate-name", name) { Err(Fault::conflict(format!("Aggregate {name} already exists."))) } else { Ok(()) }
}

async fn delete(State(cloud): State<Cloud>, caller: Caller, Path(id): Path<String>) -> Result<StatusCode, Fault> {
    policy::admin(&caller, "os_compute_api:os-aggregates:delete")?;
    let transaction = move |tx: &mut Tx| {
        let aggregate = find(&tx.view(), &id)?;
        if !aggregate.hosts.is_empty() {
            return Err(Fault::bad_request(format!("Cannot delete aggregate {id}. Reason: Host aggregate is not empty.")));
        }
        tx.delete(&aggregate.meta.id)?;
        Ok(StatusCode::OK)
    };
    cloud.store.transact(transaction).await
}

async fn action(
    State(cloud): State<Cloud>,
    caller: Caller,
    version: Microversion,
    Path(id): Path<String>,
    body: Body,
) -> Result<Response, Fault> {
    let body = body.unchecked();
    let done = match body.as_object().and_then(|map| map.keys().next()).map(String::as_str) {
        Some("add_host") => hosts::add(&cloud, &caller, version, id, &body).await?,
        Some("remove_host") => hosts::remove(&cloud, &caller, version, id, &body).await?,
        Some("set_metadata") => metadata::set(&cloud, &caller, version, id, &body).await?,
        Some(name) => return Err(Fault::bad_request(format!("There is no such action: {name}"))),
        None => return Err(Fault::bad_request("Malformed request body")),
    };
    Ok(answer(&cloud.store.view(), &done, version).into_response())
}

/// The host of that name.
fn host_named(view: &View, name: &str) -> Result<Id<Host>, Fault> {
    let id = view.holder::<Host>("host-name", name);
    id.ok_or_else(|| Fault::not_found(format!("Compute host {name} could not be found.")))
}
