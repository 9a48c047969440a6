//! Security groups and their rules. Every project has one named `default`, made when it is first needed.

use std::sync::Arc;

use ipnet::IpNet;
use unkai_model::identity::Project;
use unkai_model::network::{Direction, EtherType, Protocol, SecurityGroup, SecurityGroupRule, Standard};
use unkai_model::{Id, Kind, Meta};
use unkai_store::{Tx, View};

use super::{access, limits};
use crate::Refusal;

/// What a rule is to be.
#[derive(Debug, Clone)]
pub struct RuleRequest {
    pub project: Option<Id<Project>>,
    pub description: String,
    pub group: Id<SecurityGroup>,
    pub direction: Direction,
    pub ethertype: EtherType,
    pub protocol: Option<Protocol>,
    pub port_min: Option<u16>,
    pub port_max: Option<u16>,
    pub remote_group: Option<Id<SecurityGroup>>,
    pub remote_prefix: Option<IpNet>,
}

/// The default group of a project, made now if it has none yet.
pub fn default_security_group(tx: &mut Tx, project: &Id<Project>) -> Result<Id<SecurityGroup>, Refusal> {
    if let Some(id) = tx.holder(SecurityGroup::DEFAULT, project.as_str()) {
        return Ok(id);
    }
    let standard = Standard { description: "Default security group".into(), ..Standard::default() };
    let meta = Meta::new(tx.new_id()).named("default").owned_by(project.clone());
    let group = tx.insert(SecurityGroup { meta, standard, stateful: true, is_default: true })?.meta.id.clone();
    for ethertype in [EtherType::Ipv4, EtherType::Ipv6] {
        insert_rule(tx, &plain_rule(&group, project, Direction::Egress, ethertype, None))?;
        insert_rule(tx, &plain_rule(&group, project, Direction::Ingress, ethertype, Some(group.clone())))?;
    }
    Ok(group)
}

fn plain_rule(
    group: &Id<SecurityGroup>,
    project: &Id<Project>,
    direction: Direction,
    ethertype: EtherType,
    remote_group: Option<Id<SecurityGroup>>,
) -> RuleRequest {
    RuleRequest {
        project: Some(project.clone()),
        description: String::new(),
        group: group.clone(),
        direction,
        ethertype,
        protocol: None,
        port_min: None,
        port_max: None,
        remote_group,
        remote_prefix: None,
    }
}

/// A new group; it lets its members talk to anybody, and nobody to them.
pub fn create_security_group(
    tx: &mut Tx,
    project: &Id<Project>,
    name: &str,
    standard: &Standard,
    stateful: bool,
) -> Result<Arc<SecurityGroup>, Refusal> {
    default_security_group(tx, project)?;
    limits::hold(tx, "security_group", Some(project));
    let meta = Meta::new(tx.new_id()).named(name).owned_by(project.clone());
    let group = tx.insert(SecurityGroup { meta, standard: standard.clone(), stateful, is_default: false })?;
    for ethertype in [EtherType::Ipv4, EtherType::Ipv6] {
        insert_rule(tx, &plain_rule(&group.meta.id, project, Direction::Egress, ethertype, None))?;
    }
    Ok(group)
}

/// Deletes a group and its rules, and the policies that share it. Ports and other groups' rules must not name it.
pub fn delete_security_group(tx: &mut Tx, id: &Id<SecurityGroup>) -> Result<(), Refusal> {
    // Rules of other groups that name this one go with it, as in the original.
    for index in ["group", "remote-group"] {
        let rules: Vec<_> = tx.by_index::<SecurityGroupRule>(index, id.as_str()).map(|rule| rule.meta.id.clone()).collect();
        for rule in rules {
            tx.delete(&rule)?;
        }
    }
    super::rbac::delete_all_of(tx, id.as_str())?;
    if tx.by_index::<unkai_model::network::Port>("security-group", id.as_str()).next().is_some() {
        return Err(Refusal::conflict("SecurityGroupInUse", format!("Security Group {id} in use.")));
    }
    tx.delete(id)?;
    Ok(())
}

/// Adds a rule; both groups it names must be visible to the project.
pub fn create_rule(tx: &mut Tx, request: &RuleRequest) -> Result<Arc<SecurityGroupRule>, Refusal> {
    check_rule(request)?;
    limits::hold(tx, "security_group_rule", request.project.as_ref());
    insert_rule(tx, request)
}

fn insert_rule(tx: &mut Tx, request: &RuleRequest) -> Result<Arc<SecurityGroupRule>, Refusal> {
    let mut meta = Meta::new(tx.new_id());
    meta.project = request.project.clone();
    Ok(tx.insert(SecurityGroupRule {
        meta,
        standard: Standard { description: request.description.clone(), ..Standard::default() },
        group: request.group.clone(),
        direction: request.direction,
        ethertype: request.ethertype,
        protocol: request.protocol.clone(),
        port_min: request.port_min,
        port_max: request.port_max,
        remote_group: request.remote_group.clone(),
        remote_prefix: request.remote_prefix,
    })?)
}

