//! `/limits`: the caller's quotas and what is used of them, under the names that the first clients knew.

use axum::Json;
use serde_json::{Map, Value, json};
use unkai_model::Id;
use unkai_openstack::Routes;
use unkai_openstack::web::{Fault, Query};

use super::in_use;
use crate::cx::Cx;
use crate::verbs::limits::limit;

pub fn routes() -> Routes {
    Routes::new().get("/limits", show)
}

const MAXIMA: [(&str, &str); 5] = [
    ("maxTotalVolumes", "volumes"),
    ("maxTotalSnapshots", "snapshots"),
    ("maxTotalVolumeGigabytes", "gigabytes"),
    ("maxTotalBackups", "backups"),
    ("maxTotalBackupGigabytes", "backup_gigabytes"),
];

const USED: [(&str, &str); 5] = [
    ("totalVolumesUsed", "volumes"),
    ("totalSnapshotsUsed", "snapshots"),
    ("totalGigabytesUsed", "gigabytes"),
    ("totalBackupsUsed", "backups"),
    ("totalBackupGigabytesUsed", "backup_gigabytes"),
];

async fn show(cx: Cx, query: Query) -> Result<Json<Value>, Fault> {
    // An administrator may ask for another project's from 3.39 on.
    let other = query.get("project_id").filter(|_| cx.version.at_least(39) && cx.is_admin());
    let project = match other {
        Some(id) => Id::new(id),
        None => cx.project()?,
    };
    let view = cx.view().await?;
    let maxima = MAXIMA.iter().map(|(name, resource)| ((*name).to_owned(), json!(limit(&view, &project, resource))));
    let used = USED.iter().map(|(name, resource)| ((*name).to_owned(), json!(in_use(&view, &project, resource))));
    let absolute: Map<String, Value> = maxima.chain(used).collect();
    Ok(Json(json!({ "limits": { "rate": [], "absolute": absolute } })))
}
