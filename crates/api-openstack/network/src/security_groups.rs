//! `/security-groups`. A project's default group appears with the first look at its groups.

use std::sync::Arc;

use serde_json::Value;
use unkai_model::Id;
use unkai_model::identity::Project;
use unkai_model::network::{RbacObject, RbacPolicy, SecurityGroup, SecurityGroupRule, Standard};
use unkai_openstack::{CallerName, Cloud};
use unkai_store::Tx;

use crate::Refusal;
use crate::fields::{Fields, invalid};
use crate::object::Object;
use crate::query::Query;
use crate::resource::{Cx, Resource, owned, unique};
use crate::verbs;

#[derive(Debug, Clone)]
pub struct NewGroup {
    project: Id<Project>,
    name: String,
    standard: Standard,
    stateful: bool,
}

#[derive(Debug, Clone, Default)]
pub struct GroupChange {
    name: Option<String>,
    description: Option<String>,
    stateful: Option<bool>,
}

impl Resource for SecurityGroup {
    const ONE: &'static str = "security_group";
    const MANY: &'static str = "security_groups";
    const PATH: &'static str = "security-groups";
    const FIXED: &'static [&'static str] = &["security_group_rules", "shared"];

    const WITH_DEFAULT_GROUP: bool = true;

    type New = NewGroup;
    type Change = GroupChange;

    fn visible(&self, cx: &Cx) -> bool {
        cx.who.is_admin() || (cx.reads() && verbs::may_see_group(cx.view, cx.who.project.as_ref(), self))
    }

    fn candidates(cx: &Cx, query: &Query) -> Vec<Arc<Self>> {
        let mut found: Vec<Arc<SecurityGroup>> = owned(cx, query);
        let own = cx.who.project.as_ref().map_or("", |p| p.as_str());
        for policy in ["*", own].iter().flat_map(|target| cx.view.by_index::<RbacPolicy>("target", target)) {
            if let RbacObject::SecurityGroup(id) = &policy.object {
                found.extend(cx.view.get(id));
            }
        }
        unique(found)
    }

    fn render(&self, cx: &Cx, out: &mut Object) {
        out.head(&self.meta);
        out.put("stateful", || self.stateful);
        out.put("shared", || verbs::is_shared_with(cx.view, self.meta.id.as_str(), cx.who.project.as_ref()));
        out.put("security_group_rules", || {
            let shown = |rule: Arc<SecurityGroupRule>| {
                let mut object = Object::of(None);
                rule.render(cx, &mut object);
                object.into_value()
            };
            cx.view.by_index::<SecurityGroupRule>("group", self.meta.id.as_str()).map(shown).collect::<Vec<Value>>()
        });
        out.tail(&self.meta, &self.standard);
    }

    fn read_new(fields: &mut Fields, who: &CallerName) -> Result<NewGroup, Refusal> {
        let project = fields.owner(who)?;
        Ok(NewGroup {
            project,
            name: name(fields)?.unwrap_or_default(),
            standard: Standard { description: fields.description()?.unwrap_or_default(), ..Standard::default() },
            stateful: fields.flag("stateful")?.unwrap_or(true),
        })
    }

    fn create(tx: &mut Tx, _: &CallerName, new: &NewGroup) -> Result<Id<Self>, Refusal> {
        if new.name == "default" {
            return Err(Refusal::conflict("SecurityGroupDefaultAlreadyExists", "Default security group already exists."));
        }
        let group = verbs::create_security_group(tx, &new.project, &new.name, &new.standard, new.stateful)?;
        Ok(group.meta.id.clone())
    }

    fn read_change(fields: &mut Fields, _: &CallerName) -> Result<GroupChange, Refusal> {
        Ok(GroupChange { name: name(fields)?, description: fields.description()?, stateful: fields.flag("stateful")? })
    }

    fn change(tx: &mut Tx, _: &CallerName, id: &Id<Self>, change: &GroupChange) -> Result<(), Refusal> {
        let group = tx.require(id)?;
        if group.is_default && change.name.as_ref().is_some_and(|name| *name != group.meta.name) {
            return Err(Refusal::conflict("SecurityGroupCannotUpdateDefault", "Updating default security group not allowed."));
        }
        if !group.is_default && change.name.as_deref() == Some("default") {
            return Err(Refusal::conflict("SecurityGroupDefaultAlreadyExists", "Default security group already exists."));
        }
        if change.stateful.is_some_and(|s| s != group.stateful)
            && tx.by_index::<unkai_model::network::Port>("security-group", id.as_str()).next().is_some()
        {
            return Err(Refusal::conflict("SecurityGroupInUse", format!("Security Group {id} in use.")));
        }
        let change = change.clone();
        tx.update(id, |group: &mut SecurityGroup| {
            group.meta.name = change.name.unwrap_or_else(|| group.meta.name.clone());
            group.standard.description = change.description.unwrap_or_else(|| group.standard.description.clone());
            group.stateful = change.stateful.unwrap_or(group.stateful);
            group.meta.generation += 1;
            Ok::<_, Refusal>(())
        })?;
        Ok(())
    }

    fn remove(tx: &mut Tx, who: &CallerName, id: &Id<Self>) -> Result<(), Refusal> {
        if tx.require(id)?.is_default && !who.is_admin() {
            return Err(Refusal::conflict("SecurityGroupCannotRemoveDefault", "Insufficient rights for removing default security group."));
        }
        verbs::delete_security_group(tx, id)
    }
}

fn name(fields: &mut Fields) -> Result<Option<String>, Refusal> {
    match fields.name()? {
        Some(name) if name.contains('\n') => Err(invalid("name", format!("'{name}' is not a valid string"))),
        name => Ok(name),
    }
}

/// Before reads of groups and rules: makes the caller's default group if it is not there yet.
pub async fn ensure_default(cloud: &Cloud, who: &CallerName) -> Result<(), Refusal> {
    let Some(project) = who.project.clone() else { return Ok(()) };
    let present = cloud.store.read().await?.holder::<SecurityGroup>(SecurityGroup::DEFAULT, project.as_str());
    if present.is_none() {
        cloud.store.transact(move |tx| verbs::default_security_group(tx, &project)).await?;
    }
    Ok(())
}
