//! `/os-hosts`: the services as hosts, and what is on them by project.

use std::collections::BTreeMap;

use axum::Json;
use jiff::Timestamp;
use serde_json::{Value, json};
use unkai_model::compute::DEFAULT_ZONE;
use unkai_model::volume::{Pool, Snapshot, Volume};
use unkai_openstack::web::{Fault, Query};
use unkai_openstack::{Routes, iso};

use super::backend;
use super::services::services;
use crate::cx::Cx;

pub fn routes() -> Routes {
    Routes::new().get("/os-hosts", list).get("/os-hosts/{id}", show)
}

async fn list(cx: Cx, query: Query) -> Result<Json<Value>, Fault> {
    cx.require_admin("volume_extension:hosts")?;
    let view = cx.view().await?;
    let all = services(&view, Timestamp::now());
    let wanted = all.iter().filter(|service| query.get("service").is_none_or(|name| service.binary == name));
    let shown = wanted.map(|service| {
        json!({
            "host_name": service.host,
            "service": service.binary,
            "zone": DEFAULT_ZONE,
            "service-status": if service.up { "available" } else { "unavailable" },
            "service-state": if service.disabled.is_some() { "disabled" } else { "enabled" },
            "last-update": iso(service.updated),
        })
    });
    Ok(Json(json!({ "hosts": shown.collect::<Vec<_>>() })))
}

#[derive(Default)]
struct Sum {
    volumes: u64,
    volume_gib: u64,
    snapshots: u64,
    snapshot_gib: u64,
}

async fn show(cx: Cx) -> Result<Json<Value>, Fault> {
    cx.require_admin("volume_extension:hosts")?;
    let view = cx.view().await?;
    let name = cx.param("id");
    let pool = view.all::<Pool>().find(|pool| backend(pool) == name && pool.disabled.is_none());
    let pool = pool.ok_or_else(|| Fault::not_found(format!("Host {name} could not be found.")))?;
    let mut sums: BTreeMap<String, Sum> = BTreeMap::new();
    for volume in view.by_index::<Volume>("pool", pool.meta.id.as_str()) {
        let sum = sums.entry(volume.meta.project.as_ref().map_or_else(String::new, ToString::to_string)).or_default();
        (sum.volumes, sum.volume_gib) = (sum.volumes + 1, sum.volume_gib + volume.spec.size_gib);
        for snapshot in view.by_index::<Snapshot>("volume", volume.meta.id.as_str()) {
            (sum.snapshots, sum.snapshot_gib) = (sum.snapshots + 1, sum.snapshot_gib + snapshot.size_gib);
        }
    }
    let total = sums.values().fold(Sum::default(), |a, b| Sum {
        volumes: a.volumes + b.volumes,
        volume_gib: a.volume_gib + b.volume_gib,
        snapshots: a.snapshots + b.snapshots,
        snapshot_gib: a.snapshot_gib + b.snapshot_gib,
    });
    let row = |project: &str, sum: &Sum| {
        json!({ "resource": {
            "host": name,
            "project": project,
            "volume_count": sum.volumes.to_string(),
            "total_volume_gb": sum.volume_gib.to_string(),
            "snapshot_count": sum.snapshots.to_string(),
            "total_snapshot_gb": sum.snapshot_gib.to_string(),
        } })
    };
    let rows: Vec<Value> = [row("(total)", &total)].into_iter().chain(sums.iter().map(|(project, sum)| row(project, sum))).collect();
    Ok(Json(json!({ "host": rows })))
}
