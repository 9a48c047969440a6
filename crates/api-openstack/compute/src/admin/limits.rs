//! `/limits`: the quotas of the caller's project and what is used of them, under the names that the first clients knew.

use std::sync::LazyLock;

use axum::Json;
use axum::extract::State;
use serde_json::{Map, Value, json};
use unkai_model::Id;
use unkai_model::identity::Project;
use unkai_model::network::{FloatingIp, SecurityGroup};
use unkai_openstack::{Caller, Cloud, Routes};
use unkai_store::View;

use super::page::QuerySchema;
use super::{policy, quotas};
use crate::query::Query;
use crate::schema::{Schema, object};
use crate::{Fault, Microversion};

pub fn routes() -> Routes {
    Routes::new().get("/v2.1/limits", show)
}

static QUERY: LazyLock<QuerySchema> = LazyLock::new(|| {
    let text = || Schema::string(0, usize::MAX).single();
    QuerySchema::new(object().optional("tenant_id", text()).optional("reserved", text()))
});

/// Shown name, quota, last minor version that shows it.
const MAXIMA: [(&str, &str, u16); 13] = [
    ("maxTotalInstances", "instances", u16::MAX),
    ("maxTotalCores", "cores", u16::MAX),
    ("maxTotalRAMSize", "ram", u16::MAX),
    ("maxServerMeta", "metadata_items", u16::MAX),
    ("maxTotalKeypairs", "key_pairs", u16::MAX),
    ("maxServerGroups", "server_groups", u16::MAX),
    ("maxServerGroupMembers", "server_group_members", u16::MAX),
    ("maxImageMeta", "metadata_items", 38),
    ("maxPersonality", "injected_files", 56),
    ("maxPersonalitySize", "injected_file_content_bytes", 56),
    ("maxTotalFloatingIps", "floating_ips", 35),
    ("maxSecurityGroups", "security_groups", 35),
    ("maxSecurityGroupRules", "security_group_rules", 35),
];

/// Shown name and the tally behind it.
const USED: [(&str, &str); 4] =
    [("totalInstancesUsed", "instances"), ("totalCoresUsed", "cores"), ("totalRAMUsed", "ram"), ("totalServerGroupsUsed", "server_groups")];

async fn show(State(cloud): State<Cloud>, caller: Caller, version: Microversion, query: Query) -> Result<Json<Value>, Fault> {
    QUERY.check(&query, version)?;
    policy::allow(!caller.roles.is_empty(), "os_compute_api:limits")?;
    let project = match query.get("tenant_id") {
        Some(other) => {
            let other = Id::new(other);
            policy::allow(caller.is_admin() || caller.owns(Some(&other)), "os_compute_api:limits:other_project")?;
            other
        }
        None => caller.require_project()?.clone(),
    };
    let absolute = absolute(&cloud.store.read().await?, &project, version);
    Ok(Json(json!({ "limits": { "rate": [], "absolute": absolute } })))
}

fn absolute(view: &View, project: &Id<Project>, version: Microversion) -> Map<String, Value> {
    let maxima = MAXIMA.iter().filter(|(_, _, last)| version.0 <= *last);
    let maxima = maxima.map(|(name, quota, _)| (name.to_string(), json!(quotas::limit(view, project, None, quota))));
    let used = USED.iter().map(|(name, tally)| (name.to_string(), json!(view.tally(tally, project.as_str()))));
    let mut shown: Map<String, Value> = maxima.chain(used).collect();
    if !version.at_least(36) {
        let of_project = |owner: &Option<Id<Project>>| owner.as_ref() == Some(project);
        let ips = view.all::<FloatingIp>().filter(|ip| of_project(&ip.meta.project)).count();
        let groups = view.all::<SecurityGroup>().filter(|group| of_project(&group.meta.project)).count();
        shown.insert("totalFloatingIpsUsed".into(), json!(ips));
        shown.insert("totalSecurityGroupsUsed".into(), json!(groups));
    }
    shown
}
