//! What may be written of a port, and by whom: some attributes are for the owner of the network, some for administrators.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::Value;
use unkai_model::Id;
use unkai_model::network::{AddressPair, DhcpOption, MacAddr, Network, Port, Router, SecurityGroup, owner};
use unkai_openstack::CallerName;
use unkai_store::Tx;

use crate::Refusal;
use crate::fields::{Fields, invalid, is_uuid, shown, to_address, to_prefix};
use crate::verbs::{self, AddressWish, PortChange, PortRequest};

const VNIC_TYPES: [&str; 1] = ["normal"];
const MOST_PAIRS: usize = 10;

/// Attributes with their own rule, as they were given.
const ADMIN_ONLY: [&str; 2] = ["binding:host_id", "binding:profile"];

pub fn read_new(fields: &mut Fields, who: &CallerName) -> Result<PortRequest, Refusal> {
    admin_only(fields, who, "create_port")?;
    let network = fields.uuid("network_id")?;
    let network = fields.required("network_id", network)?;
    let mut request = PortRequest::on(Id::new(network), Some(fields.owner(who)?));
    let change = read_common(fields)?;
    request.name = change.name.unwrap_or_default();
    request.standard.description = change.description.unwrap_or_default();
    request.admin_up = change.admin_up.unwrap_or(true);
    request.mac = change.mac;
    request.fixed_ips = change.fixed_ips;
    request.device_id = change.device_id.unwrap_or_default();
    request.device_owner = change.device_owner.unwrap_or_default();
    request.port_security = change.port_security;
    request.security_groups = change.security_groups;
    request.allowed_address_pairs = change.allowed_address_pairs.unwrap_or_default();
    request.extra_dhcp_options =
        change.extra_dhcp_options.unwrap_or_default().into_iter().filter(|(_, keep)| *keep).map(|(o, _)| o).collect();
    request.dns_name = change.dns_name.unwrap_or_default();
    request.vnic_type = change.vnic_type.unwrap_or(request.vnic_type);
    request.binding_host = change.binding_host.flatten();
    request.binding_profile = change.binding_profile.unwrap_or_default();
    // Tags may come with the port, as in the extension for bulk creation.
    request.standard.tags = fields.strings("tags")?.unwrap_or_default().into_iter().collect();
    Ok(request)
}

pub fn read_change(fields: &mut Fields, who: &CallerName) -> Result<PortChange, Refusal> {
    admin_only(fields, who, "update_port")?;
    read_common(fields)
}

fn admin_only(fields: &Fields, who: &CallerName, action: &str) -> Result<(), Refusal> {
    let set = |name: &&&str| fields.given(name).is_some_and(|v| !v.is_null() && *v != "" && *v != Value::Object(Default::default()));
    match ADMIN_ONLY.iter().find(set) {
        Some(name) if !who.is_admin() => Err(Refusal::policy(format!("{action}:{name}"))),
        _ => Ok(()),
    }
}

fn read_common(fields: &mut Fields) -> Result<PortChange, Refusal> {
    Ok(PortChange {
        name: fields.name()?,
        description: fields.description()?,
        admin_up: fields.flag("admin_state_up")?,
        mac: mac(fields)?,
        fixed_ips: fixed_ips(fields, "fixed_ips")?,
        device_id: fields.string("device_id", 255)?,
        device_owner: fields.string("device_owner", 255)?,
        port_security: fields.flag("port_security_enabled")?,
        security_groups: groups(fields)?,
        allowed_address_pairs: pairs(fields)?,
        extra_dhcp_options: dhcp_options(fields)?,
        dns_name: dns_name(fields)?,
        vnic_type: fields.word("binding:vnic_type", |t| VNIC_TYPES.contains(&t).then(|| t.to_owned()), &VNIC_TYPES)?,
        binding_host: binding_host(fields)?,
        binding_profile: binding_profile(fields)?,
    })
}

/// What only the owner of the network, or an administrator, may choose; and nobody may pretend to be a router of others.
pub fn check_new(tx: &Tx, who: &CallerName, network: &Network, request: &PortRequest) -> Result<(), Refusal> {
    let privileged = who.is_admin() || who.owns(network.meta.project.as_ref());
    let view = tx.view();
    if !privileged && !verbs::is_shared_with(&view, network.meta.id.as_str(), who.project.as_ref()) {
        return Err(Refusal::policy("create_port"));
    }
    let exact = request.fixed_ips.iter().flatten().any(|wish| wish.address.is_some());
    let rules = [
        ("device_owner", request.device_owner.starts_with("network:")),
        ("mac_address", request.mac.is_some()),
        ("fixed_ips:ip_address", exact),
        ("port_security_enabled", request.port_security.is_some()),
        ("allowed_address_pairs", !request.allowed_address_pairs.is_empty()),
    ];
    check_rules("create_port", privileged, &rules)?;
    check_device(tx, who, &request.device_owner, &request.device_id)
}

