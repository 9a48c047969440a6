//! `/subnets`.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde_json::{Value, json};
use unkai_model::network::{Ipv6Mode, Network, Pool, RbacAction, RbacObject, RbacPolicy, Route, Subnet, SubnetPool};
use unkai_model::{Id, Kind};
use unkai_openstack::CallerName;
use unkai_store::Tx;

use crate::Refusal;
use crate::fields::{Fields, invalid, is_uuid, shown, to_address, to_prefix};
use crate::object::Object;
use crate::query::Query;
use crate::resource::{Cx, Resource, owned, unique, visible_in};
use crate::verbs::{self, SubnetChange, SubnetRequest};

const MODES: [&str; 3] = ["dhcpv6-stateful", "dhcpv6-stateless", "slaac"];

/// A subnet as asked for; with the pool still to be found when the default one is meant.
#[derive(Debug, Clone)]
pub struct NewSubnet {
    request: SubnetRequest,
    default_pool: bool,
}

impl Resource for Subnet {
    const ONE: &'static str = "subnet";
    const MANY: &'static str = "subnets";
    const PATH: &'static str = "subnets";
    const ONCE: &'static [&'static str] =
        &["cidr", "network_id", "ip_version", "subnetpool_id", "prefixlen", "ipv6_ra_mode", "ipv6_address_mode", "use_default_subnetpool"];

    type New = NewSubnet;
    type Change = SubnetChange;

    fn visible(&self, cx: &Cx) -> bool {
        cx.who.is_admin()
            || (cx.reads()
                && (cx.who.owns(self.meta.project.as_ref())
                    || owns_network(cx, &self.network)
                    || verbs::is_shared_with(cx.view, self.network.as_str(), cx.who.project.as_ref())))
    }

    fn candidates(cx: &Cx, query: &Query) -> Vec<Arc<Self>> {
        if let Some(network) = query.only("network_id") {
            return cx.view.by_index("network", network).collect();
        }
        let mut found: Vec<Arc<Subnet>> = owned(cx, query);
        if cx.who.is_admin() {
            return found;
        }
        let own = cx.who.project.as_ref().map_or("", |p| p.as_str());
        let of_network = |id: &str| cx.view.by_index::<Subnet>("network", id).collect::<Vec<_>>();
        found.extend(cx.view.by_index::<Network>("project", own).flat_map(|n| of_network(n.meta.id.as_str())));
        for policy in ["*", own].iter().flat_map(|target| cx.view.by_index::<RbacPolicy>("target", target)) {
            if let (RbacObject::Network(id), RbacAction::AccessAsShared) = (&policy.object, policy.action) {
                found.extend(of_network(id.as_str()));
            }
        }
        unique(found)
    }

    fn render(&self, cx: &Cx, out: &mut Object) {
        out.head(&self.meta);
        out.put_hidden("shared", || verbs::is_shared_with(cx.view, self.network.as_str(), cx.who.project.as_ref()));
        out.put("network_id", || self.network.as_str());
        out.put("ip_version", || if self.cidr.addr().is_ipv4() { 4 } else { 6 });
        out.put("cidr", || self.cidr.to_string());
        out.put("gateway_ip", || self.gateway.map(|a| a.to_string()));
        out.put("allocation_pools", || {
            self.pools.iter().map(|p| json!({"start": p.start.to_string(), "end": p.end.to_string()})).collect::<Vec<_>>()
        });
        out.put("enable_dhcp", || self.enable_dhcp);
        out.put("dns_nameservers", || self.dns_nameservers.iter().map(IpAddr::to_string).collect::<Vec<_>>());
        out.put("host_routes", || routes(&self.host_routes));
        out.put("ipv6_ra_mode", || self.ipv6_ra_mode.map(Ipv6Mode::text));
        out.put("ipv6_address_mode", || self.ipv6_address_mode.map(Ipv6Mode::text));
        out.put("subnetpool_id", || self.subnet_pool.as_ref().map(|p| p.as_str()));
        out.put("service_types", || self.service_types.clone());
        out.tail(&self.meta, &self.standard);
    }

    fn read_new(fields: &mut Fields, who: &CallerName) -> Result<NewSubnet, Refusal> {
        let network = fields.uuid("network_id")?;
        let network = fields.required("network_id", network)?;
        let version = fields.number("ip_version")?;
        let owner = fields.owner(who)?;
        let cidr = cidr(fields)?;
        let ip_version = match (version, &cidr) {
            (Some(4), _) => 4,
            (Some(6), _) => 6,
            (Some(other), _) => return Err(invalid("ip_version", format!("{other} is not in [4, 6]"))),
            (None, Some(_) | None) => fields.required("ip_version", None)?,
        };
        let mut request = SubnetRequest::on(Id::new(network), Some(owner), ip_version);
        request.cidr = cidr;
        request.name = fields.name()?.unwrap_or_default();
        request.standard.description = fields.description()?.unwrap_or_default();
        request.gateway = gateway(fields)?;
        request.pools = pools(fields)?;
        request.enable_dhcp = fields.flag("enable_dhcp")?.unwrap_or(true);
        request.dns_nameservers = nameservers(fields)?.unwrap_or_default();
        request.host_routes = read_routes(fields, "host_routes")?.unwrap_or_default();
        request.ipv6_ra_mode = mode(fields, "ipv6_ra_mode")?;
        request.ipv6_address_mode = mode(fields, "ipv6_address_mode")?;
        request.prefix_len = fields.number("prefixlen")?.map(|n| u8::try_from(n).unwrap_or(u8::MAX));
        request.service_types = service_types(fields)?.unwrap_or_default();
        request.pool = pool(fields)?;
        let default_pool = fields.flag("use_default_subnetpool")?.unwrap_or(false);
        if default_pool && request.pool.is_some() {
            return Err(Refusal::request("subnetpool_id and use_default_subnetpool cannot both be specified"));
        }
        Ok(NewSubnet { request, default_pool })
    }

    fn create(tx: &mut Tx, who: &CallerName, new: &NewSubnet) -> Result<Id<Self>, Refusal> {
        let network = visible_in(tx, who, &new.request.network)?;
        if !who.may_write(network.meta.project.as_ref()) {
            return Err(Refusal::policy("create_subnet"));
        }
        if let Some(pool) = &new.request.pool {
            visible_in::<SubnetPool>(tx, who, pool)?;
        }
        let mut request = new.request.clone();
        if new.default_pool {
            let pool = tx.holder("default-subnet-pool", &request.ip_version.to_string());
            let text = || format!("No default subnetpool found for IPv{}", request.ip_version);
            request.pool = Some(pool.ok_or_else(|| Refusal::request(text()))?);
        }
        Ok(verbs::create_subnet(tx, &request)?.meta.id.clone())
    }

    fn read_change(fields: &mut Fields, _: &CallerName) -> Result<SubnetChange, Refusal> {
        Ok(SubnetChange {
            name: fields.name()?,
            description: fields.description()?,
            gateway: gateway(fields)?,
            pools: pools(fields)?,
            enable_dhcp: fields.flag("enable_dhcp")?,
            dns_nameservers: nameservers(fields)?,
            host_routes: read_routes(fields, "host_routes")?,
            service_types: service_types(fields)?,
        })
    }

    fn change(tx: &mut Tx, _: &CallerName, id: &Id<Self>, change: &SubnetChange) -> Result<(), Refusal> {
        verbs::update_subnet(tx, id, change)?;
        Ok(())
    }

    fn remove(tx: &mut Tx, _: &CallerName, id: &Id<Self>) -> Result<(), Refusal> {
        verbs::delete_subnet(tx, id)
    }

    fn may_change(&self, cx: &Cx) -> bool {
        cx.who.may_write(self.meta.project.as_ref()) || (cx.who.has_role("member") && owns_network(cx, &self.network))
    }
}

