//! `/rbac-policies`.

use std::sync::Arc;

use unkai_model::Id;
use unkai_model::network::{Network, RbacAction, RbacObject, RbacPolicy, RbacTarget, SecurityGroup, SubnetPool};
use unkai_openstack::CallerName;
use unkai_store::Tx;

use crate::Refusal;
use crate::fields::Fields;
use crate::object::Object;
use crate::query::Query;
use crate::resource::{Cx, Resource, owned, visible_in};
use crate::verbs::{self, RbacRequest};

impl Resource for RbacPolicy {
    const ONE: &'static str = "rbac_policy";
    const MANY: &'static str = "rbac_policies";
    const PATH: &'static str = "rbac-policies";
    const ONCE: &'static [&'static str] = &["object_type", "object_id", "action"];

    type New = RbacRequest;
    type Change = Option<RbacTarget>;

    fn visible(&self, cx: &Cx) -> bool {
        cx.who.may_read(self.meta.project.as_ref())
    }

    fn candidates(cx: &Cx, query: &Query) -> Vec<Arc<Self>> {
        match query.only("object_id") {
            Some(object) => cx.view.by_index("object", object).collect(),
            None => owned(cx, query),
        }
    }

    fn render(&self, _: &Cx, out: &mut Object) {
        out.put("id", || self.meta.id.as_str());
        out.owner(&self.meta);
        out.put("object_type", || self.object.kind());
        out.put("object_id", || self.object.id());
        out.put("action", || self.action.text());
        out.put("target_tenant", || self.target.text());
    }

    fn read_new(fields: &mut Fields, who: &CallerName) -> Result<RbacRequest, Refusal> {
        let kind = fields.string("object_type", 255)?;
        let kind = fields.required("object_type", kind)?;
        let id = fields.uuid("object_id")?;
        let id = fields.required("object_id", id)?;
        let object = match kind.as_str() {
            "network" => RbacObject::Network(Id::new(id)),
            "security_group" => RbacObject::SecurityGroup(Id::new(id)),
            "subnetpool" => RbacObject::SubnetPool(Id::new(id)),
            other => {
                let text = format!("Invalid object type: {other}. Valid types are: network, security_group, subnetpool");
                return Err(Refusal::bad("InvalidInput", text));
            }
        };
        let action = fields.string("action", 255)?;
        let action = fields.required("action", action)?;
        let action = match (action.as_str(), &object) {
            ("access_as_shared", _) => RbacAction::AccessAsShared,
            ("access_as_external", RbacObject::Network(_)) => RbacAction::AccessAsExternal,
            (other, _) => return Err(Refusal::bad("InvalidInput", format!("Invalid action '{other}' for object type '{kind}'."))),
        };
        let target = fields.string("target_tenant", 255)?;
        let target = RbacTarget::parse(&fields.required("target_tenant", target)?);
        check_target("create_rbac_policy", who, action, &target)?;
        Ok(RbacRequest { project: Some(fields.owner(who)?), object, action, target })
    }

    fn create(tx: &mut Tx, who: &CallerName, new: &RbacRequest) -> Result<Id<Self>, Refusal> {
        let owner = match &new.object {
            RbacObject::Network(id) => visible_in::<Network>(tx, who, id)?.meta.project.clone(),
            RbacObject::SecurityGroup(id) => visible_in::<SecurityGroup>(tx, who, id)?.meta.project.clone(),
            RbacObject::SubnetPool(id) => visible_in::<SubnetPool>(tx, who, id)?.meta.project.clone(),
        };
        if !who.may_write(owner.as_ref()) {
            return Err(Refusal::policy("create_rbac_policy"));
        }
        Ok(verbs::create_rbac_policy(tx, new)?.meta.id.clone())
    }

    fn read_change(fields: &mut Fields, who: &CallerName) -> Result<Option<RbacTarget>, Refusal> {
        let target = fields.string("target_tenant", 255)?.map(|t| RbacTarget::parse(&t));
        if let Some(target) = &target {
            check_target("update_rbac_policy", who, RbacAction::AccessAsShared, target)?;
        }
        Ok(target)
    }

    /// Another target is another policy with the same id: made only if nobody depends on the old one.
    fn change(tx: &mut Tx, _: &CallerName, id: &Id<Self>, target: &Option<RbacTarget>) -> Result<(), Refusal> {
        let Some(target) = target else { return Ok(()) };
        let old = tx.require(id)?;
        if old.target == *target {
            return Ok(());
        }
        let mut changed = RbacPolicy::clone(&old);
        changed.target = target.clone();
        changed.meta.id = tx.new_id();
        let probe = tx.insert(changed)?.meta.id.clone();
        verbs::delete_rbac_policy(tx, id)?;
        tx.delete(&probe)?;
        tx.insert(RbacPolicy { target: target.clone(), ..RbacPolicy::clone(&old) })?;
        Ok(())
    }

    fn remove(tx: &mut Tx, _: &CallerName, id: &Id<Self>) -> Result<(), Refusal> {
        verbs::delete_rbac_policy(tx, id)
    }
}

/// Sharing with everybody, and making external, is for administrators.
fn check_target(action: &str, who: &CallerName, access: RbacAction, target: &RbacTarget) -> Result<(), Refusal> {
    if who.is_admin() || (access == RbacAction::AccessAsShared && *target != RbacTarget::Everybody) {
        return Ok(());
    }
    Err(Refusal::policy(format!("{action}:target_tenant")))
}
