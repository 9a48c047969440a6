//! Security groups and addresses of a running server's ports.

use axum::Json;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use unkai_model::Id;
use unkai_model::compute::Server;
use unkai_model::network::{Port, SecurityGroup, Subnet};
use unkai_network::verbs::{self, AddressWish, PortChange};
use unkai_store::{Tx, View};

use super::super::create::{reference, text};
use super::super::cx::Cx;
use super::super::perform::{Rule, look, perform};
use super::super::schemas;
use super::{Action, accepted, no_longer};
use crate::Fault;
use crate::admin::network::security_groups::render;

static ADD: Rule = Rule::note("addSecurityGroup", "os_compute_api:os-security-groups:add", &[]);
static REMOVE: Rule = Rule::note("removeSecurityGroup", "os_compute_api:os-security-groups:remove", &[]);
static FIXED: Rule = Rule::note("addFixedIp", "os_compute_api:os-multinic:add", &[]);

pub async fn add(request: Action) -> Result<Response, Fault> {
    request.check(&schemas::security_group("addSecurityGroup"))?;
    let name = text(&request.body["addSecurityGroup"], "name").unwrap_or_default();
    perform(&request.cx, &request.id, &ADD, move |tx, server, _| {
        let group = find(&tx.view(), server, &name)?;
        change(tx, server, |groups| {
            if !groups.contains(&group) {
                groups.push(group.clone());
            }
        })
    })
    .await?;
    Ok(accepted())
}

pub async fn remove(request: Action) -> Result<Response, Fault> {
    request.check(&schemas::security_group("removeSecurityGroup"))?;
    let name = text(&request.body["removeSecurityGroup"], "name").unwrap_or_default();
    perform(&request.cx, &request.id, &REMOVE, move |tx, server, _| {
        let group = find(&tx.view(), server, &name)?;
        let ports = server.spec.ports.iter().filter_map(|port| tx.get(port));
        if !ports.into_iter().any(|port: std::sync::Arc<Port>| port.security_groups.contains(&group)) {
            return Err(Fault::not_found(format!("Security group {name} not associated with the instance {}", server.meta.id)));
        }
        change(tx, server, |groups| groups.retain(|id| *id != group))
    })
    .await?;
    Ok(accepted())
}

fn find(view: &View, server: &Server, name: &str) -> Result<Id<SecurityGroup>, Fault> {
    let project = server.meta.project.clone().unwrap_or_else(|| Id::new(""));
    let found = verbs::find_security_group(view, &project, name).map_err(|refusal| match refusal.status.as_u16() {
        404 => Fault::not_found(format!("Security group {name} not found for project {project}.")),
        _ => Fault::conflict(format!("Multiple security groups found matching '{name}'. Use an ID to be more specific.")),
    })?;
    Ok(found.meta.id.clone())
}

/// Changes the groups of every port that can have groups.
fn change(tx: &mut Tx, server: &Server, change: impl Fn(&mut Vec<Id<SecurityGroup>>)) -> Result<(), Fault> {
    for id in &server.spec.ports {
        let Some(port) = tx.get(id).filter(|port: &std::sync::Arc<Port>| port.port_security && !port.fixed_ips.is_empty()) else {
            continue;
        };
        let mut groups = port.security_groups.clone();
        change(&mut groups);
        if groups != port.security_groups {
            verbs::update_port(tx, id, &PortChange { security_groups: Some(groups), ..PortChange::default() })?;
        }
    }
    Ok(())
}

/// The groups of a server's ports, each once, by name.
pub fn group_names(view: &View, server: &Server) -> Vec<std::sync::Arc<SecurityGroup>> {
    let ports = server.spec.ports.iter().filter_map(|port| view.get(port));
    let mut groups: Vec<_> = ports.flat_map(|port| port.security_groups.clone()).filter_map(|id| view.get(&id)).collect();
    groups.sort_by(|a, b| (&a.meta.name, &a.meta.id).cmp(&(&b.meta.name, &b.meta.id)));
    groups.dedup_by(|a, b| a.meta.id == b.meta.id);
    groups
}

/// `GET /servers/{id}/os-security-groups`.
pub async fn list(cx: Cx, Path(id): Path<String>) -> Result<Response, Fault> {
    let (view, server, _) = look(&cx, &id).await?;
    let groups: Vec<Value> = group_names(&view, &server).iter().map(|group| render(&view, group)).collect();
    Ok(Json(json!({ "security_groups": groups })).into_response())
}

pub async fn add_fixed_ip(request: Action) -> Result<Response, Fault> {
    if request.cx.version.at_least(44) {
        return Err(no_longer());
    }
    request.check(&schemas::FIXED_IP)?;
    let network = reference(&request.body["addFixedIp"]["networkId"]);
    perform(&request.cx, &request.id, &FIXED, move |tx, server, _| {
        let ports = server.spec.ports.iter().filter_map(|port| tx.get(port));
        let port = ports.into_iter().find(|port: &std::sync::Arc<Port>| port.network.as_str() == network);
        let port = port.ok_or_else(|| Fault::bad_request("Unable to associate a fixed IP: the server has no port on the network."))?;
        let subnet = tx.by_index::<Subnet>("network", &network).next().ok_or_else(|| Fault::bad_request("The network has no subnet."))?;
        let mut wishes = keep(&port);
        wishes.push(AddressWish::of_subnet(subnet.meta.id.clone()));
        verbs::update_port(tx, &port.meta.id, &PortChange { fixed_ips: Some(wishes), ..PortChange::default() })?;
        Ok(())
    })
    .await?;
    Ok(accepted())
}

pub async fn remove_fixed_ip(request: Action) -> Result<Response, Fault> {
    if request.cx.version.at_least(44) {
        return Err(no_longer());
    }
    request.check(&schemas::UNFIXED_IP)?;
    let address = text(&request.body["removeFixedIp"], "address").unwrap_or_default();
    perform(&request.cx, &request.id, &FIXED, move |tx, server, _| {
        let has = |port: &std::sync::Arc<Port>| port.addresses().any(|found| found.to_string() == address);
        let ports = server.spec.ports.iter().filter_map(|port| tx.get(port));
        let port = ports
            .into_iter()
            .find(has)
            .ok_or_else(|| Fault::bad_request(format!("Fixed IP address {address} not found for instance {}", server.meta.id)))?;
        let wishes = keep(&port).into_iter().filter(|wish| wish.address.is_some_and(|found| found.to_string() != address)).collect();
        verbs::update_port(tx, &port.meta.id, &PortChange { fixed_ips: Some(wishes), ..PortChange::default() })?;
        Ok(())
    })
    .await?;
    Ok(accepted())
}

fn keep(port: &Port) -> Vec<AddressWish> {
    port.fixed_ips.iter().map(|ip| AddressWish::exactly(ip.subnet.clone(), ip.address)).collect()
}
