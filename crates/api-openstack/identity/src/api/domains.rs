//! Domains.

use serde_json::{Value, json};
use unkai_model::identity::Project;
use unkai_openstack::Cloud;

pub fn render(cloud: &Cloud, domain: &Project) -> Value {
    let mut body = serde_json::Map::from_iter(domain.extra.clone());
    let known = json!({
        "id": domain.meta.id,
        "name": domain.meta.name,
        "description": domain.description,
        "enabled": domain.enabled,
        "tags": domain.tags,
        "options": domain.options,
        "links": {"self": format!("{}/v3/domains/{}", crate::base(cloud), domain.meta.id)},
    });
    if let Value::Object(known) = known {
        body.extend(known);
    }
    Value::Object(body)
}
