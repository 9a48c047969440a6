//! `/floatingips`.

use std::sync::Arc;

use serde_json::{Value, json};
use unkai_model::Id;
use unkai_model::network::{FloatingIp, Network, Port, Router, Standard};
use unkai_openstack::CallerName;
use unkai_store::Tx;

use crate::Refusal;
use crate::fields::Fields;
use crate::networks::dns_domain;
use crate::object::Object;
use crate::port_bodies::dns_name;
use crate::ports;
use crate::query::Query;
use crate::resource::{Cx, Resource, owned, visible_in};
use crate::verbs::{self, FloatingRequest, TargetWish};

#[derive(Debug, Clone, Default)]
pub struct FloatingChange {
    description: Option<String>,
    /// Some(None): lead nowhere.
    target: Option<Option<TargetWish>>,
}

impl Resource for FloatingIp {
    const ONE: &'static str = "floatingip";
    const MANY: &'static str = "floatingips";
    const PATH: &'static str = "floatingips";
    const FIXED: &'static [&'static str] = &["router_id", "port_details"];
    const ONCE: &'static [&'static str] = &["floating_network_id", "floating_ip_address", "subnet_id", "dns_name", "dns_domain"];

    type New = FloatingRequest;
    type Change = FloatingChange;

    fn visible(&self, cx: &Cx) -> bool {
        cx.who.may_read(self.meta.project.as_ref())
    }

    fn candidates(cx: &Cx, query: &Query) -> Vec<Arc<Self>> {
        match (query.only("port_id"), query.only("router_id")) {
            (Some(port), _) if !port.is_empty() => cx.view.by_index("port", port).collect(),
            (_, Some(router)) if !router.is_empty() => cx.view.by_index("router", router).collect(),
            _ => owned(cx, query),
        }
    }

    fn render(&self, cx: &Cx, out: &mut Object) {
        let target = self.target.as_ref();
        out.put("id", || self.meta.id.as_str());
        out.owner(&self.meta);
        out.put("floating_network_id", || self.network.as_str());
        out.put("floating_ip_address", || self.address.to_string());
        out.put("router_id", || target.map(|t| t.router.as_str()));
        out.put("port_id", || target.map(|t| t.port.as_str()));
        out.put("fixed_ip_address", || target.map(|t| t.address.to_string()));
        out.put("status", || status(cx, self));
        out.put("port_details", || target.and_then(|t| cx.view.get(&t.port)).map_or(Value::Null, |p| details(cx, &p)));
        out.put("dns_name", || self.dns_name.as_str());
        out.put("dns_domain", || self.dns_domain.as_str());
        out.tail(&self.meta, &self.standard);
    }

    fn read_new(fields: &mut Fields, who: &CallerName) -> Result<FloatingRequest, Refusal> {
        let network = fields.uuid("floating_network_id")?;
        let network = fields.required("floating_network_id", network)?;
        let address = fields.address_or_null("floating_ip_address")?.flatten();
        if address.is_some() && !who.is_admin() {
            return Err(Refusal::policy("create_floatingip:floating_ip_address"));
        }
        Ok(FloatingRequest {
            project: Some(fields.owner(who)?),
            standard: Standard { description: fields.description()?.unwrap_or_default(), ..Standard::default() },
            network: Id::new(network),
            subnet: fields.uuid_or_null("subnet_id")?.flatten().map(Id::new),
            address,
            target: target(fields)?.flatten(),
            dns_name: dns_name(fields)?.unwrap_or_default(),
            dns_domain: dns_domain(fields)?.unwrap_or_default(),
        })
    }

    fn create(tx: &mut Tx, who: &CallerName, new: &FloatingRequest) -> Result<Id<Self>, Refusal> {
        visible_in::<Network>(tx, who, &new.network)?;
        check_target(tx, who, new.target.as_ref())?;
        Ok(verbs::create_floating_ip(tx, new)?.meta.id.clone())
    }

    fn read_change(fields: &mut Fields, _: &CallerName) -> Result<FloatingChange, Refusal> {
        Ok(FloatingChange { description: fields.description()?, target: target(fields)? })
    }

    fn change(tx: &mut Tx, who: &CallerName, id: &Id<Self>, change: &FloatingChange) -> Result<(), Refusal> {
        match &change.target {
            None => {}
            Some(None) => drop(verbs::dissociate(tx, id)?),
            Some(Some(wish)) => {
                check_target(tx, who, Some(wish))?;
                verbs::associate(tx, id, wish)?;
            }
        }
        if let Some(description) = change.description.clone() {
            tx.update(id, |floating: &mut FloatingIp| {
                floating.standard.description = description;
                Ok::<_, Refusal>(())
            })?;
        }
        Ok(())
    }

    fn remove(tx: &mut Tx, _: &CallerName, id: &Id<Self>) -> Result<(), Refusal> {
        verbs::delete_floating_ip(tx, id)
    }
}

/// Works when its router has a host.
fn status(cx: &Cx, floating: &FloatingIp) -> &'static str {
    let router = floating.target.as_ref().and_then(|t| cx.view.get::<Router>(&t.router));
    if router.is_some_and(|r| r.status.host.is_some()) { "ACTIVE" } else { "DOWN" }
}

fn details(cx: &Cx, port: &Port) -> Value {
    json!({
        "name": port.meta.name,
        "network_id": port.network.as_str(),
        "mac_address": port.mac.to_string(),
        "admin_state_up": port.admin_up,
        "status": ports::status(cx, port),
        "device_id": port.device_id,
        "device_owner": port.device_owner,
    })
}

fn target(fields: &mut Fields) -> Result<Option<Option<TargetWish>>, Refusal> {
    let port = fields.uuid_or_null("port_id")?;
    let address = fields.address_or_null("fixed_ip_address")?.flatten();
    match (port, address) {
        (Some(Some(port)), address) => Ok(Some(Some(TargetWish { port: Id::new(port), address }))),
        (_, Some(_)) => Err(Refusal::bad("BadRequest", "Bad floatingip request: fixed_ip_address cannot be specified without a port_id.")),
        (Some(None), None) => Ok(Some(None)),
        (None, None) => Ok(None),
    }
}

fn check_target(tx: &Tx, who: &CallerName, wish: Option<&TargetWish>) -> Result<(), Refusal> {
    wish.map_or(Ok(()), |wish| visible_in::<Port>(tx, who, &wish.port).map(|_| ()))
}
