//! Changing a port.

use std::collections::BTreeMap;
use std::sync::Arc;

use unkai_model::Id;
use unkai_model::compute::Host;
use unkai_model::network::{AddressPair, DhcpOption, FloatingIp, MacAddr, Port, SecurityGroup};
use unkai_store::Tx;

use super::port::{AddressWish, check_groups, check_pairs, choose_addresses, choose_mac, security_needed};
use crate::Refusal;

/// What is to change; none: stays.
#[derive(Debug, Clone, Default)]
pub struct PortChange {
    pub name: Option<String>,
    pub description: Option<String>,
    pub admin_up: Option<bool>,
    pub mac: Option<MacAddr>,
    /// All addresses the port is to have; those it has and that fit a wish stay.
    pub fixed_ips: Option<Vec<AddressWish>>,
    pub device_id: Option<String>,
    pub device_owner: Option<String>,
    pub port_security: Option<bool>,
    pub security_groups: Option<Vec<Id<SecurityGroup>>>,
    pub allowed_address_pairs: Option<Vec<AddressPair>>,
    /// By name and version; without a value: removed.
    pub extra_dhcp_options: Option<Vec<(DhcpOption, bool)>>,
    pub dns_name: Option<String>,
    pub vnic_type: Option<String>,
    pub binding_host: Option<Option<Id<Host>>>,
    pub binding_profile: Option<BTreeMap<String, serde_json::Value>>,
}

pub fn update_port(tx: &mut Tx, id: &Id<Port>, change: &PortChange) -> Result<Arc<Port>, Refusal> {
    let mut port = Port::clone(&*tx.require(id)?);
    change_addresses(tx, &mut port, change)?;
    change_security(tx, &mut port, change)?;
    change_options(&mut port, change);
    set(&mut port.meta.name, &change.name);
    set(&mut port.standard.description, &change.description);
    set(&mut port.admin_up, &change.admin_up);
    set(&mut port.device_id, &change.device_id);
    set(&mut port.device_owner, &change.device_owner);
    set(&mut port.dns_name, &change.dns_name);
    set(&mut port.vnic_type, &change.vnic_type);
    set(&mut port.binding_profile, &change.binding_profile);
    set(&mut port.binding_host, &change.binding_host);
    port.meta.generation += 1;
    drop_lost_targets(tx, &port)?;
    tx.update(id, |stored| {
        *stored = port;
        Ok(())
    })
}

fn set<T: Clone>(field: &mut T, wished: &Option<T>) {
    if let Some(value) = wished {
        *field = value.clone();
    }
}

fn change_addresses(tx: &Tx, port: &mut Port, change: &PortChange) -> Result<(), Refusal> {
    if let Some(mac) = change.mac.filter(|mac| *mac != port.mac) {
        if port.status.up {
            let text = format!(
                "Unable to complete operation on port {}, port is already bound, port type: bridge, old_mac {}, new_mac {mac}.",
                port.meta.id, port.mac
            );
            return Err(Refusal::conflict("PortBound", text));
        }
        port.mac = choose_mac(tx, &port.network, Some(mac))?;
    }
    if let Some(wishes) = &change.fixed_ips {
        let network = tx.require(&port.network)?;
        let owner = change.device_owner.as_ref().unwrap_or(&port.device_owner);
        port.fixed_ips = choose_addresses(tx, &network, owner, port.mac, Some(wishes), &port.fixed_ips)?;
    }
    Ok(())
}

fn change_security(tx: &Tx, port: &mut Port, change: &PortChange) -> Result<(), Refusal> {
    let port_security = change.port_security.unwrap_or(port.port_security);
    let groups = match &change.security_groups {
        Some(groups) => check_groups(tx, port.meta.project.as_ref(), groups)?,
        None => port.security_groups.clone(),
    };
    if !groups.is_empty() && (!port_security || port.fixed_ips.is_empty()) {
        return Err(match change.security_groups {
            Some(_) => security_needed(),
            None => Refusal::conflict(
                "PortSecurityPortHasSecurityGroup",
                "Port has security group associated. Cannot disable port security or IP address until security group is removed.",
            ),
        });
    }
    let pairs = change.allowed_address_pairs.as_ref().unwrap_or(&port.allowed_address_pairs);
    check_pairs(port_security, pairs)?;
    port.allowed_address_pairs = pairs.clone();
    port.port_security = port_security;
    port.security_groups = groups;
    Ok(())
}

fn change_options(port: &mut Port, change: &PortChange) {
    for (option, keep) in change.extra_dhcp_options.iter().flatten() {
        port.extra_dhcp_options.retain(|o| (&o.name, o.ip_version) != (&option.name, option.ip_version));
        if *keep {
            port.extra_dhcp_options.push(option.clone());
        }
    }
}

/// A floating IP cannot lead to an address that the port no longer has.
fn drop_lost_targets(tx: &mut Tx, port: &Port) -> Result<(), Refusal> {
    let floating: Vec<_> = tx.by_index::<FloatingIp>("port", port.meta.id.as_str()).collect();
    for floating in floating {
        if floating.target.as_ref().is_some_and(|t| !port.has_address(t.address)) {
            super::floating_ip::dissociate(tx, &floating.meta.id)?;
        }
    }
    Ok(())
}
