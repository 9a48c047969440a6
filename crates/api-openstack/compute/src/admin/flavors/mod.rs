//! `/flavors`: sizes of servers. Everybody sees the public ones and those that his project was given access to.

mod access;
mod create;
mod extra_specs;
mod known_specs;
mod list;
mod render;

use std::sync::{Arc, LazyLock};

use axum::Json;
use axum::extract::{Path, State};
use http::StatusCode;
use serde_json::Value;
use unkai_model::compute::Flavor;
use unkai_model::{Error, Id};
use unkai_openstack::{Caller, CallerName, Cloud, Routes};
use unkai_store::{Store, View};

use super::policy;
use crate::body::Body;
use crate::schema::{Format, Schema, is_printable, object};
use crate::{Fault, Microversion};
use render::Style;

pub fn routes() -> Routes {
    Routes::new()
        .get("/v2.1/flavors", list::index)
        .get("/v2.1/flavors/detail", list::detail)
        .post("/v2.1/flavors", create::create)
        .get("/v2.1/flavors/{id}", show)
        .put("/v2.1/flavors/{id}", update)
        .delete("/v2.1/flavors/{id}", delete)
        .post("/v2.1/flavors/{id}/action", access::action)
        .get("/v2.1/flavors/{id}/os-flavor-access", access::index)
        .merge(extra_specs::routes())
}

/// The default flavors, for a cloud that has none.
pub async fn bootstrap(store: &Store) -> Result<(), Error> {
    store
        .transact(|tx| {
            if tx.all::<Flavor>().next().is_none() {
                for flavor in Flavor::defaults() {
                    tx.insert(flavor)?;
                }
            }
            Ok(())
        })
        .await
}

/// Text of several lines of a flavor's `description`: up to 64 KiB, or null.
fn description() -> Schema {
    let printable = Format { name: "description", accepts: is_printable, message: None };
    Schema::String { min: 0, max: 65535, format: Some(printable) }.or_null()
}

/// The flavor, when the caller may see it.
fn find(view: &View, caller: &CallerName, id: &str) -> Result<Arc<Flavor>, Fault> {
    let flavor = view.require::<Flavor>(&Id::new(id))?;
    if caller.is_admin() || flavor.is_visible_to(caller.project.as_ref()) { Ok(flavor) } else { Err(Error::not_found::<Flavor>(id).into()) }
}

async fn show(State(cloud): State<Cloud>, caller: Caller, version: Microversion, Path(id): Path<String>) -> Result<Json<Value>, Fault> {
    let flavor = find(&cloud.store.read().await?, &caller, &id)?;
    Ok(Style::new(&cloud, &caller, version).one(&flavor))
}

static UPDATE: LazyLock<Schema> = LazyLock::new(|| Schema::wrapped("flavor", object().required("description", description())));

async fn update(
    State(cloud): State<Cloud>,
    caller: Caller,
    version: Microversion,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<Value>, Fault> {
    version.require(55..)?;
    let body = body.validated(&UPDATE, version)?;
    policy::admin(&caller, "os_compute_api:os-flavor-manage:update")?;
    let description = body["flavor"]["description"].as_str().map(str::to_owned);
    let change = move |flavor: &mut Flavor| {
        flavor.description = description.clone();
        Ok(())
    };
    let flavor = change_flavor(&cloud, id, change).await?;
    Ok(Style::new(&cloud, &caller, version).one(&flavor))
}

async fn delete(State(cloud): State<Cloud>, caller: Caller, Path(id): Path<String>) -> Result<StatusCode, Fault> {
    policy::admin(&caller, "os_compute_api:os-flavor-manage:delete")?;
    cloud.store.transact(move |tx| tx.delete::<Flavor>(&Id::new(id.as_str()))).await.map_err(Fault::from)?;
    Ok(StatusCode::ACCEPTED)
}

/// One change of one flavor, in a transaction of its own.
async fn change_flavor(
    cloud: &Cloud,
    id: String,
    change: impl Fn(&mut Flavor) -> Result<(), Fault> + Send + 'static,
) -> Result<Arc<Flavor>, Fault> {
    cloud.store.transact(move |tx| tx.update(&Id::new(id.as_str()), &change)).await
}
