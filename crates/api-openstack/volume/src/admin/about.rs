//! What there is of the API, for clients that ask: extensions, filters of lists; and what there is nothing of.

use axum::Json;
use serde_json::{Value, json};
use unkai_openstack::Routes;
use unkai_openstack::web::{Fault, Query};

use crate::cx::Cx;

pub fn routes() -> Routes {
    Routes::new()
        .get("/extensions", extensions)
        .get("/resource_filters", filters)
        .get("/qos-specs", no_qos)
        .get("/group_types", no_group_types)
        .get("/groups", no_groups)
        .get("/groups/detail", no_groups)
}

/// Name, alias, and what it says of itself.
const EXTENSIONS: [(&str, &str, &str); 18] = [
    ("AdminActions", "os-admin-actions", "Enable admin actions."),
    ("AvailabilityZones", "os-availability-zone", "Describe availability zones."),
    ("Backups", "backups", "Backups support."),
    ("Capabilities", "capabilities", "Capabilities support."),
    ("ExtendedSnapshotAttributes", "os-extended-snapshot-attributes", "Extended snapshot attributes support."),
    ("Hosts", "os-hosts", "Admin-only host administration."),
    ("QuotaClasses", "os-quota-class-sets", "Quota classes management support."),
    ("Quotas", "os-quota-sets", "Quota management support."),
    ("Scheduler_stats", "scheduler-stats", "Scheduler stats support."),
    ("Services", "os-services", "Services support."),
    ("SnapshotActions", "os-snapshot-actions", "Enable snapshot manager actions."),
    ("TypesExtraSpecs", "os-types-extra-specs", "Type extra specs support."),
    ("TypesManage", "os-types-manage", "Types manage support."),
    ("VolumeActions", "os-volume-actions", "Enable volume actions."),
    ("VolumeImageMetadata", "os-vol-image-meta", "Show image metadata associated with the volume."),
    ("VolumeTenantAttribute", "os-vol-tenant-attr", "Expose the internal project_id as an attribute of a volume."),
    ("VolumeTypeAccess", "os-volume-type-access", "Volume type access support."),
    ("VolumeTypeEncryption", "encryption", "Encryption support for volume types."),
];

async fn extensions(_: Cx) -> Json<Value> {
    let shown = EXTENSIONS.iter().map(|(name, alias, description)| {
        json!({ "name": name, "alias": alias, "description": description, "updated": "2014-01-01T00:00:00+00:00", "links": [] })
    });
    Json(json!({ "extensions": shown.collect::<Vec<_>>() }))
}

/// Resource -> the filters of its list.
const FILTERS: [(&str, &[&str]); 5] = [
    (
        "volume",
        &[
            "name",
            "status",
            "metadata",
            "bootable",
            "availability_zone",
            "glance_metadata",
            "size",
            "volume_type_id",
            "user_id",
            "created_at",
            "updated_at",
            "encrypted",
            "multiattach",
        ],
    ),
    ("snapshot", &["status", "volume_id", "metadata", "name", "user_id"]),
    ("backup", &["name", "status", "volume_id"]),
    ("attachment", &["volume_id", "status", "instance_id", "attach_status"]),
    ("message", &["resource_uuid", "resource_type", "event_id", "request_id", "message_level"]),
];

async fn filters(cx: Cx, query: Query) -> Result<Json<Value>, Fault> {
    cx.version.require(33..)?;
    let wanted = query.get("resource");
    let shown = FILTERS.iter().filter(|(resource, _)| wanted.is_none_or(|wanted| wanted == *resource));
    let shown: Vec<Value> = shown.map(|(resource, filters)| json!({ "resource": resource, "filters": filters })).collect();
    Ok(Json(json!({ "resource_filters": shown })))
}

/// There are none, and none can be made.
async fn no_qos(cx: Cx) -> Result<Json<Value>, Fault> {
    cx.require_admin("volume_extension:qos_specs_manage:get_all")?;
    Ok(Json(json!({ "qos_specs": [] })))
}

async fn no_group_types(cx: Cx) -> Result<Json<Value>, Fault> {
    cx.version.require(11..)?;
    Ok(Json(json!({ "group_types": [] })))
}

async fn no_groups(cx: Cx) -> Result<Json<Value>, Fault> {
    cx.version.require(13..)?;
    Ok(Json(json!({ "groups": [] })))
}