/// The caller's project owns the network.
pub fn owns_network(cx: &Cx, network: &Id<Network>) -> bool {
    cx.view.get(network).is_some_and(|n| cx.who.owns(n.meta.project.as_ref()))
}

pub fn routes(routes: &[Route]) -> Vec<Value> {
    routes.iter().map(|r| json!({"destination": r.destination.to_string(), "nexthop": r.nexthop.to_string()})).collect()
}

fn cidr(fields: &mut Fields) -> Result<Option<IpNet>, Refusal> {
    let value = match fields.take("cidr") {
        None | Some(Value::Null) => return Ok(None),
        Some(value) => value,
    };
    let net = value.as_str().and_then(to_prefix);
    let net = net.ok_or_else(|| invalid("cidr", format!("'{}' is not a valid IP subnet", shown(&value))))?;
    if net.trunc() != net {
        let text = format!("'{net}' isn't a recognized IP subnet cidr, '{}' is recommended", net.trunc());
        return Err(invalid("cidr", text));
    }
    Ok(Some(net))
}

fn gateway(fields: &mut Fields) -> Result<Option<Option<IpAddr>>, Refusal> {
    if fields.given("gateway_ip") == Some(&json!("")) {
        fields.take("gateway_ip");
        return Ok(Some(None));
    }
    fields.address_or_null("gateway_ip")
}

