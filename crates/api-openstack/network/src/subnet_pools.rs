//! `/subnetpools`.

use std::sync::Arc;

use ipnet::IpNet;
use serde_json::{Value, json};
use unkai_model::identity::Project;
use unkai_model::network::{RbacAction, RbacObject, RbacPolicy, RbacTarget, Standard, SubnetPool};
use unkai_model::{Id, Meta};
use unkai_openstack::CallerName;
use unkai_store::Tx;

use crate::Refusal;
use crate::fields::{Fields, invalid, shown, to_prefix};
use crate::object::Object;
use crate::query::Query;
use crate::resource::{Cx, Resource, owned, unique};
use crate::verbs::{self, PoolRequest, RbacRequest};

#[derive(Debug, Clone)]
pub struct NewPool {
    project: Id<Project>,
    name: String,
    description: String,
    pool: PoolRequest,
    default_quota: Option<u64>,
    is_default: bool,
    shared: bool,
}

#[derive(Debug, Clone, Default)]
pub struct PoolChange {
    name: Option<String>,
    description: Option<String>,
    pool: PoolRequest,
    default_quota: Option<u64>,
    is_default: Option<bool>,
}

impl Resource for SubnetPool {
    const ONE: &'static str = "subnetpool";
    const MANY: &'static str = "subnetpools";
    const PATH: &'static str = "subnetpools";
    const FIXED: &'static [&'static str] = &["ip_version"];
    const ONCE: &'static [&'static str] = &["shared"];

    type New = NewPool;
    type Change = PoolChange;

    fn visible(&self, cx: &Cx) -> bool {
        cx.who.is_admin() || (cx.reads() && verbs::may_see_pool(cx.view, cx.who.project.as_ref(), self))
    }

    fn candidates(cx: &Cx, query: &Query) -> Vec<Arc<Self>> {
        let mut found: Vec<Arc<SubnetPool>> = owned(cx, query);
        let own = cx.who.project.as_ref().map_or("", |p| p.as_str());
        for policy in ["*", own].iter().flat_map(|target| cx.view.by_index::<RbacPolicy>("target", target)) {
            if let RbacObject::SubnetPool(id) = &policy.object {
                found.extend(cx.view.get(id));
            }
        }
        unique(found)
    }

    fn render(&self, cx: &Cx, out: &mut Object) {
        out.head(&self.meta);
        out.put("prefixes", || self.prefixes.iter().map(IpNet::to_string).collect::<Vec<_>>());
        out.put("default_prefixlen", || self.default_prefix_len);
        out.put("min_prefixlen", || self.min_prefix_len);
        out.put("max_prefixlen", || self.max_prefix_len);
        out.put("ip_version", || self.ip_version());
        out.put("default_quota", || json!(self.default_quota));
        out.put("is_default", || self.is_default);
        out.put("shared", || verbs::is_shared_with(cx.view, self.meta.id.as_str(), cx.who.project.as_ref()));
        out.tail(&self.meta, &self.standard);
    }

    fn read_new(fields: &mut Fields, who: &CallerName) -> Result<NewPool, Refusal> {
        for name in ["is_default", "shared"] {
            if !who.is_admin() && fields.given(name).is_some_and(|v| *v != json!(false)) {
                return Err(Refusal::policy(format!("create_subnetpool:{name}")));
            }
        }
        let project = fields.owner(who)?;
        let name = name(fields)?;
        let pool = pool(fields)?;
        if pool.prefixes.is_empty() && !fields.has("prefixes") {
            fields.required::<()>("prefixes", None)?;
        }
        fields.take("prefixes");
        Ok(NewPool {
            project,
            name: fields.required("name", name)?,
            description: fields.description()?.unwrap_or_default(),
            pool,
            default_quota: fields.number("default_quota")?,
            is_default: fields.flag("is_default")?.unwrap_or(false),
            shared: fields.flag("shared")?.unwrap_or(false),
        })
    }

    fn create(tx: &mut Tx, _: &CallerName, new: &NewPool) -> Result<Id<Self>, Refusal> {
        let (prefixes, min_prefix_len, max_prefix_len, default_prefix_len) = verbs::check_pool(&new.pool)?;
        verbs::hold_limit(tx, "subnetpool", Some(&new.project));
        let pool = tx.insert(SubnetPool {
            meta: Meta::new(tx.new_id()).named(&new.name).owned_by(new.project.clone()),
            standard: Standard { description: new.description.clone(), ..Standard::default() },
            prefixes,
            default_prefix_len,
            min_prefix_len,
            max_prefix_len,
            default_quota: new.default_quota,
            is_default: new.is_default,
        })?;
        if new.shared {
            let object = RbacObject::SubnetPool(pool.meta.id.clone());
            let project = Some(new.project.clone());
            let request = RbacRequest { project, object, action: RbacAction::AccessAsShared, target: RbacTarget::Everybody };
            verbs::create_rbac_policy(tx, &request)?;
        }
        Ok(pool.meta.id.clone())
    }

    fn read_change(fields: &mut Fields, who: &CallerName) -> Result<PoolChange, Refusal> {
        if !who.is_admin() && fields.has("is_default") {
            return Err(Refusal::policy("update_subnetpool:is_default"));
        }
        let pool = pool(fields)?;
        fields.take("prefixes");
        Ok(PoolChange {
            name: name(fields)?,
            description: fields.description()?,
            pool,
            default_quota: fields.number("default_quota")?,
            is_default: fields.flag("is_default")?,
        })
    }

    fn change(tx: &mut Tx, _: &CallerName, id: &Id<Self>, change: &PoolChange) -> Result<(), Refusal> {
        let pool = tx.require(id)?;
        let wanted = PoolRequest {
            prefixes: if change.pool.prefixes.is_empty() { pool.prefixes.clone() } else { change.pool.prefixes.clone() },
            default_prefix_len: change.pool.default_prefix_len.or(Some(pool.default_prefix_len)),
            min_prefix_len: change.pool.min_prefix_len.or(Some(pool.min_prefix_len)),
            max_prefix_len: change.pool.max_prefix_len.or(Some(pool.max_prefix_len)),
        };
        let (prefixes, min, max, default) = verbs::check_pool(&wanted)?;
        if let Some(lost) = pool.prefixes.iter().find(|old| !prefixes.iter().any(|new| new.contains(*old))) {
            let text = format!("Illegal update to prefixes: Existing prefixes must be a subset of the new prefixes: {lost}.");
            return Err(Refusal::bad("IllegalSubnetPoolPrefixUpdate", text));
        }
        let change = change.clone();
        tx.update(id, |pool: &mut SubnetPool| {
            (pool.prefixes, pool.min_prefix_len, pool.max_prefix_len, pool.default_prefix_len) = (prefixes, min, max, default);
            pool.meta.name = change.name.unwrap_or_else(|| pool.meta.name.clone());
            pool.standard.description = change.description.unwrap_or_else(|| pool.standard.description.clone());
            pool.default_quota = change.default_quota.or(pool.default_quota);
            pool.is_default = change.is_default.unwrap_or(pool.is_default);
            Ok::<_, Refusal>(())
        })?;
        Ok(())
    }

    fn remove(tx: &mut Tx, _: &CallerName, id: &Id<Self>) -> Result<(), Refusal> {
        if tx.by_index::<unkai_model::network::Subnet>("subnet-pool", id.as_str()).next().is_some() {
            let text = "Unable to delete subnet pool: Subnet pool has existing allocations.";
            return Err(Refusal::bad("SubnetPoolDeleteError", text));
        }
        verbs::delete_policies_of(tx, id.as_str())?;
        tx.delete(id)?;
        Ok(())
    }
}

