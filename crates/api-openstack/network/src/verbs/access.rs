//! Who may use what besides its owner. A project without a policy for it must not learn that something exists.

use std::sync::Arc;

use unkai_model::Id;
use unkai_model::identity::Project;
use unkai_model::network::{Network, RbacAction, RbacObject, RbacPolicy, SecurityGroup, SubnetPool};
use unkai_store::View;

fn allows(view: &View, object: &str, action: RbacAction, project: Option<&Id<Project>>) -> bool {
    view.by_index::<RbacPolicy>("object", object).any(|policy| policy.action == action && policy.target.covers(project))
}

/// A policy shares it with this project. Without a project: with everybody.
pub fn is_shared_with(view: &View, object: &str, project: Option<&Id<Project>>) -> bool {
    allows(view, object, RbacAction::AccessAsShared, project)
}

/// This project's routers may have their gateway there.
pub fn is_external_for(view: &View, network: &Network, project: Option<&Id<Project>>) -> bool {
    network.external
        && (owns(network.meta.project.as_ref(), project) || allows(view, network.meta.id.as_str(), RbacAction::AccessAsExternal, project))
}

fn owns(owner: Option<&Id<Project>>, project: Option<&Id<Project>>) -> bool {
    owner.is_some() && owner == project
}

pub fn may_see_network(view: &View, project: Option<&Id<Project>>, network: &Network) -> bool {
    owns(network.meta.project.as_ref(), project)
        || is_external_for(view, network, project)
        || is_shared_with(view, network.meta.id.as_str(), project)
}

pub fn may_see_group(view: &View, project: Option<&Id<Project>>, group: &SecurityGroup) -> bool {
    owns(group.meta.project.as_ref(), project) || is_shared_with(view, group.meta.id.as_str(), project)
}

pub fn may_see_pool(view: &View, project: Option<&Id<Project>>, pool: &SubnetPool) -> bool {
    owns(pool.meta.project.as_ref(), project) || is_shared_with(view, pool.meta.id.as_str(), project)
}

/// The networks a server of this project can be put on without being told which: its own and those shared with it.
pub fn candidate_networks(view: &View, project: &Id<Project>) -> Vec<Arc<Network>> {
    let own = view.by_index::<Network>("project", project.as_str());
    let mut found: Vec<_> = own.collect();
    for target in ["*", project.as_str()] {
        for policy in view.by_index::<RbacPolicy>("target", target) {
            if let (RbacAction::AccessAsShared, RbacObject::Network(id)) = (policy.action, &policy.object) {
                found.extend(view.get(id));
            }
        }
    }
    found.sort_by(|a, b| a.meta.id.cmp(&b.meta.id));
    found.dedup_by(|a, b| a.meta.id == b.meta.id);
    found
}
