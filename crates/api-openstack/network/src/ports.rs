//! `/ports`: what a port shows. What may be written is in `port_bodies`.

use std::sync::Arc;

use serde_json::{Value, json};
use unkai_model::Id;
use unkai_model::compute::Host;
use unkai_model::network::{Network, Port, Router, owner};
use unkai_openstack::CallerName;
use unkai_store::Tx;

use crate::Refusal;
use crate::fields::Fields;
use crate::object::Object;
use crate::port_bodies;
use crate::query::Query;
use crate::resource::{Cx, Resource, owned, unique, visible_in};
use crate::subnets::owns_network;
use crate::verbs::{self, PortChange, PortRequest};

impl Resource for Port {
    const ONE: &'static str = "port";
    const MANY: &'static str = "ports";
    const PATH: &'static str = "ports";
    const FIXED: &'static [&'static str] = &["binding:vif_type", "binding:vif_details", "dns_assignment"];
    const ONCE: &'static [&'static str] = &["network_id"];

    type New = PortRequest;
    type Change = PortChange;

    fn visible(&self, cx: &Cx) -> bool {
        cx.who.is_admin() || (cx.reads() && (cx.who.owns(self.meta.project.as_ref()) || owns_network(cx, &self.network)))
    }

    fn candidates(cx: &Cx, query: &Query) -> Vec<Arc<Self>> {
        if let Some(device) = query.only("device_id").filter(|d| !d.is_empty()) {
            return cx.view.by_index("device", device).collect();
        }
        if let Some(network) = query.only("network_id") {
            return cx.view.by_index("network", network).collect();
        }
        if let Some(group) = query.only("security_groups") {
            return cx.view.by_index("security-group", group).collect();
        }
        if let Some(subnet) = query.only("fixed_ips").and_then(|f| f.strip_prefix("subnet_id=")) {
            return cx.view.by_index("subnet", subnet).collect();
        }
        let mut found: Vec<Arc<Port>> = owned(cx, query);
        if cx.who.is_admin() {
            return found;
        }
        let networks = cx.who.project.iter().flat_map(|p| cx.view.by_index::<Network>("project", p.as_str()).collect::<Vec<_>>());
        found.extend(networks.flat_map(|n| cx.view.by_index::<Port>("network", n.meta.id.as_str()).collect::<Vec<_>>()));
        unique(found)
    }

    fn render(&self, cx: &Cx, out: &mut Object) {
        out.head(&self.meta);
        out.put("network_id", || self.network.as_str());
        out.put("mac_address", || self.mac.to_string());
        out.put("admin_state_up", || self.admin_up);
        out.put("status", || status(cx, self));
        out.put("device_id", || self.device_id.as_str());
        out.put("device_owner", || self.device_owner.as_str());
        out.put("fixed_ips", || fixed_ips(self));
        out.put("allowed_address_pairs", || pairs(self));
        out.put("extra_dhcp_opts", || {
            let shown =
                |o: &unkai_model::network::DhcpOption| json!({"opt_name": o.name, "opt_value": o.value, "ip_version": o.ip_version});
            self.extra_dhcp_options.iter().map(shown).collect::<Vec<_>>()
        });
        out.put("security_groups", || self.security_groups.iter().map(|g| g.to_string()).collect::<Vec<_>>());
        out.put("port_security_enabled", || self.port_security);
        out.put("dns_name", || self.dns_name.as_str());
        out.put("dns_assignment", || dns_assignment(cx, self));
        out.put("binding:vnic_type", || self.vnic_type.as_str());
        if cx.who.is_admin() {
            binding(cx, self, out);
        }
        out.tail(&self.meta, &self.standard);
    }

    fn read_new(fields: &mut Fields, who: &CallerName) -> Result<PortRequest, Refusal> {
        port_bodies::read_new(fields, who)
    }

    fn create(tx: &mut Tx, who: &CallerName, new: &PortRequest) -> Result<Id<Self>, Refusal> {
        let network = visible_in(tx, who, &new.network)?;
        port_bodies::check_new(tx, who, &network, new)?;
        let mut request = new.clone();
        request.binding_host = request.binding_host.map(|named| known_host(tx, named));
        Ok(verbs::create_port(tx, &request)?.meta.id.clone())
    }

    fn read_change(fields: &mut Fields, who: &CallerName) -> Result<PortChange, Refusal> {
        port_bodies::read_change(fields, who)
    }

    fn change(tx: &mut Tx, who: &CallerName, id: &Id<Self>, change: &PortChange) -> Result<(), Refusal> {
        let port = tx.require(id)?;
        let network = tx.require(&port.network)?;
        port_bodies::check_change(who, &network, &port, change)?;
        let mut change = change.clone();
        change.binding_host = change.binding_host.map(|host| host.map(|named| known_host(tx, named)));
        verbs::update_port(tx, id, &change)?;
        Ok(())
    }

    fn remove(tx: &mut Tx, _: &CallerName, id: &Id<Self>) -> Result<(), Refusal> {
        let port = tx.require(id)?;
        check_removable(tx, &port)?;
        verbs::delete_port(tx, id)
    }

    fn may_change(&self, cx: &Cx) -> bool {
        cx.who.may_write(self.meta.project.as_ref())
    }

    fn may_remove(&self, cx: &Cx) -> bool {
        self.may_change(cx) || (cx.who.has_role("member") && owns_network(cx, &self.network))
    }
}

