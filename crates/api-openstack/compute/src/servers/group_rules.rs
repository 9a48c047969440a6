//! Rules of security groups in compute's own old form: incoming ones only, with addresses and ports by name.

use serde_json::{Value, json};
use unkai_model::network::{Direction, SecurityGroup, SecurityGroupRule};
use unkai_store::View;

/// None for rules that the old form cannot say: those of outgoing traffic.
pub fn body(view: &View, rule: &SecurityGroupRule) -> Option<Value> {
    if rule.direction != Direction::Ingress {
        return None;
    }
    let remote = rule.remote_group.as_ref().and_then(|id| view.get::<SecurityGroup>(id));
    let group = remote.map_or(json!({}), |group| json!({ "name": group.meta.name, "tenant_id": group.meta.project }));
    let range = match (&rule.remote_group, &rule.remote_prefix) {
        (Some(_), _) => json!({}),
        (None, Some(prefix)) => json!({ "cidr": prefix.to_string() }),
        (None, None) => json!({ "cidr": "0.0.0.0/0" }),
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
