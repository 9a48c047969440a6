//! Hosts into and out of an aggregate. A host is in one zone only, and does not change it under the servers it runs.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use axum::extract::{Path, State};
use http::StatusCode;
use serde_json::Value;
use unkai_model::Id;
use unkai_model::compute::{Aggregate, DEFAULT_ZONE, Host, Server};
use unkai_model::image::Image;
use unkai_openstack::{Caller, Cloud};
use unkai_store::{Tx, View};

use super::{find, host_named, number};
use crate::admin::policy;
use crate::admin::zones::zone_of;
use crate::body::Body;
use crate::schema::{Format, Schema, object};
use crate::{Fault, Microversion};

fn host() -> Schema {
    let plain = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'));
    let name = Format { name: "hostname", accepts: plain, message: None };
    object().required("host", Schema::String { min: 1, max: 255, format: Some(name) }).into()
}
static ADD: LazyLock<Schema> = LazyLock::new(|| Schema::wrapped("add_host", host()));
static REMOVE: LazyLock<Schema> = LazyLock::new(|| Schema::wrapped("remove_host", host()));
static CACHE: LazyLock<Schema> = LazyLock::new(|| {
    let items = Box::new(object().required("id", Schema::uuid()).into());
    Schema::wrapped("cache", Schema::Array { items, min: 1, max: usize::MAX, unique: false })
});

pub async fn add(cloud: &Cloud, caller: &Caller, version: Microversion, id: String, body: &Value) -> Result<Arc<Aggregate>, Fault> {
    ADD.check_body(body, version)?;
    policy::admin(caller, "os_compute_api:os-aggregates:add_host")?;
    let name = body["add_host"]["host"].as_str().unwrap_or("").to_owned();
    let transaction = move |tx: &mut Tx| {
        let view = tx.view();
        let (aggregate, host) = (find(&view, &id)?, host_named(&view, &name)?);
        if aggregate.hosts.contains(&host) {
            return Err(Fault::conflict(format!("Aggregate {id} already has host {name}.")));
        }
        may_move(&view, &host, &aggregate.meta.id, aggregate.zone())
            .map_err(|why| Fault::conflict(format!("Cannot add host to aggregate {id}. Reason: {why}.")))?;
        tx.update(&aggregate.meta.id, |aggregate| {
            aggregate.hosts.insert(host);
            Ok(())
        })
    };
    cloud.store.transact(transaction).await
}

pub async fn remove(cloud: &Cloud, caller: &Caller, version: Microversion, id: String, body: &Value) -> Result<Arc<Aggregate>, Fault> {
    REMOVE.check_body(body, version)?;
    policy::admin(caller, "os_compute_api:os-aggregates:remove_host")?;
    let name = body["remove_host"]["host"].as_str().unwrap_or("").to_owned();
    let transaction = move |tx: &mut Tx| {
        let view = tx.view();
        let aggregate = find(&view, &id)?;
        let absent = || Fault::not_found(format!("Cannot remove host {name} in aggregate {id}"));
        let host = host_named(&view, &name).map_err(|_| absent())?;
        if !aggregate.hosts.contains(&host) {
            return Err(absent());
        }
        may_move(&view, &host, &aggregate.meta.id, None)
            .map_err(|why| Fault::conflict(format!("Cannot remove host from aggregate {id}. Reason: {why}.")))?;
        tx.update(&aggregate.meta.id, |aggregate| {
            aggregate.hosts.remove(&host);
            Ok(())
        })
    };
    cloud.store.transact(transaction).await
}

/// Whether `host` may be where this aggregate, of `zone` from now on, puts it; else why not.
pub fn may_move(view: &View, host: &Id<Host>, aggregate: &Id<Aggregate>, zone: Option<&str>) -> Result<(), String> {
    let others = view.by_index::<Aggregate>("host", host.as_str()).filter(|other| other.meta.id != *aggregate);
    let other = others.filter_map(|other| other.zone().map(str::to_owned)).next();
    if let (Some(other), Some(zone)) = (other.as_deref(), zone)
        && other != zone
    {
        return Err(format!("One or more hosts already in availability zone(s) {other}"));
    }
    let after = zone.or(other.as_deref()).unwrap_or(DEFAULT_ZONE);
    let runs_servers = || view.by_index::<Server>("host", host.as_str()).next().is_some();
    if zone_of(view, host) != after && runs_servers() {
        return Err("One or more hosts contain instances in this zone".into());
    }
    Ok(())
}

/// Images that the hosts of the aggregate should have at hand: a wish kept in the aggregate, which every host that is up acts on.
pub async fn cache(
    State(cloud): State<Cloud>,
    caller: Caller,
    version: Microversion,
    Path(id): Path<String>,
    body: Body,
) -> Result<StatusCode, Fault> {
    version.require(81..)?;
    let body = body.validated(&CACHE, version)?;
    policy::admin(&caller, "compute:aggregates:images")?;
    number(&id)?;
    let listed: Vec<Id<Image>> =
        body["cache"].as_array().into_iter().flatten().filter_map(|item| item["id"].as_str()).map(Id::new).collect();
    let wanted: BTreeSet<Id<Image>> = listed.iter().cloned().collect();
    if wanted.len() < listed.len() {
        return Err(Fault::bad_request("Duplicate images in request"));
    }
    let transaction = move |tx: &mut Tx| {
        let view = tx.view();
        let aggregate = find(&view, &id)?;
        if let Some(missing) = wanted.iter().find(|image| tx.get::<Image>(image).is_none()) {
            return Err(Fault::bad_request(format!("Image {missing} could not be found.")));
        }
        tx.update(&aggregate.meta.id, |aggregate: &mut Aggregate| {
            aggregate.images.retain(|image| view.get(image).is_some());
            aggregate.images.extend(wanted.iter().cloned());
            aggregate.image_requests += 1;
            Ok(())
        })
    };
    cloud.store.transact(transaction).await?;
    Ok(StatusCode::ACCEPTED)
}
