//! Availability zones of networks and routers. Every host carries both, in the zone that compute calls by default `nova`.

use axum::extract::{Query as Pairs, State};
use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};
use unkai_model::compute::Host;
use unkai_openstack::{Caller, Cloud, Routes};
use unkai_store::View;

use crate::Refusal;
use crate::object::Object;
use crate::query::Query;
use crate::resource::answer;

const DEFAULT_ZONE: &str = "nova";

/// What is placed in a zone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Zone {
    Network,
    Router,
}

impl Zone {
    fn text(self) -> &'static str {
        match self {
            Zone::Network => "network",
            Zone::Router => "router",
        }
    }
}

/// The zones that have a host.
pub fn names(view: &View, _: Zone) -> Vec<&'static str> {
    view.all::<Host>().next().map(|_| DEFAULT_ZONE).into_iter().collect()
}

/// A wish for a zone that is not there cannot be met.
pub fn check_hints(view: &View, zone: Zone, hints: &[String]) -> Result<(), Refusal> {
    match hints.iter().find(|hint| !names(view, zone).contains(&hint.as_str())) {
        None => Ok(()),
        Some(hint) => Err(Refusal::missing("AvailabilityZoneNotFound", format!("AvailabilityZone {hint} could not be found."))),
    }
}

pub fn routes() -> Routes {
    Routes::new().get("/v2.0/availability_zones", list)
}

async fn list(State(cloud): State<Cloud>, _: Caller, Pairs(pairs): Pairs<Vec<(String, String)>>) -> Result<Response, Refusal> {
    let view = cloud.store.read().await?;
    let query = Query::parse(pairs)?;
    let up = view.all::<Host>().any(|host| host.is_up());
    let of = |zone: Zone| names(&view, zone).into_iter().map(move |name| (name, zone));
    let zones = of(Zone::Network).chain(of(Zone::Router)).map(|(name, zone)| {
        let mut object = Object::of(None);
        object.put("name", || name);
        object.put("resource", || zone.text());
        object.put("state", || if up { "available" } else { "unavailable" });
        object
    });
    let found: Vec<Value> = zones.filter(|z| query.accepts(z)).map(|z| z.select(&query.fields).into_value()).collect();
    Ok(answer(StatusCode::OK, &json!({"availability_zones": found})))
}