fn name(fields: &mut Fields) -> Result<Option<String>, Refusal> {
    match fields.name()? {
        Some(name) if name.trim().is_empty() => Err(invalid("name", format!("'{name}' Blank strings are not permitted"))),
        name => Ok(name),
    }
}

fn pool(fields: &mut Fields) -> Result<PoolRequest, Refusal> {
    let prefixes = match fields.given("prefixes").cloned() {
        None => Vec::new(),
        Some(Value::Array(items)) => items.iter().map(prefix).collect::<Result<_, _>>()?,
        // One prefix may stand alone.
        Some(one @ Value::String(_)) => vec![prefix(&one)?],
        Some(other) => return Err(invalid("prefixes", format!("'{}' is not a list", shown(&other)))),
    };
    let mut length = |name: &str| Ok::<_, Refusal>(fields.number(name)?.map(|n| u8::try_from(n).unwrap_or(u8::MAX)));
    Ok(PoolRequest {
        prefixes,
        default_prefix_len: length("default_prefixlen")?,
        min_prefix_len: length("min_prefixlen")?,
        max_prefix_len: length("max_prefixlen")?,
    })
}

fn prefix(value: &Value) -> Result<IpNet, Refusal> {
    let prefix = value.as_str().and_then(to_prefix);
    prefix.ok_or_else(|| invalid("prefixes", format!("'{}' is not a valid IP subnet", shown(value))))
}