fn pools(fields: &mut Fields) -> Result<Option<Vec<Pool>>, Refusal> {
    let bad = |value: &Value| invalid("allocation_pools", format!("Invalid data format for IP pool: '{}'", shown(value)));
    let Some(items) = fields.list("allocation_pools")? else { return Ok(None) };
    let read = |item: &Value| {
        let map = item.as_object().filter(|m| m.len() == 2).ok_or_else(|| bad(item))?;
        let at = |key| to_address(map.get(key).ok_or_else(|| bad(item))?).map_err(|reason| invalid("allocation_pools", reason));
        Ok(Pool { start: at("start")?, end: at("end")? })
    };
    items.iter().map(read).collect::<Result<_, _>>().map(Some)
}

fn nameservers(fields: &mut Fields) -> Result<Option<Vec<IpAddr>>, Refusal> {
    let Some(items) = fields.list("dns_nameservers")? else { return Ok(None) };
    let mut found = Vec::new();
    for item in &items {
        let address = to_address(item)
            .map_err(|reason| invalid("dns_nameservers", format!("'{}' is not a valid nameserver. {reason}", shown(item))))?;
        if found.contains(&address) {
            return Err(invalid("dns_nameservers", format!("Duplicate nameserver '{address}'")));
        }
        found.push(address);
    }
    Ok(Some(found))
}

/// Host routes of subnets and static routes of routers.
pub fn read_routes(fields: &mut Fields, name: &str) -> Result<Option<Vec<Route>>, Refusal> {
    let bad = |value: &Value| invalid(name, format!("Invalid data format for hostroute: '{}'", shown(value)));
    let Some(items) = fields.list(name)? else { return Ok(None) };
    let mut found: Vec<Route> = Vec::new();
    for item in &items {
        let map = item.as_object().filter(|m| m.len() == 2).ok_or_else(|| bad(item))?;
        let (destination, nexthop) = (map.get("destination").ok_or_else(|| bad(item))?, map.get("nexthop").ok_or_else(|| bad(item))?);
        let prefix = destination.as_str().and_then(to_prefix);
        let prefix = prefix.ok_or_else(|| invalid(name, format!("'{}' is not a valid CIDR", shown(destination))))?;
        if prefix.trunc() != prefix {
            return Err(invalid(name, format!("'{prefix}' is not a recognized CIDR, '{}' is recommended", prefix.trunc())));
        }
        let route = Route { destination: prefix, nexthop: to_address(nexthop).map_err(|reason| invalid(name, reason))? };
        if found.contains(&route) {
            return Err(invalid(name, format!("Duplicate hostroute '{}'", shown(item))));
        }
        found.push(route);
    }
    Ok(Some(found))
}

fn mode(fields: &mut Fields, name: &str) -> Result<Option<Ipv6Mode>, Refusal> {
    if fields.given(name) == Some(&Value::Null) {
        fields.take(name);
    }
    fields.word(name, Ipv6Mode::parse, &MODES)
}

fn service_types(fields: &mut Fields) -> Result<Option<Vec<String>>, Refusal> {
    let Some(types) = fields.strings("service_types")? else { return Ok(None) };
    let valid = |t: &&String| !(t.starts_with("network:") || t.starts_with("compute:"));
    match types.iter().find(valid) {
        None => Ok(Some(types)),
        Some(bad) => Err(Refusal::bad(
            "InvalidSubnetServiceType",
            format!("Invalid input for operation: Subnet service type {bad} does not correspond to a valid device owner."),
        )),
    }
}

fn pool(fields: &mut Fields) -> Result<Option<Id<SubnetPool>>, Refusal> {
    match fields.take("subnetpool_id") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if is_uuid(&text) => Ok(Some(Id::new(text))),
        Some(other) => Err(invalid("subnetpool_id", format!("'{}' is not a valid {} id", shown(&other), SubnetPool::NOUN))),
    }
}
