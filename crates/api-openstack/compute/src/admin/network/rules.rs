//! `/os-security-group-rules`: what may come in, from a prefix or from another group.

use std::sync::LazyLock;

use axum::Json;
use axum::extract::{Path, State};
use http::StatusCode;
use serde_json::{Value, json};
use unkai_model::Id;
use unkai_model::network::{Direction, EtherType, Protocol, SecurityGroup, SecurityGroupRule};
use unkai_network::verbs::{self, RuleRequest};
use unkai_openstack::{Caller, Cloud, Routes};
use unkai_store::{Tx, View};

use super::refused;
use super::security_groups::find;
use crate::admin::policy;
use crate::body::Body;
use crate::schema::{Schema, as_int, is_uuid, object};
use crate::{Fault, Microversion};

pub fn routes() -> Routes {
    Routes::new().post("/v2.1/os-security-group-rules", create).delete("/v2.1/os-security-group-rules/{id}", delete)
}

static BODY: LazyLock<Schema> = LazyLock::new(|| {
    let inner = object()
        .required("parent_group_id", Schema::Any)
        .optional("ip_protocol", Schema::Any)
        .optional("from_port", Schema::Any)
        .optional("to_port", Schema::Any)
        .optional("cidr", Schema::Any)
        .optional("group_id", Schema::Any)
        .open();
    Schema::wrapped("security_group_rule", inner)
});

pub fn render(view: &View, rule: &SecurityGroupRule) -> Value {
    let (from_port, to_port) = match (rule.port_min, rule.port_max, rule.protocol.as_ref().map(Protocol::text)) {
        (None, None, Some("tcp" | "udp")) => (json!(1), json!(65535)),
        (None, None, Some(_)) => (json!(-1), json!(-1)),
        (min, max, _) => (json!(min), json!(max)),
    };
    let (mut group, mut ip_range) = (json!({}), json!({}));
    match &rule.remote_group {
        Some(id) => {
            let source = view.get(id);
            group =
                json!({ "name": source.as_ref().map_or("", |g| &g.meta.name), "tenant_id": source.and_then(|g| g.meta.project.clone()) });
        }
        None => {
            let everywhere = if rule.ethertype == EtherType::Ipv6 { "::/0" } else { "0.0.0.0/0" };
            ip_range = json!({ "cidr": rule.remote_prefix.map_or_else(|| everywhere.to_owned(), |prefix| prefix.to_string()) });
        }
    }
    json!({
        "id": rule.meta.id,
        "parent_group_id": rule.group,
        "ip_protocol": rule.protocol.as_ref().map(Protocol::text),
        "from_port": from_port,
        "to_port": to_port,
        "group": group,
        "ip_range": ip_range,
    })
}

async fn create(State(cloud): State<Cloud>, caller: Caller, version: Microversion, body: Body) -> Result<Json<Value>, Fault> {
    version.require(..36)?;
    let body = body.validated(&BODY, version)?;
    let project = caller.require_project()?.clone();
    policy::member(&caller, Some(&project), "os_compute_api:os-security-groups:rule:create")?;
    let wish = Wish::parse(&body["security_group_rule"])?;
    let transaction = move |tx: &mut Tx| {
        let view = tx.view();
        let group = find(&view, &caller, &wish.parent)?;
        let remote = wish.remote_group.as_ref().map(|id| find(&view, &caller, id)).transpose()?;
        let request = wish.request(&group, remote.map(|remote| remote.meta.id.clone()));
        let rule = verbs::create_rule(tx, &request).map_err(refused)?;
        Ok::<_, Fault>(json!({ "security_group_rule": render(&tx.view(), &rule) }))
    };
    cloud.store.transact(transaction).await.map(Json)
}

/// A rule as it was asked for, with its values understood.
#[derive(Debug, Clone, PartialEq)]
struct Wish {
    parent: String,
    remote_group: Option<String>,
    prefix: Option<ipnet::IpNet>,
    protocol: Option<Protocol>,
    ports: Option<(u16, u16)>,
}

