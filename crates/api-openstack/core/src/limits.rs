//! Quota limits: what was set for the project, else what was set for all, else the service's own default.

use unkai_model::Id;
use unkai_model::identity::Project;
use unkai_model::quota::Quota;
use unkai_store::View;

/// The limit of `resource` for a project; -1 is none. `service` is `compute`, `network`, ...
pub fn quota_limit(view: &View, service: &str, project: &Id<Project>, resource: &str, default: i64) -> i64 {
    let set = |id: &Id<Quota>| view.get(id).and_then(|quota| quota.limits.get(resource).copied());
    set(&Quota::id(service, project)).or_else(|| set(&Id::new(format!("{service}/default")))).unwrap_or(default)
}
