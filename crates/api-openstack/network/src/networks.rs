//! `/networks`.

use std::sync::Arc;

use serde_json::json;
use unkai_model::Id;
use unkai_model::network::{Network, RbacObject, RbacPolicy, Segment, Subnet};
use unkai_openstack::CallerName;
use unkai_store::Tx;

use crate::Refusal;
use crate::fields::{Fields, invalid};
use crate::object::Object;
use crate::query::Query;
use crate::resource::{Cx, Resource, owned, unique};
use crate::verbs::{self, NetworkRequest, SegmentWish};
use crate::zones::{self, Zone};

/// Attributes that only administrators may set.
const ADMIN_ONLY: [&str; 6] =
    ["shared", "router:external", "is_default", "provider:network_type", "provider:physical_network", "provider:segmentation_id"];

/// What may be changed; none: stays.
#[derive(Debug, Clone, Default)]
pub struct NetworkChange {
    name: Option<String>,
    description: Option<String>,
    admin_up: Option<bool>,
    shared: Option<bool>,
    external: Option<bool>,
    is_default: Option<bool>,
    port_security: Option<bool>,
    mtu: Option<u64>,
    dns_domain: Option<String>,
}

impl Resource for Network {
    const ONE: &'static str = "network";
    const MANY: &'static str = "networks";
    const PATH: &'static str = "networks";
    const FIXED: &'static [&'static str] = &["subnets", "availability_zones"];
    const ONCE: &'static [&'static str] =
        &["availability_zone_hints", "provider:network_type", "provider:physical_network", "provider:segmentation_id"];

    type New = NetworkRequest;
    type Change = NetworkChange;

    fn visible(&self, cx: &Cx) -> bool {
        cx.who.is_admin() || (cx.reads() && verbs::may_see_network(cx.view, cx.who.project.as_ref(), self))
    }

    fn candidates(cx: &Cx, query: &Query) -> Vec<Arc<Self>> {
        if cx.who.is_admin() {
            return owned(cx, query);
        }
        let mut found: Vec<Arc<Network>> = owned(cx, query);
        let own = cx.who.project.as_ref().map_or("", |p| p.as_str());
        for policy in ["*", own].iter().flat_map(|target| cx.view.by_index::<RbacPolicy>("target", target)) {
            if let RbacObject::Network(id) = &policy.object {
                found.extend(cx.view.get(id));
            }
        }
        unique(found)
    }

    fn render(&self, cx: &Cx, out: &mut Object) {
        out.head(&self.meta);
        out.put("admin_state_up", || self.admin_up);
        out.put("status", || "ACTIVE");
        out.put("shared", || verbs::is_shared_with(cx.view, self.meta.id.as_str(), cx.who.project.as_ref()));
        out.put("subnets", || {
            cx.view.by_index::<Subnet>("network", self.meta.id.as_str()).map(|s| s.meta.id.to_string()).collect::<Vec<_>>()
        });
        out.put("mtu", || self.mtu);
        out.put("port_security_enabled", || self.port_security);
        out.put("router:external", || self.external);
        if self.external {
            out.put("is_default", || self.is_default);
        }
        out.put("dns_domain", || self.dns_domain.as_str());
        out.put("availability_zone_hints", || self.availability_zone_hints.clone());
        out.put("availability_zones", || zones::names(cx.view, Zone::Network));
        if cx.who.is_admin() {
            provider(&self.segment, out);
        }
        out.tail(&self.meta, &self.standard);
    }

    fn read_new(fields: &mut Fields, who: &CallerName) -> Result<NetworkRequest, Refusal> {
        if let Some(name) = ADMIN_ONLY.iter().find(|name| !who.is_admin() && sets(fields, name)) {
            return Err(Refusal::policy(format!("create_network:{name}")));
        }
        let mut request = NetworkRequest::new(Some(fields.owner(who)?));
        let default = request.clone();
        request.name = fields.name()?.unwrap_or_default();
        request.standard.description = fields.description()?.unwrap_or_default();
        request.admin_up = fields.flag("admin_state_up")?.unwrap_or(default.admin_up);
        request.shared = fields.flag("shared")?.unwrap_or(false);
        request.external = fields.flag("router:external")?.unwrap_or(false);
        request.is_default = fields.flag("is_default")?.unwrap_or(false);
        request.port_security = fields.flag("port_security_enabled")?.unwrap_or(default.port_security);
        request.mtu = fields.number("mtu")?.map(to_mtu).transpose()?;
        request.dns_domain = dns_domain(fields)?.unwrap_or_default();
        request.availability_zone_hints = fields.strings("availability_zone_hints")?.unwrap_or_default();
        request.segment = segment(fields)?;
        Ok(request)
    }

    fn create(tx: &mut Tx, _: &CallerName, new: &NetworkRequest) -> Result<Id<Self>, Refusal> {
        zones::check_hints(&tx.view(), Zone::Network, &new.availability_zone_hints)?;
        Ok(verbs::create_network(tx, new)?.meta.id.clone())
    }

    fn read_change(fields: &mut Fields, who: &CallerName) -> Result<NetworkChange, Refusal> {
        if let Some(name) = ADMIN_ONLY.iter().find(|name| !who.is_admin() && fields.has(name)) {
            return Err(Refusal::policy(format!("update_network:{name}")));
        }
        Ok(NetworkChange {
            name: fields.name()?,
            description: fields.description()?,
            admin_up: fields.flag("admin_state_up")?,
            shared: fields.flag("shared")?,
            external: fields.flag("router:external")?,
            is_default: fields.flag("is_default")?,
            port_security: fields.flag("port_security_enabled")?,
            mtu: fields.number("mtu")?,
            dns_domain: dns_domain(fields)?,
        })
    }

    fn change(tx: &mut Tx, _: &CallerName, id: &Id<Self>, change: &NetworkChange) -> Result<(), Refusal> {
        if let Some(external) = change.external {
            verbs::set_external(tx, id, external)?;
        }
        if let Some(shared) = change.shared {
            verbs::set_shared(tx, id, shared)?;
        }
        let change = change.clone();
        tx.update(id, |network: &mut Network| {
            verbs::change_segment(network, change.mtu.map(to_mtu).transpose()?)?;
            network.meta.name = change.name.unwrap_or_else(|| network.meta.name.clone());
            network.standard.description = change.description.unwrap_or_else(|| network.standard.description.clone());
            network.dns_domain = change.dns_domain.unwrap_or_else(|| network.dns_domain.clone());
            network.admin_up = change.admin_up.unwrap_or(network.admin_up);
            network.is_default = change.is_default.unwrap_or(network.is_default) && network.external;
            network.port_security = change.port_security.unwrap_or(network.port_security);
            network.meta.generation += 1;
            Ok::<_, Refusal>(())
        })?;
        Ok(())
    }

    fn remove(tx: &mut Tx, _: &CallerName, id: &Id<Self>) -> Result<(), Refusal> {
        verbs::delete_network(tx, id)
    }
}

