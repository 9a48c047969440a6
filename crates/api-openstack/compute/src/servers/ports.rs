//! The ports of servers: which networks a server gets, making, bringing and releasing ports.
//!
//! All of it happens inside the transaction of the request, by the network dialect's verbs.

use std::net::IpAddr;
use std::sync::Arc;

use unkai_model::Id;
use unkai_model::compute::Server;
use unkai_model::identity::Project;
use unkai_model::network::{Network, Port, SecurityGroup, Subnet, owner};
use unkai_network::verbs::{self, AddressWish, PortChange, PortRequest};
use unkai_store::{Tx, View};

use super::cx::Cx;
use crate::Fault;

/// One interface that was asked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NicWish {
    pub network: Option<String>,
    pub port: Option<String>,
    pub fixed_ip: Option<IpAddr>,
    pub tag: Option<String>,
}

/// The `networks` of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Networks {
    /// Nothing was said, before 2.37: the only network there is, or none.
    Unsaid,
    /// The only network there is, or one made for the project.
    Auto,
    None,
    These(Vec<NicWish>),
}

/// Gives a new or changed server the interfaces that were asked for.
pub fn plug(tx: &mut Tx, cx: &Cx, server: &mut Server, networks: &Networks, groups: &[Id<SecurityGroup>]) -> Result<(), Fault> {
    let project = server.meta.project.clone().ok_or_else(|| Fault::forbidden("The token is not scoped to a project."))?;
    let wishes = match networks {
        Networks::None => Vec::new(),
        Networks::These(wishes) if !wishes.is_empty() => wishes.clone(),
        Networks::These(_) | Networks::Unsaid => the_network(&tx.view(), cx, &project)?.into_iter().map(on_network).collect(),
        Networks::Auto => vec![on_network(match the_network(&tx.view(), cx, &project)? {
            Some(network) => network,
            None => verbs::auto_allocated_topology(tx, &project)?.network.clone(),
        })],
    };
    for wish in &wishes {
        add(tx, cx, server, wish, groups)?;
    }
    Ok(())
}

fn on_network(network: Id<Network>) -> NicWish {
    NicWish { network: Some(network.to_string()), ..NicWish::default() }
}

/// The only network the project can use; refused when there are several.
fn the_network(view: &View, cx: &Cx, project: &Id<Project>) -> Result<Option<Id<Network>>, Fault> {
    let usable = |network: &Arc<Network>| cx.is_admin() && network.meta.project.as_ref() == Some(project) || !network.external;
    let mut networks = verbs::candidate_networks(view, project).into_iter().filter(usable);
    match (networks.next(), networks.next()) {
        (_, Some(_)) => Err(Fault::conflict("Multiple possible networks found, use a Network ID to be more specific.")),
        (found, None) => Ok(found.map(|network| network.meta.id.clone())),
    }
}

/// Adds one interface: a port that was brought, or one made for it.
pub fn add(tx: &mut Tx, cx: &Cx, server: &mut Server, wish: &NicWish, groups: &[Id<SecurityGroup>]) -> Result<Id<Port>, Fault> {
    let port = match &wish.port {
        Some(port) => bring(tx, cx, server, port)?,
        None => make(tx, cx, server, wish, groups)?,
    };
    if let Some(tag) = &wish.tag {
        server.spec.port_tags.insert(port.clone(), tag.clone());
    }
    server.spec.ports.push(port.clone());
    Ok(port)
}

fn bring(tx: &mut Tx, cx: &Cx, server: &mut Server, id: &str) -> Result<Id<Port>, Fault> {
    let missing = || Fault::bad_request(format!("Port id {id} could not be found."));
    let port = tx.get(&Id::<Port>::new(id)).ok_or_else(missing)?;
    if !cx.sees(port.meta.project.as_ref()) {
        return Err(missing());
    }
    if !port.device_id.is_empty() {
        return Err(Fault::conflict(format!("Port {id} is still in use.")));
    }
    if port.fixed_ips.is_empty() && tx.by_index::<Subnet>("network", port.network.as_str()).next().is_some() {
        return Err(Fault::bad_request(format!("Port {id} requires a FixedIP in order to be used.")));
    }
    take(tx, server, &port.meta.id)?;
    server.spec.brought_ports.insert(port.meta.id.clone());
    Ok(port.meta.id.clone())
}

