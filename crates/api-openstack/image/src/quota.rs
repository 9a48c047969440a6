//! Glance's quotas, as limits on tallies of the image kind. Without a limit set there is none.

use unkai_model::Id;
use unkai_model::identity::Project;
use unkai_openstack::quota_limit;
use unkai_store::Tx;

/// Resource names, also the names of the tallies.
pub const RESOURCES: [&str; 4] = ["image_count_total", "image_size_total", "image_stage_total", "image_count_uploading"];

pub const SERVICE: &str = "image";
pub const NONE: i64 = -1;

/// For a new image.
pub fn limit_count(tx: &mut Tx, project: Option<&Id<Project>>) {
    limit(tx, project, &["image_count_total"]);
}

/// For the start of an upload: refuses when the project has used up its bytes.
pub fn limit_bytes(tx: &mut Tx, project: Option<&Id<Project>>) -> Result<(), unkai_model::Error> {
    limit(tx, project, &["image_count_uploading"]);
    let Some(project) = project else { return Ok(()) };
    for resource in ["image_size_total", "image_stage_total"] {
        let most = quota_limit(&tx.view(), SERVICE, project, resource, NONE);
        let used = tx.tally(resource, project.as_str());
        if most >= 0 && used > most {
            return Err(unkai_model::Error::Quota { resource, limit: most, used, requested: 0 });
        }
    }
    Ok(())
}

fn limit(tx: &mut Tx, project: Option<&Id<Project>>, resources: &[&'static str]) {
    let Some(project) = project else { return };
    let view = tx.view();
    for resource in resources {
        tx.limit(resource, resource, project.as_str(), quota_limit(&view, SERVICE, project, resource, NONE));
    }
}