/// Gives it a value that is not what everybody gets.
fn sets(fields: &Fields, name: &str) -> bool {
    fields.given(name).is_some_and(|value| *value != json!(false) && !value.is_null())
}

fn to_mtu(number: u64) -> Result<u32, Refusal> {
    u32::try_from(number).map_err(|_| invalid("mtu", format!("'{number}' is too large")))
}

/// A domain as DNS has it: labels of letters, digits and dashes.
pub fn dns_domain(fields: &mut Fields) -> Result<Option<String>, Refusal> {
    let Some(domain) = fields.string("dns_domain", 255)? else { return Ok(None) };
    let label = |l: &str| !l.is_empty() && l.len() <= 63 && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let trimmed = domain.strip_suffix('.').unwrap_or(&domain);
    if domain.is_empty() || trimmed.split('.').all(label) {
        return Ok(Some(domain));
    }
    Err(invalid("dns_domain", format!("'{domain}' not a valid PQDN or FQDN. Reason: it has a label that is not valid")))
}

fn segment(fields: &mut Fields) -> Result<SegmentWish, Refusal> {
    let kind = fields.string("provider:network_type", 32)?;
    let physical = fields.string("provider:physical_network", 64)?;
    let number = fields.number("provider:segmentation_id")?;
    match (kind.as_deref(), physical, number) {
        (None, None, None) | (Some("vxlan"), None, None) => Ok(SegmentWish::Any),
        (Some("vxlan"), None, Some(vni @ 1..=0xff_ffff)) => Ok(SegmentWish::Exactly(Segment::Vxlan { vni: vni as u32 })),
        (Some("vxlan"), None, Some(vni)) => Err(Refusal::input(format!("segmentation_id {vni} is out of range (1 through 16777215)"))),
        (Some("vxlan"), Some(_), _) => Err(Refusal::input("provider:physical_network specified for vxlan network")),
        (Some("flat"), Some(physical), None) => Ok(SegmentWish::Exactly(Segment::Flat { physical })),
        (Some("flat"), Some(_), Some(_)) => Err(Refusal::input("segmentation_id prohibited for flat provider network")),
        (Some("flat"), None, _) => Err(Refusal::input("physical_network required for flat provider network")),
        (None, ..) => Err(Refusal::input("network_type required")),
        (Some(other), ..) => Err(Refusal::input(format!("network_type value '{other}' not supported"))),
    }
}

fn provider(segment: &Segment, out: &mut Object) {
    match segment {
        Segment::Vxlan { vni } => {
            out.put("provider:network_type", || "vxlan");
            out.put("provider:physical_network", || json!(null));
            out.put("provider:segmentation_id", || *vni);
        }
        Segment::Flat { physical } => {
            out.put("provider:network_type", || "flat");
            out.put("provider:physical_network", || physical.as_str());
            out.put("provider:segmentation_id", || json!(null));
        }
    }
}
