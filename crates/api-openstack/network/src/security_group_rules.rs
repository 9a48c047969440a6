//! `/security-group-rules`.

use std::sync::Arc;

use serde_json::{Value, json};
use unkai_model::Id;
use unkai_model::network::{Direction, EtherType, Protocol, SecurityGroup, SecurityGroupRule};
use unkai_openstack::CallerName;
use unkai_store::Tx;

use crate::Refusal;
use crate::fields::{Fields, invalid, shown, to_prefix};
use crate::object::Object;
use crate::query::Query;
use crate::resource::{Cx, Resource, owned, unique, visible, visible_in};
use crate::verbs::{self, RuleRequest};

impl Resource for SecurityGroupRule {
    const ONE: &'static str = "security_group_rule";
    const MANY: &'static str = "security_group_rules";
    const PATH: &'static str = "security-group-rules";
    const FIXED: &'static [&'static str] = &["normalized_cidr"];
    const ONCE: &'static [&'static str] = &[
        "security_group_id",
        "remote_group_id",
        "direction",
        "protocol",
        "port_range_min",
        "port_range_max",
        "ethertype",
        "remote_ip_prefix",
    ];

    const WITH_DEFAULT_GROUP: bool = true;

    type New = RuleRequest;
    type Change = Option<String>;

    fn visible(&self, cx: &Cx) -> bool {
        cx.who.may_read(self.meta.project.as_ref()) || visible::<SecurityGroup>(cx, &self.group).is_ok()
    }

    fn candidates(cx: &Cx, query: &Query) -> Vec<Arc<Self>> {
        if let Some(group) = query.only("security_group_id") {
            return cx.view.by_index("group", group).collect();
        }
        let mut found: Vec<Arc<Self>> = owned(cx, query);
        let groups = SecurityGroup::candidates(cx, &Query::default());
        if !cx.who.is_admin() {
            found.extend(groups.iter().flat_map(|g| cx.view.by_index("group", g.meta.id.as_str()).collect::<Vec<_>>()));
        }
        unique(found)
    }

    fn render(&self, _: &Cx, out: &mut Object) {
        out.put("id", || self.meta.id.as_str());
        out.owner(&self.meta);
        out.put("security_group_id", || self.group.as_str());
        out.put("direction", || self.direction.text());
        out.put("ethertype", || self.ethertype.text());
        out.put("protocol", || self.protocol.as_ref().map(Protocol::text));
        out.put("port_range_min", || json!(self.port_min));
        out.put("port_range_max", || json!(self.port_max));
        out.put("remote_group_id", || self.remote_group.as_ref().map(|g| g.as_str()));
        out.put("remote_ip_prefix", || self.remote_prefix.map(|p| p.to_string()));
        out.put("normalized_cidr", || self.remote_prefix.map(|p| p.trunc().to_string()));
        out.tail(&self.meta, &self.standard);
    }

    fn read_new(fields: &mut Fields, who: &CallerName) -> Result<RuleRequest, Refusal> {
        let group = fields.uuid_or_text("security_group_id")?;
        let group = fields.required("security_group_id", group)?;
        let direction = fields.word("direction", direction, &["ingress", "egress"])?;
        Ok(RuleRequest {
            project: Some(fields.owner(who)?),
            description: fields.description()?.unwrap_or_default(),
            group: Id::new(group),
            direction: fields.required("direction", direction)?,
            ethertype: fields.word("ethertype", ethertype, &["IPv4", "IPv6"])?.unwrap_or(EtherType::Ipv4),
            protocol: protocol(fields)?,
            port_min: port(fields, "port_range_min")?,
            port_max: port(fields, "port_range_max")?,
            remote_group: fields.uuid_or_text("remote_group_id")?.map(Id::new),
            remote_prefix: prefix(fields)?,
        })
    }

    fn create(tx: &mut Tx, who: &CallerName, new: &RuleRequest) -> Result<Id<Self>, Refusal> {
        let group = visible_in::<SecurityGroup>(tx, who, &new.group)?;
        if !who.may_write(group.meta.project.as_ref()) {
            return Err(Refusal::policy("create_security_group_rule"));
        }
        if let Some(remote) = &new.remote_group {
            visible_in::<SecurityGroup>(tx, who, remote)?;
        }
        Ok(verbs::create_rule(tx, new)?.meta.id.clone())
    }

    fn read_change(fields: &mut Fields, _: &CallerName) -> Result<Option<String>, Refusal> {
        fields.description()
    }

    fn change(tx: &mut Tx, _: &CallerName, id: &Id<Self>, description: &Option<String>) -> Result<(), Refusal> {
        if let Some(description) = description.clone() {
            tx.update(id, |rule: &mut SecurityGroupRule| {
                rule.standard.description = description;
                Ok::<_, Refusal>(())
            })?;
        }
        Ok(())
    }

    fn remove(tx: &mut Tx, _: &CallerName, id: &Id<Self>) -> Result<(), Refusal> {
        verbs::delete_rule(tx, id)
    }
}

fn direction(text: &str) -> Option<Direction> {
    [Direction::Ingress, Direction::Egress].into_iter().find(|d| d.text() == text)
}

fn ethertype(text: &str) -> Option<EtherType> {
    [EtherType::Ipv4, EtherType::Ipv6].into_iter().find(|e| e.text().eq_ignore_ascii_case(text))
}

/// A name, a number, or text of a number; null and `any` are no protocol.
fn protocol(fields: &mut Fields) -> Result<Option<Protocol>, Refusal> {
    let text = match fields.take("protocol") {
        None | Some(Value::Null) => return Ok(None),
        Some(value) => shown(&value),
    };
    if text.is_empty() || text == "any" {
        return Ok(None);
    }
    Protocol::parse(&text).map(Some).ok_or_else(|| {
        let names = Protocol::names().map(|n| format!("'{n}'")).collect::<Vec<_>>().join(", ");
        let text = format!(
            "Security group rule protocol {text} not supported. Only protocol values [{names}] and integer representations [0 to 255] are supported."
        );
        Refusal::bad("SecurityGroupRuleInvalidProtocol", text)
    })
}

fn port(fields: &mut Fields, name: &str) -> Result<Option<u16>, Refusal> {
    let value = match fields.take(name) {
        None | Some(Value::Null) => return Ok(None),
        Some(value) => value,
    };
    let number = match &value {
        Value::Number(n) => n.as_u64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    let port = number.and_then(|n| u16::try_from(n).ok());
    port.map(Some).ok_or_else(|| Refusal::bad("SecurityGroupInvalidPortValue", format!("Invalid value for port {}", shown(&value))))
}

fn prefix(fields: &mut Fields) -> Result<Option<ipnet::IpNet>, Refusal> {
    let value = match fields.take("remote_ip_prefix") {
        None | Some(Value::Null) => return Ok(None),
        Some(value) => value,
    };
    match value.as_str() {
        Some("") => Ok(None),
        Some(text) => match to_prefix(text) {
            Some(prefix) => Ok(Some(prefix)),
            None => Err(Refusal::bad("InvalidCIDR", format!("Invalid CIDR {text} given as IP prefix."))),
        },
        None => Err(invalid("remote_ip_prefix", format!("'{}' is not a valid string", shown(&value)))),
    }
}