/// The rules between the fields of a rule.
fn check_rule(rule: &RuleRequest) -> Result<(), Refusal> {
    if rule.remote_group.is_some() && rule.remote_prefix.is_some() {
        let text = "Only remote_ip_prefix or remote_group_id may be provided.";
        return Err(Refusal::bad("SecurityGroupRemoteGroupAndRemoteIpPrefix", text));
    }
    if let Some(prefix) = rule.remote_prefix
        && prefix.addr().is_ipv4() != (rule.ethertype == EtherType::Ipv4)
    {
        let text = format!("Conflicting value ethertype {} for CIDR {prefix}", rule.ethertype.text());
        return Err(Refusal::bad("SecurityGroupRuleParameterConflict", text));
    }
    check_protocol_family(rule)?;
    check_ports(rule)
}

fn check_protocol_family(rule: &RuleRequest) -> Result<(), Refusal> {
    let Some(protocol) = &rule.protocol else { return Ok(()) };
    let only_ipv6 =
        matches!(protocol.text(), "icmpv6" | "ipv6-encap" | "ipv6-frag" | "ipv6-icmp" | "ipv6-nonxt" | "ipv6-opts" | "ipv6-route");
    if only_ipv6 && rule.ethertype == EtherType::Ipv4 {
        let text = format!("Invalid ethertype {} for protocol {protocol}.", rule.ethertype.text());
        return Err(Refusal::bad("SecurityGroupEthertypeConflictWithProtocol", text));
    }
    Ok(())
}

fn check_ports(rule: &RuleRequest) -> Result<(), Refusal> {
    let (min, max) = (rule.port_min, rule.port_max);
    if min.is_none() && max.is_none() {
        return Ok(());
    }
    let Some(protocol) = &rule.protocol else {
        let text = "Must also specify protocol if port range is given.";
        return Err(Refusal::bad("SecurityGroupProtocolRequiredWithPorts", text));
    };
    let number = protocol.number(rule.ethertype);
    if Protocol::is_icmp(number) {
        return check_icmp(min, max);
    }
    if !Protocol::has_ports(number) {
        let ranges = [("port_range_min", min), ("port_range_max", max)];
        let given = ranges.iter().filter(|(_, value)| value.is_some()).map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        let text = format!("{given} cannot be specified for protocol {protocol}.");
        return Err(Refusal::bad("SecurityGroupInvalidProtocolForPort", text));
    }
    match (min, max) {
        (Some(min), Some(max)) if min > 0 && min <= max => Ok(()),
        (Some(0), Some(0)) | (Some(0), None) | (None, Some(0)) => {
            Err(Refusal::bad("SecurityGroupInvalidPortValue", "Invalid value for port 0"))
        }
        _ => {
            let text = "For TCP/UDP protocols, port_range_min must be <= port_range_max";
            Err(Refusal::bad("SecurityGroupInvalidPortRange", text))
        }
    }
}

fn check_icmp(kind: Option<u16>, code: Option<u16>) -> Result<(), Refusal> {
    for (field, attribute, value) in [("type", "port_range_min", kind), ("code", "port_range_max", code)] {
        if let Some(value) = value.filter(|v| *v > 255) {
            let text = format!("Invalid value for ICMP {field} ({attribute}) {value}. It must be 0 to 255.");
            return Err(Refusal::bad("SecurityGroupInvalidIcmpValue", text));
        }
    }
    if let (None, Some(code)) = (kind, code) {
        let text = format!("ICMP code (port-range-max) {code} is provided but ICMP type (port-range-min) is missing.");
        return Err(Refusal::bad("SecurityGroupMissingIcmpType", text));
    }
    Ok(())
}

pub fn delete_rule(tx: &mut Tx, id: &Id<SecurityGroupRule>) -> Result<(), Refusal> {
    tx.delete(id)?;
    Ok(())
}

/// A group by id or, among the project's own, by name; as compute names them.
pub fn find_security_group(view: &View, project: &Id<Project>, name_or_id: &str) -> Result<Arc<SecurityGroup>, Refusal> {
    let by_id = view.get(&Id::<SecurityGroup>::new(name_or_id)).filter(|g| access::may_see_group(view, Some(project), g));
    if let Some(group) = by_id {
        return Ok(group);
    }
    let mut named = view.by_index::<SecurityGroup>("project", project.as_str()).filter(|g| g.meta.name == name_or_id);
    match (named.next(), named.next()) {
        (Some(group), None) => Ok(group),
        (Some(_), Some(_)) => {
            let text = format!("Multiple security groups with the name '{name_or_id}' exist: use the id to be exact.");
            Err(Refusal::conflict("NoUniqueMatch", text))
        }
        (None, _) => Err(Refusal::not_found(SecurityGroup::NOUN, name_or_id)),
    }
}