pub fn check_change(who: &CallerName, network: &Network, port: &Port, change: &PortChange) -> Result<(), Refusal> {
    let privileged = who.is_admin() || who.owns(network.meta.project.as_ref());
    let kept = |wish: &AddressWish| wish.address.is_none_or(|a| port.has_address(a));
    let rules = [
        ("device_owner", change.device_owner.as_ref().is_some_and(|o| o.starts_with("network:") && *o != port.device_owner)),
        ("fixed_ips:ip_address", change.fixed_ips.iter().flatten().any(|wish| !kept(wish))),
        ("port_security_enabled", change.port_security.is_some_and(|wanted| wanted != port.port_security)),
        ("allowed_address_pairs", change.allowed_address_pairs.is_some()),
    ];
    check_rules("update_port", privileged, &rules)?;
    // A device's MAC changes only by the hand of an administrator.
    check_rules("update_port", who.is_admin(), &[("mac_address", change.mac.is_some_and(|mac| mac != port.mac))])?;
    if port.device_owner == owner::ROUTER_INTERFACE && change.device_id.as_ref().is_some_and(|id| *id != port.device_id) {
        let text = format!(
            "Unable to complete operation on port {} for network {}. Port already has an attached device {}.",
            port.meta.id, port.network, port.device_id
        );
        return Err(Refusal::conflict("PortInUse", text));
    }
    Ok(())
}

fn check_rules(action: &str, privileged: bool, rules: &[(&str, bool)]) -> Result<(), Refusal> {
    match rules.iter().find(|(_, used)| *used) {
        Some((attribute, _)) if !privileged => Err(Refusal::policy(format!("{action}:{attribute}"))),
        _ => Ok(()),
    }
}

/// A port that says it is of a router must be of one of the caller's own.
fn check_device(tx: &Tx, who: &CallerName, device_owner: &str, device_id: &str) -> Result<(), Refusal> {
    if device_owner != owner::ROUTER_INTERFACE || device_id.is_empty() || who.is_admin() {
        return Ok(());
    }
    let router = tx.get(&Id::<Router>::new(device_id));
    if router.is_some_and(|r| who.owns(r.meta.project.as_ref())) {
        return Ok(());
    }
    let text = format!("The following device_id {device_id} is not owned by your project or matches another project router.");
    Err(Refusal::conflict("DeviceIDNotOwnedByProject", text))
}

fn mac(fields: &mut Fields) -> Result<Option<MacAddr>, Refusal> {
    match fields.take("mac_address") {
        None | Some(Value::Null) => Ok(None),
        Some(value) => to_mac(&value).map(Some).map_err(|reason| invalid("mac_address", reason)),
    }
}

fn to_mac(value: &Value) -> Result<MacAddr, String> {
    let mac = value.as_str().and_then(|text| text.parse::<MacAddr>().ok());
    mac.filter(|m| !m.is_multicast() && m.0 != [0; 6]).ok_or_else(|| format!("'{}' is not a valid MAC address", shown(value)))
}

/// `[{"subnet_id": ..., "ip_address": ...}]`, each key optional; also of gateways.
pub fn fixed_ips(fields: &mut Fields, name: &str) -> Result<Option<Vec<AddressWish>>, Refusal> {
    fields.list(name)?.map(|items| to_fixed_ips(&items, name)).transpose()
}

pub fn to_fixed_ips(items: &[Value], name: &str) -> Result<Vec<AddressWish>, Refusal> {
    let mut seen: Vec<IpAddr> = Vec::new();
    let mut wishes = Vec::new();
    for item in items {
        let Some(map) = item.as_object() else { return Err(invalid(name, format!("Invalid data format for fixed IP: '{}'", shown(item)))) };
        let address = map.get("ip_address").filter(|v| !v.is_null()).map(to_address).transpose().map_err(|reason| invalid(name, reason))?;
        if let Some(address) = address {
            if seen.contains(&address) {
                return Err(invalid(name, format!("Duplicate IP address '{address}'")));
            }
            seen.push(address);
        }
        let subnet = match map.get("subnet_id") {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) if is_uuid(text) => Some(Id::new(text.as_str())),
            Some(other) => return Err(invalid(name, format!("'{}' is not a valid UUID", shown(other)))),
        };
        if address.is_none() && subnet.is_none() {
            return Err(Refusal::input("IP allocation requires subnet_id or ip_address"));
        }
        wishes.push(AddressWish { subnet, address });
    }
    Ok(wishes)
}

fn groups(fields: &mut Fields) -> Result<Option<Vec<Id<SecurityGroup>>>, Refusal> {
    let read = |item: Value| match item {
        Value::String(text) if is_uuid(&text) => Ok(Id::new(text)),
        other => Err(Refusal::input(format!("'{}' is not an integer or uuid", shown(&other)))),
    };
    match fields.given("security_groups") {
        Some(Value::Null) => {
            fields.take("security_groups");
            Ok(None)
        }
        _ => fields.list("security_groups")?.map(|items| items.into_iter().map(read).collect()).transpose(),
    }
}