/// Ports that belong to routers and floating IPs go with those.
fn check_removable(tx: &Tx, port: &Port) -> Result<(), Refusal> {
    let device = port.device_id.as_str();
    let in_use = match port.device_owner.as_str() {
        owner::ROUTER_INTERFACE | owner::ROUTER_GATEWAY => tx.get(&Id::<Router>::new(device)).is_some(),
        owner::FLOATING_IP => tx.get(&Id::<unkai_model::network::FloatingIp>::new(device)).is_some(),
        _ => false,
    };
    if !in_use {
        return Ok(());
    }
    let text = format!("Port {} cannot be deleted directly via the port API: has device owner {}.", port.meta.id, port.device_owner);
    Err(Refusal::conflict("ServicePortInUse", text))
}

/// Hosts are named by their name; one that is not there is kept as named.
fn known_host(tx: &Tx, named: Id<Host>) -> Id<Host> {
    tx.holder("host-name", named.as_str()).unwrap_or(named)
}

/// Up when an agent said so; ports of routers when a host carries the router.
pub fn status(cx: &Cx, port: &Port) -> &'static str {
    let up = match port.device_owner.as_str() {
        owner::FLOATING_IP => return "N/A",
        owner::ROUTER_INTERFACE | owner::ROUTER_GATEWAY => {
            let router = cx.view.get(&Id::<Router>::new(port.device_id.as_str()));
            port.status.up || router.is_some_and(|r| r.status.host.is_some())
        }
        _ => port.status.up,
    };
    if up && port.admin_up { "ACTIVE" } else { "DOWN" }
}

fn fixed_ips(port: &Port) -> Vec<Value> {
    port.fixed_ips.iter().map(|ip| json!({"subnet_id": ip.subnet.as_str(), "ip_address": ip.address.to_string()})).collect()
}

fn pairs(port: &Port) -> Vec<Value> {
    let shown = |p: &unkai_model::network::AddressPair| {
        let whole = p.address.prefix_len() == p.address.max_prefix_len();
        let address = if whole { p.address.addr().to_string() } else { p.address.to_string() };
        json!({"ip_address": address, "mac_address": p.mac.unwrap_or(port.mac).to_string()})
    };
    port.allowed_address_pairs.iter().map(shown).collect()
}

fn dns_assignment(cx: &Cx, port: &Port) -> Vec<Value> {
    let domain = cx.view.get(&port.network).map(|n| n.dns_domain.clone()).filter(|d| !d.is_empty());
    let domain = domain.unwrap_or_else(|| "openstacklocal".into());
    let domain = domain.trim_end_matches('.');
    let one = |address: std::net::IpAddr| {
        let own = format!("host-{}", address.to_string().replace(['.', ':'], "-"));
        let hostname = if port.dns_name.is_empty() { own.as_str() } else { port.dns_name.trim_end_matches('.') };
        json!({"ip_address": address.to_string(), "hostname": hostname, "fqdn": format!("{hostname}.{domain}.")})
    };
    port.addresses().map(one).collect()
}

fn binding(cx: &Cx, port: &Port, out: &mut Object) {
    let host = port.binding_host.as_ref().map(|id| (id, cx.view.get(id)));
    out.put("binding:host_id", || match &host {
        None => String::new(),
        Some((id, host)) => host.as_ref().map_or_else(|| id.to_string(), |h| h.meta.name.clone()),
    });
    let bound = matches!(&host, Some((_, Some(_))));
    out.put("binding:vif_type", || match &host {
        None => "unbound",
        Some((_, None)) => "binding_failed",
        Some((_, Some(_))) => "bridge",
    });
    out.put("binding:vif_details", || if bound { json!({"port_filter": true, "connectivity": "l2"}) } else { json!({}) });
    out.put("binding:profile", || json!(port.binding_profile));
}
