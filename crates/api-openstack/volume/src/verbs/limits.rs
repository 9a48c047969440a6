//! Quotas of block storage: what there is to limit, and the checks of a transaction that makes something.
//!
//! Limits that were set are `Quota` documents: `volume/PROJECT`, and `volume/default` for everybody. Those of one type are under the type's
//! name: `volumes_fast`.

use unkai_model::Id;
use unkai_model::identity::Project;
use unkai_model::volume::VolumeType;
use unkai_openstack::quota_limit;
use unkai_store::{Tx, View};

/// What is limited, and how much of it a project may have before anybody has said anything. A sum by project of the same name is kept of
/// those that are counted.
pub const RESOURCES: [(&str, i64); 8] = [
    ("volumes", 10),
    ("snapshots", 10),
    ("gigabytes", 1000),
    ("backups", 10),
    ("backup_gigabytes", 1000),
    ("per_volume_gigabytes", -1),
    ("groups", 10),
    ("consistencygroups", 10),
];

/// Of these there are limits for each type too, which limit nobody until they are set.
pub const BY_TYPE: [&str; 3] = ["volumes", "gigabytes", "snapshots"];

/// The limit of a resource for a project; -1 is none.
pub fn limit(view: &View, project: &Id<Project>, resource: &str) -> i64 {
    let default = RESOURCES.iter().find(|(name, _)| *name == resource).map_or(-1, |(_, default)| *default);
    quota_limit(view, "volume", project, resource, default)
}

/// The transaction fails when it takes more of these than the project has.
pub fn check(tx: &mut Tx, project: &Id<Project>, resources: &[&'static str]) {
    for resource in resources {
        let most = limit(&tx.view(), project, resource);
        tx.limit(resource, resource, project.as_str(), most);
    }
}

/// The same for what the project may have of one type.
pub fn check_type(tx: &mut Tx, project: &Id<Project>, kind: &VolumeType, resources: &[&'static str]) {
    for resource in resources {
        let most = limit(&tx.view(), project, &format!("{resource}_{}", kind.meta.name));
        if most >= 0 {
            tx.limit(resource, resource, &format!("{project}/{}", kind.meta.id), most);
        }
    }
}
