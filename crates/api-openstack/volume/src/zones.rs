//! `/os-availability-zone`: the zones of the hosts, which compute has too.

use std::collections::BTreeMap;

use axum::Json;
use serde_json::{Value, json};
use unkai_model::compute::{Aggregate, DEFAULT_ZONE, Host};
use unkai_openstack::Routes;
use unkai_openstack::web::Fault;
use unkai_store::View;

use crate::cx::Cx;

pub fn routes() -> Routes {
    Routes::new().get("/os-availability-zone", list)
}

/// Zone -> is a host of it up?
fn zones(view: &View) -> BTreeMap<String, bool> {
    let mut zones = BTreeMap::from([(DEFAULT_ZONE.to_owned(), false)]);
    for host in view.all::<Host>() {
        *zones.entry(of_host(view, &host)).or_default() |= host.is_up();
    }
    zones
}

pub fn of_host(view: &View, host: &Host) -> String {
    let zone = view.by_index::<Aggregate>("host", host.meta.id.as_str()).find_map(|aggregate| aggregate.zone().map(str::to_owned));
    zone.unwrap_or_else(|| DEFAULT_ZONE.to_owned())
}

pub fn exists(view: &View, zone: &str) -> bool {
    zones(view).contains_key(zone)
}

async fn list(cx: Cx) -> Result<Json<Value>, Fault> {
    let zones = zones(&cx.view().await?);
    let shown = zones.iter().map(|(name, available)| json!({ "zoneName": name, "zoneState": { "available": available } }));
    Ok(Json(json!({ "availabilityZoneInfo": shown.collect::<Vec<_>>() })))
}
