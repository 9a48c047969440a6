//! `os-security-group-rules`: incoming rules only, in compute's own old form.

use std::sync::LazyLock;

use axum::Json;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use ipnet::IpNet;
use serde_json::{Value, json};
use unkai_model::Id;
use unkai_model::network::{Direction, EtherType, SecurityGroup, SecurityGroupRule};
use unkai_network::verbs::{self, RuleRequest};
use unkai_store::View;

use super::super::create::{reference, text};
use super::super::cx::Cx;
use super::{groups, still_there, uuid, writer};
use crate::Fault;
use crate::body::Body;
use crate::schema::{Schema, as_int, object};

static RULE: LazyLock<Schema> = LazyLock::new(|| {
    let port = || Schema::Union(vec![Schema::Integer { min: -1, max: 65_535 }, Schema::string(0, 0), Schema::Null]);
    let id = || Schema::Union(vec![Schema::string(0, 255), Schema::Integer { min: i64::MIN, max: i64::MAX }, Schema::Null]);
    let rule = object()
        .optional("parent_group_id", id())
        .optional("group_id", id())
        .optional("ip_protocol", Schema::string(0, 255).or_null())
        .optional("from_port", port())
        .optional("to_port", port())
        .optional("cidr", Schema::string(0, 255).or_null());
    Schema::wrapped("security_group_rule", rule)
});

/// None for rules that the old form cannot say: those of outgoing traffic.
pub fn body(view: &View, rule: &SecurityGroupRule) -> Option<Value> {
    if rule.direction != Direction::Ingress {
        return None;
    }
    let remote = rule.remote_group.as_ref().and_then(|id| view.get::<SecurityGroup>(id));
    let group = remote.map_or(json!({}), |group| json!({ "name": group.meta.name, "tenant_id": group.meta.project }));
    let everywhere = if rule.ethertype == EtherType::Ipv6 { "::/0" } else { "0.0.0.0/0" };
    let range = match (&rule.remote_group, &rule.remote_prefix) {
        (Some(_), _) => json!({}),
        (None, Some(prefix)) => json!({ "cidr": prefix.to_string() }),
        (None, None) => json!({ "cidr": everywhere }),
    };
    Some(json!({
        "id": rule.meta.id,
        "parent_group_id": rule.group,
        "from_port": rule.port_min,
        "to_port": rule.port_max,
        "ip_protocol": rule.protocol,
        "group": group,
        "ip_range": range,
    }))
}

/// What a body asks for, the group it belongs to apart.
fn wanted(cx: &Cx, view: &View, body: &Value) -> Result<RuleRequest, Fault> {
    let id = |key: &str| Some(&body[key]).filter(|value| !value.is_null()).map(reference);
    let group = groups::find(cx, view, &id("parent_group_id").unwrap_or_default())?;
    let remote = id("group_id").map(|id| groups::find(cx, view, &id)).transpose()?;
    let prefix: Option<IpNet> = match text(body, "cidr").filter(|cidr| !cidr.is_empty()) {
        Some(cidr) => Some(cidr.parse().map_err(|_| Fault::bad_request(format!("Invalid cidr {cidr}.")))?),
        None => None,
    };
    let protocol = text(body, "ip_protocol").filter(|name| !name.is_empty());
    if remote.is_none() && protocol.is_none() {
        return Err(Fault::bad_request("Not enough parameters to build a valid rule."));
    }
    let (from, to) = ports(body, protocol.as_deref())?;
    let ethertype = if matches!(prefix, Some(IpNet::V6(_))) { EtherType::Ipv6 } else { EtherType::Ipv4 };
    let protocol = match protocol {
        Some(name) => {
            let known = ["tcp", "udp", "icmp"].contains(&name.to_ascii_lowercase().as_str());
            let parsed = serde_json::from_value(json!(name.to_ascii_lowercase())).ok().filter(|_| known);
            Some(parsed.ok_or_else(|| Fault::bad_request(format!("Invalid IP protocol {name}.")))?)
        }
        None => None,
    };
    Ok(RuleRequest {
        project: group.meta.project.clone(),
        description: String::new(),
        group: group.meta.id.clone(),
        direction: Direction::Ingress,
        ethertype,
        protocol,
        port_min: from,
        port_max: to,
        remote_group: remote.map(|remote| remote.meta.id.clone()),
        remote_prefix: prefix.filter(|prefix| prefix.prefix_len() > 0),
    })
}

/// The range of ports; -1 is none of them.
fn ports(body: &Value, protocol: Option<&str>) -> Result<(Option<u16>, Option<u16>), Fault> {
    let port = |key: &str| as_int(&body[key]).filter(|port| *port >= 0).and_then(|port| u16::try_from(port).ok());
    let (from, to) = (port("from_port"), port("to_port"));
    let is_icmp = protocol.is_some_and(|name| name.eq_ignore_ascii_case("icmp"));
    match (from, to) {
        (Some(from), Some(to)) if from > to && !is_icmp => {
            Err(Fault::bad_request("Invalid port range. Former value cannot be greater than the later"))
        }
        (None, None) if protocol.is_some() && !is_icmp && as_int(&body["from_port"]) == Some(-1) => {
            Err(Fault::bad_request("Invalid port range. Valid TCP ports should be between 1-65535"))
        }
        range => Ok(range),
    }
}

pub async fn create(cx: Cx, request: Body) -> Result<Response, Fault> {
    still_there(&cx)?;
    let request = request.validated(&RULE, cx.version)?;
    writer(&cx, "os_compute_api:os-security-groups:rule:create")?;
    let caller = cx.clone();
    let made = cx
        .cloud
        .store
        .transact(move |tx| {
            let wish = wanted(&caller, &tx.view(), &request["security_group_rule"])?;
            let rule = verbs::create_rule(tx, &wish)?;
            Ok::<_, Fault>(body(&tx.view(), &rule))
        })
        .await?;
    Ok(Json(json!({ "security_group_rule": made })).into_response())
}

pub async fn delete(cx: Cx, Path(id): Path<String>) -> Result<StatusCode, Fault> {
    still_there(&cx)?;
    writer(&cx, "os_compute_api:os-security-groups:rule:delete")?;
    uuid("Security group rule", &id)?;
    let caller = cx.clone();
    cx.cloud
        .store
        .transact(move |tx| {
            let id: Id<SecurityGroupRule> = Id::new(id.as_str());
            let found = tx.get(&id).filter(|rule: &std::sync::Arc<SecurityGroupRule>| caller.sees(rule.meta.project.as_ref()));
            if found.is_none() {
                return Err(Fault::not_found(format!("Rule ({id}) not found")));
            }
            Ok::<_, Fault>(verbs::delete_rule(tx, &id)?)
        })
        .await?;
    Ok(StatusCode::ACCEPTED)
}
