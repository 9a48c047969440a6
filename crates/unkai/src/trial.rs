//! The one-machine cloud: an external network that ends at this machine, and the agent in the controller's process.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use ipnet::{IpNet, Ipv4Net};
use rustls::pki_types::CertificateDer;
use unkai_host::{Agent, AgentConfig, Dial, External, Membership};
use unkai_link::ca::{Authority, Identity};
use unkai_link::item::HostId;
use unkai_link::tls;
use unkai_model::identity::Project;
use unkai_model::network::{Network, Segment, Standard, SubnetPool};
use unkai_model::{Error, Meta};
use unkai_network::{Refusal, verbs};
use unkai_sim::storage::Storage;
use unkai_sim::{host, wire};
use unkai_store::{Store, Tx};

use crate::cli::UpArgs;
use crate::controller::Running;
use crate::state::StateDir;
use crate::storage;

/// Name of the external network, and of the physical network behind it.
pub const EXTERNAL: &str = "public";

/// Makes the external network the first time. Afterwards it belongs to the operators.
pub async fn external_network(store: &Store, cidr: &str) -> Result<()> {
    let cidr = parse(cidr)?;
    let made = store.transact(move |tx| {
        let present = tx.by_index::<Network>("external", "yes").next().is_some();
        if present { Ok(()) } else { make_external(tx, cidr) }
    });
    made.await.map_err(|refusal: Refusal| anyhow::anyhow!("making the external network: {refusal}"))
}

fn make_external(tx: &mut Tx, cidr: IpNet) -> Result<(), Refusal> {
    // The network belongs to the administrator's project, as if made by hand.
    let project = tx.all::<Project>().find(|project| project.meta.name == "admin").map(|project| project.meta.id.clone());
    let network = verbs::create_network(
        tx,
        &verbs::NetworkRequest {
            name: EXTERNAL.into(),
            external: true,
            is_default: true,
            segment: verbs::SegmentWish::Exactly(Segment::Flat { physical: EXTERNAL.into() }),
            ..verbs::NetworkRequest::new(project.clone())
        },
    )?;
    verbs::create_subnet(
        tx,
        &verbs::SubnetRequest {
            name: format!("{EXTERNAL}-subnet"),
            cidr: Some(cidr),
            enable_dhcp: false,
            ..verbs::SubnetRequest::on(network.meta.id.clone(), project.clone(), if cidr.addr().is_ipv4() { 4 } else { 6 })
        },
    )?;
    // From here "give me a network" takes the subnet of an automatic topology.
    let shared = Standard { description: "For automatic topologies".into(), ..Standard::default() };
    tx.insert(SubnetPool {
        meta: Meta { project, ..Meta::new(tx.new_id()).named("shared-default") },
        standard: shared,
        prefixes: vec![IpNet::from(Ipv4Net::new_assert(Ipv4Addr::new(10, 64, 0, 0), 10))],
        default_prefix_len: 26,
        min_prefix_len: 8,
        max_prefix_len: 32,
        default_quota: None,
        is_default: true,
    })?;
    Ok(())
}

fn parse(cidr: &str) -> Result<IpNet> {
    cidr.parse::<IpNet>().map(|net| net.trunc()).with_context(|| format!("`{cidr}` is not a network"))
}

/// Starts the agent. It dials the controller's port as any other agent would.
pub async fn start_agent(state: &StateDir, controller: &Running, args: &UpArgs) -> Result<()> {
    let host = unkai_host::host_id(&state.agent())?;
    let dial = Dial::new(
        vec![loopback_of(controller.address).to_string()],
        Arc::new(Own { controller: controller.authority.clone(), host: host.clone() }),
    );
    let config = AgentConfig {
        dir: state.agent(),
        name: None,
        netns: args.netns.clone(),
        underlay: args.underlay,
        externals: vec![External {
            physical: EXTERNAL.into(),
            device: args.external_device.clone(),
            addresses: vec![host_address(&args.external)?],
        }],
        guard: crate::agent::own_program()?,
    };
    let (own, name) = (host.clone(), unkai_host::machine_name());
    controller.store.transact(move |tx| unkai_control::hosts::own(tx, &own, &name)).await.context("entering this machine as a host")?;
    let (dir, hosts) = (state.volumes(), [host.clone()].into());
    controller.store.transact(move |tx| storage::first_pool(tx, &dir, &hosts)).await.context("making the first storage pool")?;
    let agent = Agent::open(host, config).await?;
    tokio::spawn(agent.run(dial));
    Ok(())
}

/// Hosts that are only simulated, in this process. They keep their ids from start to start, and share what storage they pretend to have.
pub async fn start_simulated(controller: &Running, count: usize) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    let made = controller.store.transact(|tx| storage::first_pool(tx, Path::new("/simulated"), &BTreeSet::new()));
    made.await.context("making the first storage pool")?;
    let storage = Storage::default();
    for number in 1..=count {
        let host = HostId::new(format!("00000000-0000-4000-8000-{number:012x}"));
        let mut inventory = host::inventory(&format!("sim-{number}"));
        inventory.physical_networks.insert(EXTERNAL.into());
        let agent = host::Agent { machine: host::Machine::new(host.clone()).on(&storage), inventory, pace: Duration::ZERO };
        let link = controller.link.clone();
        tokio::spawn(agent.run(move || std::future::ready(Ok(wire::connect(&link, &host)))));
    }
    Ok(())
}

/// The agent of the controller's own process: it signs for itself, a fresh certificate for each connection, so there is nothing to renew.
struct Own {
    controller: Arc<Authority>,
    host: HostId,
}

impl Membership for Own {
    fn tls(&self) -> Result<Arc<rustls::ClientConfig>, Error> {
        let (authority, own) = self.identity()?;
        tls::agent(&authority, own)
    }

    fn identity(&self) -> Result<(CertificateDer<'static>, Identity), Error> {
        Ok((self.controller.certificate().clone(), self.controller.issue_host(self.host.as_str(), 0)?))
    }
}

fn loopback_of(address: std::net::SocketAddr) -> std::net::SocketAddr {
    if address.ip().is_unspecified() { (IpAddr::from([127, 0, 0, 1]), address.port()).into() } else { address }
}

/// The first address of the network, with its prefix length: this machine's, and the gateway of the subnet.
fn host_address(cidr: &str) -> Result<String> {
    let cidr = parse(cidr)?;
    let first = cidr.hosts().next().context("the external network has no addresses")?;
    Ok(format!("{first}/{}", cidr.prefix_len()))
}
