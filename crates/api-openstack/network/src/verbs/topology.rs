//! The topology that a project gets without asking: a network with subnets from the default pools, behind a router to the default
//! external network.

use std::sync::Arc;

use unkai_model::identity::Project;
use unkai_model::network::{AutoAllocatedTopology, Network, Port, Standard, SubnetPool};
use unkai_model::{Id, Meta};
use unkai_store::Tx;

use super::network::{NetworkRequest, create_network, delete_network};
use super::router::{InterfaceWish, RouterRequest, add_interface, create_router, delete_router, interfaces, remove_interface};
use super::router_gateway::GatewayWish;
use super::subnet::{SubnetRequest, create_subnet};
use crate::Refusal;

const NAME: &str = "auto_allocated";

fn failure(reason: &str) -> Refusal {
    Refusal::conflict("AutoAllocationFailure", format!("Deployment error: {reason}."))
}

/// What the operator must have prepared: the external network and the pools.
pub fn check_topology(tx: &Tx) -> Result<(Id<Network>, Vec<Id<SubnetPool>>), Refusal> {
    let external = tx.holder("default-external-network", "the").ok_or_else(|| failure("No default router:external network"))?;
    let pools: Vec<_> = ["4", "6"].iter().filter_map(|family| tx.holder("default-subnet-pool", family)).collect();
    if pools.is_empty() { Err(failure("No default pools")) } else { Ok((external, pools)) }
}

/// The network of the project's topology, made now if there is none.
pub fn auto_allocated_topology(tx: &mut Tx, project: &Id<Project>) -> Result<Arc<AutoAllocatedTopology>, Refusal> {
    let id = project.of::<AutoAllocatedTopology>();
    if let Some(topology) = tx.get(&id) {
        return Ok(topology);
    }
    let (external, pools) = check_topology(tx)?;
    let owner = Some(project.clone());
    let network = create_network(tx, &NetworkRequest { name: format!("{NAME}_network"), ..NetworkRequest::new(owner.clone()) })?;
    let gateway = Some(GatewayWish { network: external, snat: None, fixed_ips: None });
    let router = create_router(
        tx,
        &RouterRequest {
            project: owner.clone(),
            name: format!("{NAME}_router"),
            standard: Standard::default(),
            admin_up: true,
            gateway,
            availability_zone_hints: Vec::new(),
        },
    )?;
    for pool in pools {
        let ip_version = tx.require(&pool)?.ip_version();
        let request = SubnetRequest::on(network.meta.id.clone(), owner.clone(), ip_version);
        let subnet = create_subnet(tx, &SubnetRequest { name: format!("{NAME}_subnet_v{ip_version}"), pool: Some(pool), ..request })?;
        add_interface(tx, &router.meta.id, &InterfaceWish::Subnet(subnet.meta.id.clone()))?;
    }
    let meta = Meta::new(id).owned_by(project.clone());
    Ok(tx.insert(AutoAllocatedTopology { meta, network: network.meta.id.clone(), router: router.meta.id.clone() })?)
}

/// Removes a project's topology, if it has one; refused while something uses it.
pub fn delete_topology(tx: &mut Tx, project: &Id<Project>) -> Result<(), Refusal> {
    let Some(topology) = tx.get(&project.of::<AutoAllocatedTopology>()) else { return Ok(()) };
    tx.delete(&topology.meta.id)?;
    let router = &topology.router;
    let ports: Vec<Arc<Port>> = interfaces(&tx.view(), router);
    for port in ports {
        remove_interface(tx, router, &InterfaceWish::Port(port.meta.id.clone()))?;
    }
    delete_router(tx, router)?;
    delete_network(tx, &topology.network)
}
