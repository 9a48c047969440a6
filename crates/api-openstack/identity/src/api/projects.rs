//! Projects.

use serde_json::{Value, json};
use unkai_model::identity::Project;
use unkai_openstack::Cloud;

pub fn render(cloud: &Cloud, project: &Project) -> Value {
    let mut body = serde_json::Map::from_iter(project.extra.clone());
    let known = json!({
        "id": project.meta.id,
        "name": project.meta.name,
        "description": project.description,
        "enabled": project.enabled,
        "domain_id": project.domain,
        "parent_id": project.parent,
        "is_domain": project.is_domain,
        "tags": project.tags,
        "options": project.options,
        "links": {"self": format!("{}/v3/projects/{}", crate::base(cloud), project.meta.id)},
    });
    if let Value::Object(known) = known {
        body.extend(known);
    }
    Value::Object(body)
}