fn pairs(fields: &mut Fields) -> Result<Option<Vec<AddressPair>>, Refusal> {
    const NAME: &str = "allowed_address_pairs";
    let Some(items) = fields.list(NAME)? else { return Ok(None) };
    if items.len() > MOST_PAIRS {
        let text = format!("The number of allowed address pair exceeds the maximum {MOST_PAIRS}.");
        return Err(Refusal::bad("AllowedAddressPairExhausted", text));
    }
    let mut found: Vec<AddressPair> = Vec::new();
    for item in &items {
        let map = item.as_object().ok_or_else(|| Refusal::request("Allowed address pairs must be a list."))?;
        if let Some(unknown) = map.keys().find(|k| !matches!(k.as_str(), "ip_address" | "mac_address" | "active")) {
            return Err(Refusal::request(format!("Unrecognized attribute(s) '{unknown}'")));
        }
        let address = map.get("ip_address").ok_or_else(|| Refusal::input("AllowedAddressPair must contain ip_address"))?;
        let prefix = address.as_str().and_then(to_prefix);
        let prefix = prefix.ok_or_else(|| invalid(NAME, format!("'{}' is not a valid IP subnet", shown(address))))?;
        let mac = map.get("mac_address").filter(|m| !m.is_null()).map(to_mac).transpose().map_err(|reason| invalid(NAME, reason))?;
        let pair = AddressPair { address: prefix, mac };
        if found.contains(&pair) {
            let mac = mac.map(|m| m.to_string()).unwrap_or_default();
            let text = format!("Request contains duplicate address pair: mac_address {mac} ip_address {prefix}");
            return Err(Refusal::bad("DuplicateAddressPairInRequest", format!("Invalid input for operation: {text}.")));
        }
        found.push(pair);
    }
    Ok(Some(found))
}

/// Options to set, and (false) those to remove because their value is null.
fn dhcp_options(fields: &mut Fields) -> Result<Option<Vec<(DhcpOption, bool)>>, Refusal> {
    const NAME: &str = "extra_dhcp_opts";
    let Some(items) = fields.list(NAME)? else { return Ok(None) };
    let read = |item: &Value| {
        let map = item.as_object().ok_or_else(|| invalid(NAME, format!("Invalid data format for extra dhcp opt: '{}'", shown(item))))?;
        let text = |key: &str| map.get(key).and_then(Value::as_str).filter(|t| !t.trim().is_empty() && t.len() <= 255);
        let name = text("opt_name").ok_or_else(|| invalid(NAME, format!("opt_name of '{}' is not a valid string", shown(item))))?;
        let value = match map.get("opt_value") {
            None | Some(Value::Null) => None,
            Some(_) => Some(text("opt_value").ok_or_else(|| invalid(NAME, format!("opt_value of '{name}' is not a valid string")))?),
        };
        let ip_version = match map.get("ip_version").map(shown).as_deref() {
            None | Some("4") => 4,
            Some("6") => 6,
            Some(other) => return Err(invalid(NAME, format!("'{other}' is not in [4, 6]"))),
        };
        let option = DhcpOption { name: name.to_owned(), value: value.unwrap_or_default().to_owned(), ip_version };
        Ok((option, value.is_some()))
    };
    items.iter().map(read).collect::<Result<_, _>>().map(Some)
}

/// A host name, or one with its domain.
pub fn dns_name(fields: &mut Fields) -> Result<Option<String>, Refusal> {
    let Some(name) = fields.string("dns_name", 255)? else { return Ok(None) };
    let label = |l: &str| {
        let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
        l.len() <= 63 && edge(l.bytes().next()) && edge(l.bytes().last()) && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if name.is_empty() || name.trim_end_matches('.').split('.').all(label) {
        return Ok(Some(name.to_lowercase()));
    }
    Err(invalid("dns_name", format!("'{name}' not a valid PQDN or FQDN. Reason: it has a label that is not valid")))
}

fn binding_host(fields: &mut Fields) -> Result<Option<Option<Id<unkai_model::compute::Host>>>, Refusal> {
    match fields.take("binding:host_id") {
        None => Ok(None),
        Some(Value::Null) => Ok(Some(None)),
        Some(Value::String(text)) => Ok(Some((!text.is_empty()).then(|| Id::new(text)))),
        Some(other) => Err(invalid("binding:host_id", format!("'{}' is not a valid string", shown(&other)))),
    }
}

fn binding_profile(fields: &mut Fields) -> Result<Option<BTreeMap<String, Value>>, Refusal> {
    match fields.take("binding:profile") {
        None => Ok(None),
        Some(Value::Null) => Ok(Some(BTreeMap::new())),
        Some(Value::Object(map)) => Ok(Some(map.into_iter().collect())),
        Some(other) => Err(invalid("binding:profile", format!("'{}' is not a dictionary", shown(&other)))),
    }
}