impl Wish {
    fn parse(body: &Value) -> Result<Self, Fault> {
        let text = |key: &str| match &body[key] {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        };
        let id = |key: &str| match text(key).filter(|text| !text.is_empty()) {
            Some(id) if !is_uuid(&id) => Err(Fault::bad_request("Security group id should be uuid")),
            other => Ok(other),
        };
        let parent = id("parent_group_id")?.ok_or_else(|| Fault::bad_request("Security group id should be uuid"))?;
        let remote_group = id("group_id")?;
        let prefix = match text("cidr").filter(|text| !text.is_empty() && remote_group.is_none()) {
            None => None,
            Some(text) => Some(text.parse().map_err(|_| Fault::bad_request(format!("Invalid cidr {text}.")))?),
        };
        let protocol = text("ip_protocol").map(|text| text.to_lowercase());
        let protocol = match protocol.as_deref() {
            None | Some("") => None,
            Some(name @ ("tcp" | "udp" | "icmp")) => Protocol::parse(name),
            Some(other) => return Err(Fault::bad_request(format!("Invalid IP protocol {other}."))),
        };
        let ports = match (body.get("from_port").and_then(as_int), body.get("to_port").and_then(as_int)) {
            (from, to) if from.is_none() && to.is_none() && body["from_port"].is_null() && body["to_port"].is_null() => None,
            (Some(from), Some(to)) => ports(protocol.as_ref(), from, to)?,
            _ => return Err(Fault::bad_request("Valid port ranges are integers.")),
        };
        if protocol.is_none() && (ports.is_some() || remote_group.is_none()) {
            return Err(Fault::bad_request("Not enough parameters to build a valid rule."));
        }
        Ok(Wish { parent, remote_group, prefix, protocol, ports })
    }

    fn request(&self, group: &SecurityGroup, remote_group: Option<Id<SecurityGroup>>) -> RuleRequest {
        let ipv6 = self.prefix.is_some_and(|prefix| prefix.addr().is_ipv6());
        RuleRequest {
            project: group.meta.project.clone(),
            description: String::new(),
            group: group.meta.id.clone(),
            direction: Direction::Ingress,
            ethertype: if ipv6 { EtherType::Ipv6 } else { EtherType::Ipv4 },
            protocol: self.protocol.clone(),
            port_min: self.ports.map(|(from, _)| from),
            port_max: self.ports.map(|(_, to)| to),
            remote_group,
            remote_prefix: self.prefix,
        }
    }
}

/// The range; for ICMP the type and the code, where -1 is any.
fn ports(protocol: Option<&Protocol>, from: i64, to: i64) -> Result<Option<(u16, u16)>, Fault> {
    let icmp = protocol.is_some_and(|protocol| protocol.text() == "icmp");
    let range = if icmp { -1..=255 } else { 1..=65535 };
    let refused = || Fault::bad_request(format!("Invalid port range {from}:{to}. Valid TCP ports should be between 1-65535"));
    if (!icmp && from > to) || !range.contains(&from) || !range.contains(&to) {
        return Err(refused());
    }
    if from == -1 || to == -1 {
        return Ok(None);
    }
    Ok(Some((u16::try_from(from).map_err(|_| refused())?, u16::try_from(to).map_err(|_| refused())?)))
}

async fn delete(State(cloud): State<Cloud>, caller: Caller, version: Microversion, Path(id): Path<String>) -> Result<StatusCode, Fault> {
    version.require(..36)?;
    if !is_uuid(&id) {
        return Err(Fault::bad_request("Rule id should be uuid"));
    }
    let transaction = move |tx: &mut Tx| {
        let rule = tx.get::<SecurityGroupRule>(&Id::new(id.as_str()));
        let rule = rule.filter(|rule| caller.is_admin() || caller.owns(rule.meta.project.as_ref()));
        let rule = rule.ok_or_else(|| Fault::not_found(format!("Rule ({id}) not found")))?;
        policy::member(&caller, rule.meta.project.as_ref(), "os_compute_api:os-security-groups:rule:delete")?;
        verbs::delete_rule(tx, &rule.meta.id).map_err(refused)?;
        Ok::<_, Fault>(StatusCode::ACCEPTED)
    };
    cloud.store.transact(transaction).await
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: &str = "10000000-0000-4000-8000-000000000001";

    #[test]
    fn rules_need_a_protocol_and_ports_that_fit_it() {
        let wish = |protocol: Value, from: Value, to: Value| {
            Wish::parse(&json!({"parent_group_id": GROUP, "ip_protocol": protocol, "from_port": from, "to_port": to}))
        };
        assert_eq!(wish(json!("TCP"), json!(22), json!("23")).unwrap().ports, Some((22, 23)));
        assert_eq!(wish(json!("icmp"), json!(-1), json!(-1)).unwrap().ports, None);
        assert_eq!(wish(json!("icmp"), json!(8), json!(0)).unwrap().ports, Some((8, 0)));
        let odd = [
            (json!("x"), json!(1), json!(2)),
            (json!("tcp"), json!(2), json!(1)),
            (json!("tcp"), json!(70000), json!(70000)),
            (json!("tcp"), json!("a"), json!(1)),
            (json!("tcp"), json!(-1), json!(-1)),
            (json!(null), json!(null), json!(null)),
        ];
        for (protocol, from, to) in odd {
            assert_eq!(wish(protocol.clone(), from, to).unwrap_err().code, 400, "{protocol}");
        }
        assert_eq!(Wish::parse(&json!({"parent_group_id": "x"})).unwrap_err().message, "Security group id should be uuid");
    }
}
