//! Policies that share something with other projects. A network is `shared` when one shares it with everybody, and external while it
//! has at least one that makes it so.

use std::sync::Arc;

use unkai_model::identity::Project;
use unkai_model::network::{Network, Port, RbacAction, RbacObject, RbacPolicy, RbacTarget, Router, SecurityGroup, Subnet};
use unkai_model::{Id, Meta};
use unkai_store::Tx;

use super::limits;
use crate::Refusal;

#[derive(Debug, Clone)]
pub struct RbacRequest {
    pub project: Option<Id<Project>>,
    pub object: RbacObject,
    pub action: RbacAction,
    pub target: RbacTarget,
}

pub fn create_rbac_policy(tx: &mut Tx, request: &RbacRequest) -> Result<Arc<RbacPolicy>, Refusal> {
    limits::hold(tx, "rbac_policy", request.project.as_ref());
    let policy = insert(tx, request)?;
    if let (RbacAction::AccessAsExternal, RbacObject::Network(network)) = (request.action, &request.object) {
        mark_external(tx, network, true)?;
    }
    Ok(policy)
}

/// The same without quota, for the policies behind `shared` and `router:external`.
pub(super) fn insert(tx: &mut Tx, request: &RbacRequest) -> Result<Arc<RbacPolicy>, Refusal> {
    let mut meta = Meta::new(tx.new_id());
    meta.project = request.project.clone();
    let RbacRequest { object, action, target, .. } = request.clone();
    Ok(tx.insert(RbacPolicy { meta, object, action, target })?)
}

/// Withdraws a policy; refused while somebody uses what only this policy lets them use.
pub fn delete_rbac_policy(tx: &mut Tx, id: &Id<RbacPolicy>) -> Result<(), Refusal> {
    let policy = tx.delete(id)?;
    let dependant = match (&policy.object, policy.action) {
        (RbacObject::Network(network), RbacAction::AccessAsShared) => shared_network_user(tx, network)?,
        (RbacObject::Network(network), RbacAction::AccessAsExternal) => withdrawn_external(tx, network, &policy)?,
        (RbacObject::SecurityGroup(group), _) => shared_group_user(tx, group),
        (RbacObject::SubnetPool(_), _) => None,
    };
    match dependant {
        None => Ok(()),
        Some(what) => {
            let object = policy.object.id();
            let text = format!("RBAC policy on object {object} cannot be removed because other objects depend on it.\nDetails: {what}");
            Err(Refusal::conflict("RbacPolicyInUse", text))
        }
    }
}

/// Removes all policies of an object that is being deleted.
pub fn delete_all_of(tx: &mut Tx, object: &str) -> Result<(), Refusal> {
    let policies: Vec<_> = tx.by_index::<RbacPolicy>("object", object).map(|p| p.meta.id.clone()).collect();
    for policy in policies {
        tx.delete(&policy)?;
    }
    Ok(())
}

/// A port or subnet of another project that may no longer be there.
pub(super) fn shared_network_user(tx: &Tx, id: &Id<Network>) -> Result<Option<String>, Refusal> {
    let network = tx.require(id)?;
    let view = tx.view();
    let foreign = |project: &Option<Id<Project>>| {
        project.is_some() && *project != network.meta.project && !super::access::is_shared_with(&view, id.as_str(), project.as_ref())
    };
    let ports = tx
        .by_index::<Port>("network", id.as_str())
        .filter(|p| !p.is_service() && foreign(&p.meta.project))
        .map(|p| format!("port {}", p.meta.id));
    let subnets =
        tx.by_index::<Subnet>("network", id.as_str()).filter(|s| foreign(&s.meta.project)).map(|s| format!("subnet {}", s.meta.id));
    Ok(ports.chain(subnets).next())
}

fn shared_group_user(tx: &Tx, id: &Id<SecurityGroup>) -> Option<String> {
    let group = tx.get(id)?;
    let view = tx.view();
    let mut ports = tx.by_index::<Port>("security-group", id.as_str());
    ports.find(|p| !super::access::may_see_group(&view, p.meta.project.as_ref(), &group)).map(|p| format!("port {}", p.meta.id))
}

fn withdrawn_external(tx: &mut Tx, id: &Id<Network>, policy: &RbacPolicy) -> Result<Option<String>, Refusal> {
    let network = tx.require(id)?;
    let view = tx.view();
    let lost = |project: Option<&Id<Project>>| policy.target.covers(project) && !super::access::is_external_for(&view, &network, project);
    let user = tx.by_index::<Router>("external-network", id.as_str()).find(|r| lost(r.meta.project.as_ref()));
    let left = tx.by_index::<RbacPolicy>("object", id.as_str()).any(|p| p.action == RbacAction::AccessAsExternal);
    if user.is_none() && !left {
        mark_external(tx, id, false)?;
    }
    Ok(user.map(|router| format!("router {}", router.meta.id)))
}

pub(super) fn mark_external(tx: &mut Tx, id: &Id<Network>, external: bool) -> Result<(), Refusal> {
    tx.update(id, |network: &mut Network| {
        network.external = external;
        network.is_default &= external;
        Ok::<_, Refusal>(())
    })?;
    Ok(())
}