fn take(tx: &mut Tx, server: &Server, port: &Id<Port>) -> Result<(), Fault> {
    let change = PortChange {
        device_id: Some(server.meta.id.to_string()),
        device_owner: Some(owner::COMPUTE.into()),
        binding_host: Some(server.status.host.clone()),
        ..PortChange::default()
    };
    verbs::update_port(tx, port, &change)?;
    Ok(())
}

fn make(tx: &mut Tx, cx: &Cx, server: &Server, wish: &NicWish, groups: &[Id<SecurityGroup>]) -> Result<Id<Port>, Fault> {
    let project = server.meta.project.clone().ok_or_else(|| Fault::forbidden("The token is not scoped to a project."))?;
    let network = network(&tx.view(), cx, &project, wish.network.as_deref())?;
    let has_subnet = tx.by_index::<Subnet>("network", network.meta.id.as_str()).next().is_some();
    if !has_subnet {
        return Err(Fault::bad_request(format!("Network {} requires a subnet in order to boot instances on.", network.meta.id)));
    }
    if !groups.is_empty() && !network.port_security {
        return Err(Fault::bad_request("Network requires port_security_enabled and subnet associated in order to apply security groups."));
    }
    let hostname = &server.spec.launch.hostname;
    let request = PortRequest {
        fixed_ips: wish.fixed_ip.map(|address| vec![AddressWish::address(address)]),
        security_groups: (!groups.is_empty()).then(|| groups.to_vec()),
        binding_host: server.status.host.clone(),
        dns_name: if hostname.len() <= 63 && !hostname.contains('.') { hostname.clone() } else { String::new() },
        ..PortRequest::for_server(network.meta.id.clone(), project, server.meta.id.as_str())
    };
    Ok(verbs::create_port(tx, &request)?.meta.id.clone())
}

/// The network a tenant named, if it may plug servers into it.
fn network(view: &View, cx: &Cx, project: &Id<Project>, id: Option<&str>) -> Result<Arc<Network>, Fault> {
    let id = id.unwrap_or_default();
    let missing = || Fault::bad_request(format!("Network {id} could not be found."));
    let network = view.get(&Id::<Network>::new(id)).ok_or_else(missing)?;
    if !cx.is_admin() && !verbs::may_see_network(view, Some(project), &network) {
        return Err(missing());
    }
    let usable = network.meta.project.as_ref() == Some(project) || verbs::is_shared_with(view, id, Some(project));
    if network.external && !usable && !cx.is_admin() {
        return Err(Fault::forbidden(format!("It is not allowed to create an interface on external network {id}")));
    }
    Ok(network)
}

/// Ports that were made for the server go; ports that were brought stay, without a device.
pub fn release(tx: &mut Tx, server: &mut Server, port: &Id<Port>) -> Result<(), Fault> {
    server.spec.ports.retain(|id| id != port);
    server.spec.port_tags.remove(port);
    let brought = server.spec.brought_ports.remove(port);
    match (tx.get(port), brought) {
        (None, _) => {}
        (Some(_), true) => {
            let change = PortChange {
                device_id: Some(String::new()),
                device_owner: Some(String::new()),
                binding_host: Some(None),
                ..PortChange::default()
            };
            verbs::update_port(tx, port, &change)?;
        }
        (Some(_), false) => verbs::delete_port(tx, port)?,
    }
    Ok(())
}

/// The security groups of these names or ids.
pub fn security_groups(view: &View, project: &Id<Project>, names: &[String]) -> Result<Vec<Id<SecurityGroup>>, Fault> {
    let mut groups = Vec::new();
    for name in names {
        // The default group is made when it is first needed; naming it alone is saying nothing.
        if name == "default" && names.len() == 1 {
            return Ok(Vec::new());
        }
        let found = verbs::find_security_group(view, project, name).map_err(|refusal| match refusal.status.as_u16() {
            404 => Fault::bad_request(format!("Security group {name} not found for project {project}.")),
            _ => Fault::conflict(format!("Multiple security groups found matching '{name}'. Use an ID to be more specific.")),
        })?;
        groups.push(found.meta.id.clone());
    }
    groups.sort();
    groups.dedup();
    Ok(groups)
}
