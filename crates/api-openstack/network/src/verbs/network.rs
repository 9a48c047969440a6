//! Networks: made with their segment, removed with everything that only serves them.

use std::sync::Arc;

use unkai_model::identity::Project;
use unkai_model::network::{
    AutoAllocatedTopology, FloatingIp, Network, Port, RbacAction, RbacObject, RbacPolicy, RbacTarget, Router, Segment, Standard, Subnet,
    owner,
};
use unkai_model::{Id, Kind, Meta};
use unkai_store::Tx;

use super::{allocate, limits, rbac};
use crate::Refusal;
use crate::refusal::network_in_use;

/// What the underlay carries.
const UNDERLAY_MTU: u32 = 1500;
/// Ethernet, IP, UDP and VXLAN headers.
const VXLAN_OVERHEAD: u32 = 50;
/// The least that IPv4 needs.
const LEAST_MTU: u32 = 68;

#[derive(Debug, Clone)]
pub struct NetworkRequest {
    pub project: Option<Id<Project>>,
    pub name: String,
    pub standard: Standard,
    pub admin_up: bool,
    /// None: as large as the segment allows.
    pub mtu: Option<u32>,
    pub segment: SegmentWish,
    pub shared: bool,
    pub external: bool,
    pub is_default: bool,
    pub port_security: bool,
    pub dns_domain: String,
    pub availability_zone_hints: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SegmentWish {
    /// A VXLAN network with any free VNI.
    Any,
    Exactly(Segment),
}

impl NetworkRequest {
    pub fn new(project: Option<Id<Project>>) -> Self {
        NetworkRequest {
            project,
            name: String::new(),
            standard: Standard::default(),
            admin_up: true,
            mtu: None,
            segment: SegmentWish::Any,
            shared: false,
            external: false,
            is_default: false,
            port_security: true,
            dns_domain: String::new(),
            availability_zone_hints: Vec::new(),
        }
    }
}

pub fn create_network(tx: &mut Tx, request: &NetworkRequest) -> Result<Arc<Network>, Refusal> {
    limits::hold(tx, "network", request.project.as_ref());
    let segment = match &request.segment {
        SegmentWish::Any => Segment::Vxlan { vni: allocate::free_vni(tx)? },
        SegmentWish::Exactly(segment) => segment.clone(),
    };
    let mtu = choose_mtu(&segment, request.mtu)?;
    let mut meta = Meta::new(tx.new_id()).named(&request.name);
    meta.project = request.project.clone();
    let network = tx.insert(Network {
        meta,
        standard: request.standard.clone(),
        admin_up: request.admin_up,
        mtu,
        segment,
        external: request.external,
        is_default: request.is_default,
        port_security: request.port_security,
        dns_domain: request.dns_domain.clone(),
        availability_zone_hints: request.availability_zone_hints.clone(),
    })?;
    if request.shared {
        set_shared(tx, &network.meta.id, true)?;
    }
    if request.external {
        for_everybody(tx, &network, RbacAction::AccessAsExternal)?;
    }
    Ok(network)
}

pub fn choose_mtu(segment: &Segment, wished: Option<u32>) -> Result<u32, Refusal> {
    let most = match segment {
        Segment::Vxlan { .. } => UNDERLAY_MTU - VXLAN_OVERHEAD,
        Segment::Flat { .. } => UNDERLAY_MTU,
    };
    match wished {
        None | Some(0) => Ok(most),
        Some(mtu) if mtu < LEAST_MTU => Err(Refusal::input(format!("Requested MTU is too small, minimum is {LEAST_MTU}"))),
        Some(mtu) if mtu > most => Err(Refusal::input(format!("Requested MTU is too big, maximum is {most}"))),
        Some(mtu) => Ok(mtu),
    }
}

/// Changes how much one frame may carry, within what the segment allows.
pub fn change_segment(network: &mut Network, mtu: Option<u32>) -> Result<(), Refusal> {
    if mtu.is_some() {
        network.mtu = choose_mtu(&network.segment, mtu)?;
    }
    Ok(())
}

fn for_everybody(tx: &mut Tx, network: &Network, action: RbacAction) -> Result<(), Refusal> {
    let object = RbacObject::Network(network.meta.id.clone());
    rbac::insert(tx, &rbac::RbacRequest { project: network.meta.project.clone(), object, action, target: RbacTarget::Everybody })?;
    Ok(())
}

fn policy_for_everybody(tx: &Tx, id: &Id<Network>, action: RbacAction) -> Option<Id<RbacPolicy>> {
    let mut policies = tx.by_index::<RbacPolicy>("object", id.as_str());
    policies.find(|p| p.action == action && p.target == RbacTarget::Everybody).map(|p| p.meta.id.clone())
}

/// Shares a network with everybody, or no longer.
pub fn set_shared(tx: &mut Tx, id: &Id<Network>, shared: bool) -> Result<(), Refusal> {
    match (policy_for_everybody(tx, id, RbacAction::AccessAsShared), shared) {
        (None, true) => {
            let network = tx.require(id)?;
            for_everybody(tx, &network, RbacAction::AccessAsShared)
        }
        (Some(policy), false) => {
            tx.delete(&policy)?;
            if rbac::shared_network_user(tx, id)?.is_some() {
                let text = format!("Unable to reconfigure sharing settings for network {id}. Multiple projects are using it.");
                return Err(Refusal::conflict("InvalidSharedSetting", text));
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Makes a network external for everybody, or not external at all.
pub fn set_external(tx: &mut Tx, id: &Id<Network>, external: bool) -> Result<(), Refusal> {
    let network = tx.require(id)?;
    if network.external == external {
        return Ok(());
    }
    if external {
        rbac::mark_external(tx, id, true)?;
        return for_everybody(tx, &network, RbacAction::AccessAsExternal);
    }
    if tx.by_index::<Router>("external-network", id.as_str()).next().is_some() {
        let text = format!("External network {id} cannot be updated to be made non-external, since it has existing gateway ports.");
        return Err(Refusal::conflict("ExternalNetworkInUse", text));
    }
    let policies: Vec<_> = tx.by_index::<RbacPolicy>("object", id.as_str()).filter(|p| p.action == RbacAction::AccessAsExternal).collect();
    for policy in policies {
        tx.delete(&policy.meta.id)?;
    }
    rbac::mark_external(tx, id, false)
}

/// Deletes a network with its subnets, its DHCP port, its policies and the floating IPs from it that lead nowhere. Any other port on it
/// is a refusal.
pub fn delete_network(tx: &mut Tx, id: &Id<Network>) -> Result<(), Refusal> {
    tx.require(id)?;
    if tx.by_index::<AutoAllocatedTopology>("network", id.as_str()).next().is_some() {
        let text = format!("Unable to complete operation on network {id}. It is part of an auto-allocated topology.");
        return Err(Refusal::conflict("NetworkInUse", text));
    }
    let idle: Vec<_> = tx.by_index::<FloatingIp>("network", id.as_str()).filter(|f| f.target.is_none()).collect();
    for floating in idle {
        super::floating_ip::delete_floating_ip(tx, &floating.meta.id)?;
    }
    let ports: Vec<_> = tx.by_index::<Port>("network", id.as_str()).collect();
    if ports.iter().any(|port| port.device_owner != owner::DHCP) {
        return Err(network_in_use(id.as_str()));
    }
    for port in ports {
        super::port::delete_port(tx, &port.meta.id)?;
    }
    let subnets: Vec<_> = tx.by_index::<Subnet>("network", id.as_str()).map(|s| s.meta.id.clone()).collect();
    for subnet in subnets {
        tx.delete(&subnet)?;
    }
    rbac::delete_all_of(tx, id.as_str())?;
    tx.delete(id)?;
    Ok(())
}

/// The network, if this project may put something there; otherwise it does not exist for it.
pub(super) fn usable(tx: &Tx, id: &Id<Network>, project: Option<&Id<Project>>) -> Result<Arc<Network>, Refusal> {
    let network = tx.get(id).filter(|network| project.is_none() || super::access::may_see_network(&tx.view(), project, network));
    network.ok_or_else(|| Refusal::not_found(Network::NOUN, id.as_str()))
}
