//! Availability zones: those that aggregates name, the default one, and `internal` for the controller's own services.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde_json::{Map, Value, json};
use unkai_model::Id;
use unkai_model::compute::{Aggregate, DEFAULT_ZONE, Host};
use unkai_openstack::{Caller, Cloud, Routes, iso};
use unkai_store::View;

use super::policy;
use super::services::{Service, services};
use crate::Fault;

/// Where the services of the controller are.
pub const INTERNAL: &str = "internal";

pub fn routes() -> Routes {
    Routes::new().get("/v2.1/os-availability-zone", index).get("/v2.1/os-availability-zone/detail", detail)
}

/// The zone of a host.
pub fn zone_of(view: &View, host: &Id<Host>) -> String {
    let zone = view.by_index::<Aggregate>("host", host.as_str()).find_map(|aggregate| aggregate.zone().map(str::to_owned));
    zone.unwrap_or_else(|| DEFAULT_ZONE.to_owned())
}

/// Zone -> its services. A zone is available while one of them is enabled.
fn zones(view: &View) -> BTreeMap<String, Vec<Service>> {
    let mut zones: BTreeMap<String, Vec<Service>> = BTreeMap::new();
    for service in services(view) {
        zones.entry(service.zone.clone()).or_default().push(service);
    }
    zones
}

fn render(name: &str, services: &[Service], hosts: Value) -> Value {
    let available = services.iter().any(Service::is_enabled);
    json!({ "zoneName": name, "zoneState": { "available": available }, "hosts": hosts })
}

async fn index(State(cloud): State<Cloud>, caller: Caller) -> Result<Json<Value>, Fault> {
    policy::allow(!caller.roles.is_empty(), "os_compute_api:os-availability-zone:list")?;
    let zones = zones(&cloud.store.read().await?);
    let shown: Vec<_> = zones.iter().filter(|(name, _)| *name != INTERNAL).map(|(name, list)| render(name, list, Value::Null)).collect();
    Ok(Json(json!({ "availabilityZoneInfo": shown })))
}

async fn detail(State(cloud): State<Cloud>, caller: Caller) -> Result<Json<Value>, Fault> {
    policy::admin(&caller, "os_compute_api:os-availability-zone:detail")?;
    let zones = zones(&cloud.store.read().await?);
    let shown: Vec<_> = zones.iter().map(|(name, list)| render(name, list, hosts(list))).collect();
    Ok(Json(json!({ "availabilityZoneInfo": shown })))
}

fn hosts(services: &[Service]) -> Value {
    let mut hosts = Map::new();
    for service in services {
        let state = json!({ "available": service.up, "active": service.is_enabled(), "updated_at": iso(service.updated) });
        hosts.entry(service.host.clone()).or_insert_with(|| json!({}))[service.binary] = state;
    }
    Value::Object(hosts)
}
