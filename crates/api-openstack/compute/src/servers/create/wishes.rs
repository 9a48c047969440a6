//! Where a server is to go: availability zone, host, and the company it wants or avoids.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};
use unkai_model::Id;
use unkai_model::compute::{Aggregate, DEFAULT_ZONE, Host, PlacementWish, ServerGroup};
use unkai_model::identity::Project;
use unkai_store::View;

use super::super::cx::Cx;
use super::request::Request;
use crate::Fault;

pub fn wish(view: &View, cx: &Cx, project: &Id<Project>, request: &Request) -> Result<PlacementWish, Fault> {
    let (zone, forced_host) = zone_and_host(view, cx, request.zone.as_deref())?;
    let host = request.host.as_deref().map(|name| requested_host(view, cx, name)).transpose()?;
    let group = request.hints.get("group").and_then(Value::as_str).map(|id| group(view, project, id)).transpose()?;
    Ok(PlacementWish {
        zone,
        host,
        forced_host,
        group,
        same_host: names(&request.hints, "same_host"),
        different_host: names(&request.hints, "different_host"),
        hints: request.hints.iter().map(|(key, value)| (key.clone(), value.clone())).collect::<BTreeMap<_, _>>(),
        avoid: BTreeSet::new(),
    })
}

/// `zone`, or `zone:host` of an administrator.
fn zone_and_host(view: &View, cx: &Cx, text: Option<&str>) -> Result<(Option<String>, Option<String>), Fault> {
    let Some(text) = text else { return Ok((None, None)) };
    let mut parts = text.splitn(3, ':').map(|part| Some(part.to_owned()).filter(|part| !part.is_empty()));
    let (zone, host, node) = (parts.next().flatten(), parts.next().flatten(), parts.next().flatten());
    if let Some(zone) = &zone {
        check_zone(view, zone)?;
    }
    let host = host.or(node);
    if let Some(host) = &host {
        cx.require_admin("os_compute_api:servers:create:forced_host")?;
        check_host(view, host)?;
    }
    Ok((zone, host))
}

pub fn check_zone(view: &View, zone: &str) -> Result<(), Fault> {
    if zone == DEFAULT_ZONE || view.by_index::<Aggregate>("zone", zone).next().is_some() {
        return Ok(());
    }
    Err(Fault::bad_request("The requested availability zone is not available"))
}

pub fn check_host(view: &View, name: &str) -> Result<(), Fault> {
    match view.holder::<Host>("host-name", name) {
        Some(_) => Ok(()),
        None => Err(Fault::bad_request(format!("Compute host {name} could not be found."))),
    }
}

fn requested_host(view: &View, cx: &Cx, name: &str) -> Result<String, Fault> {
    cx.require_admin("compute:servers:create:requested_destination")?;
    check_host(view, name)?;
    Ok(name.to_owned())
}

fn group(view: &View, project: &Id<Project>, id: &str) -> Result<String, Fault> {
    let found = view.get(&Id::<ServerGroup>::new(id)).filter(|group| group.meta.project.as_ref() == Some(project));
    found.map(|group| group.meta.id.to_string()).ok_or_else(|| Fault::bad_request(format!("Instance group {id} could not be found.")))
}

/// One id or a list of them.
fn names(hints: &Map<String, Value>, key: &str) -> BTreeSet<String> {
    match hints.get(key) {
        Some(Value::String(id)) => BTreeSet::from([id.clone()]),
        Some(Value::Array(ids)) => ids.iter().filter_map(|id| id.as_str().map(str::to_owned)).collect(),
        _ => BTreeSet::new(),
    }
}
