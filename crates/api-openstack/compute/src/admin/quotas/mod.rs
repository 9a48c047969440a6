//! Quotas of compute: what there is to limit, in which versions it shows, and what a limit is for a project or one of its users.
//!
//! Limits that were set are `Quota` documents: `compute/PROJECT`, `compute/PROJECT/USER`, and `compute/default` for everybody.

mod class;
mod sets;

use std::collections::BTreeMap;

use unkai_model::Id;
use unkai_model::compute::Server;
use unkai_model::identity::Project;
use unkai_model::quota::Quota;
use unkai_openstack::{Routes, quota_limit};
use unkai_store::{Tx, View};

use crate::schema::{Object, Schema, object};
use crate::{Fault, Microversion};

pub fn routes() -> Routes {
    Routes::new().merge(sets::routes()).merge(class::routes())
}

/// One thing that is limited.
pub struct Resource {
    pub name: &'static str,
    pub default: i64,
    /// Where its sum is kept, by project; none for what is limited per request or per user.
    tally: Option<&'static str>,
    /// The last minor version of quota sets, and of quota classes, that shows it.
    last: u16,
    last_in_class: u16,
}

const fn resource(name: &'static str, default: i64, tally: Option<&'static str>) -> Resource {
    Resource { name, default, tally, last: u16::MAX, last_in_class: u16::MAX }
}
/// Of the network; compute never limits these.
const fn network(name: &'static str) -> Resource {
    Resource { name, default: -1, tally: None, last: 35, last_in_class: 49 }
}
const fn injected(name: &'static str, default: i64) -> Resource {
    Resource { name, default, tally: None, last: 56, last_in_class: 56 }
}

pub const RESOURCES: [Resource; 14] = [
    resource("instances", 10, Some("instances")),
    resource("cores", 20, Some("cores")),
    resource("ram", 51200, Some("ram")),
    resource("metadata_items", 128, None),
    resource("key_pairs", 100, None),
    resource("server_groups", 10, Some("server_groups")),
    resource("server_group_members", 10, None),
    network("fixed_ips"),
    network("floating_ips"),
    network("security_groups"),
    network("security_group_rules"),
    injected("injected_files", 5),
    injected("injected_file_content_bytes", 10240),
    injected("injected_file_path_bytes", 255),
];

impl Resource {
    fn in_use(&self, view: &View, project: &Id<Project>) -> i64 {
        self.tally.map_or(0, |tally| view.tally(tally, project.as_str()))
    }

    /// What one user of the project takes of it.
    fn in_use_by(&self, view: &View, project: &Id<Project>, user: &str) -> i64 {
        let servers = view.by_index::<Server>("project", project.as_str()).filter(|server| server.spec.user == user);
        let amount = |server: &Server| match self.name {
            "instances" => 1,
            "cores" => i64::from(server.spec.launch.flavor.vcpus),
            "ram" => server.spec.launch.flavor.ram_mib as i64,
            _ => 0,
        };
        servers.map(|server| amount(&server)).sum()
    }
}

fn user_id(project: &Id<Project>, user: &str) -> Id<Quota> {
    Id::new(format!("compute/{project}/{user}"))
}

/// The limit of `resource`; -1 is none. A user's own limit, where one was set, is what counts for him.
pub fn limit(view: &View, project: &Id<Project>, user: Option<&str>, resource: &str) -> i64 {
    let own = user.and_then(|user| view.get(&user_id(project, user))).and_then(|quota| quota.limits.get(resource).copied());
    let default = RESOURCES.iter().find(|known| known.name == resource).map_or(-1, |known| known.default);
    own.unwrap_or_else(|| quota_limit(view, "compute", project, resource, default))
}

/// The limit of everybody who has none of his own.
fn default_limit(view: &View, resource: &Resource) -> i64 {
    let set = view.get::<Quota>(&Id::new("compute/default")).and_then(|quota| quota.limits.get(resource.name).copied());
    set.unwrap_or(resource.default)
}

/// Properties that set the resources of a version.
fn properties(last: fn(&Resource) -> u16) -> Object {
    let limit = || Schema::Integer { min: -1, max: 0x7FFF_FFFF };
    RESOURCES.iter().fold(object(), |object, resource| object.optional_in(..=last(resource), resource.name, limit()))
}

/// Writes limits into the document of that id, which is made when it is the first one.
fn set(tx: &mut Tx, id: &Id<Quota>, limits: &BTreeMap<String, i64>) -> Result<(), Fault> {
    match tx.get(id) {
        Some(_) => {
            tx.update(id, |quota: &mut Quota| {
                quota.limits.extend(limits.iter().map(|(name, limit)| (name.clone(), *limit)));
                Ok::<_, Fault>(())
            })?;
        }
        None => {
            tx.insert(Quota { meta: unkai_model::Meta::new(id.clone()), limits: limits.clone() })?;
        }
    }
    Ok(())
}

fn shown(version: Microversion, last: fn(&Resource) -> u16) -> impl Iterator<Item = &'static Resource> {
    RESOURCES.iter().filter(move |resource| version.0 <= last(resource))
}
