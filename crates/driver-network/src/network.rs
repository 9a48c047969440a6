//! Networks: a namespace with a bridge, perhaps a way to other hosts, and the services of the network.
//!
//! Order matters only towards guests: the firewall's frame is there before the first port, and a port's rules before
//! the port is up (see [`crate::port`]). Every step looks first, so a run that was cut short is completed by the next.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;

use crate::{
    Driver, Error, Mac, Result,
    driver::Slot,
    group::Installed,
    names,
    netns::Netns,
    nft,
    service::{ServiceSet, Snapshot},
    spec::{NetworkSpec, PortSpec, ServiceSpec},
    sweep::Sweeper,
    sys::{Link, Links, sysctl},
};

/// A network of which this process has applied the spec at least once.
pub(crate) struct Network {
    pub netns: Netns,
    pub spec: Arc<NetworkSpec>,
    pub bridge: u32,
    /// The namespace was there before this process: connections may be older than what we know.
    pub adopted: bool,
    /// Everything of `spec` is done.
    pub complete: bool,
    pub ports: BTreeMap<String, PortSpec>,
    /// Ports of which everything is done.
    pub settled: HashSet<String>,
    /// Ports whose rules were written without connection tracking.
    pub stateless: HashSet<String>,
    pub groups: HashMap<String, Installed>,
    pub sweeper: Sweeper,
    pub services: ServiceSet,
    pub router_present: bool,
}

impl Network {
    /// Tells the services what they shall answer from.
    pub fn publish(&self) {
        self.services.publish(Snapshot::new(self.spec.clone(), self.ports.values(), self.router_present));
    }

    pub fn service_addresses(&self) -> Vec<IpAddr> {
        let own = self.spec.service.iter();
        let mut all: Vec<IpAddr> = own.flat_map(|s| s.addresses.iter().map(IpNet::addr)).collect();
        all.push(IpAddr::from([169, 254, 169, 254]));
        all
    }
}

impl Driver {
    /// Creates the network on this host, or makes what is there as specified.
    pub async fn apply_network(&self, spec: &NetworkSpec) -> Result<()> {
        let spec = spec.clone();
        self.whole(|driver| async move { driver.do_apply_network(&spec).await }).await
    }

    /// Removes the network from this host with all that is in its namespace.
    pub async fn remove_network(&self, id: &str) -> Result<()> {
        let id = id.to_owned();
        self.whole(|driver| async move { driver.do_remove_network(&id).await }).await
    }

    async fn do_apply_network(&self, spec: &NetworkSpec) -> Result<()> {
        let slot = self.0.networks.slot(spec.id.as_str());
        let mut held = slot.lock().await;
        if held.as_ref().is_some_and(|n| !n.netns.is_current()) {
            *held = None;
        }
        if held.as_ref().is_some_and(|n| n.complete && *n.spec == *spec) {
            return Ok(());
        }
        match held.as_mut() {
            Some(network) => self.change_network(network, spec).await,
            None => {
                *held = Some(self.begin_network(spec).await?);
                Ok(())
            }
        }
    }

    async fn do_remove_network(&self, id: &str) -> Result<()> {
        let slot = self.0.networks.slot(id);
        let mut held = slot.lock().await;
        let name = self.0.names.network(id);
        *held = None;
        self.empty_and_remove(&name).await?;
        let outer = self.0.dataplane.links().await?;
        outer.delete(&self.0.names.uplink_outer(id)).await?;
        drop(held);
        drop(slot);
        self.0.networks.prune();
        Ok(())
    }

    /// Deletes the devices rather than waiting for the namespace to die: a guest's tap descriptor keeps it alive.
    pub(crate) async fn empty_and_remove(&self, name: &str) -> Result<()> {
        if let Some(netns) = Netns::open(name)? {
            netns.links().await?.delete_all().await?;
        }
        Netns::remove(name)
    }

    async fn begin_network(&self, spec: &NetworkSpec) -> Result<Network> {
        let name = self.0.names.network(&spec.id);
        let adopted = Netns::open(&name)?.is_some();
        let netns = Netns::create(&name).await?;
        let links = netns.links().await?;
        // No port comes before both are done.
        let build = async {
            let bridge = prepare_bridge(&links, spec).await?;
            prepare_namespace(&netns).await?;
            self.wire(&netns, &links, bridge.index, spec).await?;
            Ok(bridge)
        };
        let guard = nft::apply(&netns, nft::network::batch(spec));
        let (bridge, ()) = tokio::try_join!(build, guard)?;
        let router_present = links.all().await?.iter().any(|l| l.name.starts_with(names::LEG));
        let spec = Arc::new(spec.clone());
        let snapshot = Snapshot::new(spec.clone(), [], router_present);
        let services = ServiceSet::start(self, &netns, snapshot).await?;
        let sweeper = Sweeper::start(netns.clone(), spec.id.clone());
        Ok(Network {
            netns,
            spec,
            bridge: bridge.index,
            adopted,
            complete: true,
            ports: BTreeMap::new(),
            settled: HashSet::new(),
            stateless: HashSet::new(),
            groups: HashMap::new(),
            sweeper,
            services,
            router_present,
        })
    }

    async fn change_network(&self, network: &mut Network, spec: &NetworkSpec) -> Result<()> {
        let old = network.spec.clone();
        // After a failure it is not known how far we got; then everything is written again.
        let all = !std::mem::replace(&mut network.complete, false);
        let links = network.netns.links().await?;
        let frame = |s: &NetworkSpec| (s.service.clone(), s.mtu, s.subnets.clone());
        if all || frame(&old) != frame(spec) {
            network.bridge = prepare_bridge(&links, spec).await?.index;
        }
        if all || nft::network::differs(&old, spec) {
            nft::apply(&network.netns, nft::network::batch(spec)).await?;
        }
        self.wire(&network.netns, &links, network.bridge, spec).await?;
        network.spec = Arc::new(spec.clone());
        network.publish();
        network.services.listen(&network.netns).await?;
        network.complete = true;
        Ok(())
    }

    /// The slot of a network that has been applied.
    pub(crate) fn network_slot(&self, id: &str) -> Slot<Network> {
        self.0.networks.slot(id)
    }
}

pub(crate) fn missing(id: &str) -> Error {
    Error::NoNetwork(id.to_owned())
}

async fn prepare_bridge(links: &Links, spec: &NetworkSpec) -> Result<Link> {
    links.add_bridge(names::BRIDGE).await?;
    let mut bridge = links.must(names::BRIDGE).await?;
    let mac = service_mac(spec);
    let settled = bridge.up && bridge.mac == Some(mac) && bridge.mtu == spec.mtu && bridge.alias.as_deref() == Some(&spec.id);
    if !settled {
        let message = links.by_index(bridge.index).alias(&spec.id).mtu(spec.mtu).address(mac.0.to_vec());
        links.change(message.up().build(), "set up bridge").await?;
        bridge.mac = Some(mac);
    }
    Ok(bridge)
}

/// Kernel settings, before the bridge has any port.
async fn prepare_namespace(netns: &Netns) -> Result<()> {
    let settings = || {
        for family in ["iptables", "ip6tables"] {
            sysctl::set(&format!("bridge/bridge-nf-call-{family}"), "1", false)?;
        }
        // A guest could otherwise have its packets routed past the rules of the port they go to. New namespaces
        // take over what the machine's own has.
        sysctl::set("ipv4/ip_forward", "0", false)?;
        sysctl::set("ipv6/conf/all/forwarding", "0", true)?;
        // Ports of the bridge have no addresses of their own; the bridge has.
        sysctl::set("ipv6/conf/default/disable_ipv6", "1", true)?;
        let of_bridge = |family: &str, key: &str| format!("{family}/conf/{}/{key}", names::BRIDGE);
        for key in ["accept_ra", "autoconf", "accept_dad", "disable_ipv6"] {
            sysctl::set(&of_bridge("ipv6", key), "0", true)?;
        }
        sysctl::set(&of_bridge("ipv4", "arp_announce"), "2", false)
    };
    netns.run("set up kernel settings", settings).await
}

/// The MAC of the network's services; derived when the network has no service port.
pub(crate) fn service_mac(spec: &NetworkSpec) -> Mac {
    match &spec.service {
        Some(ServiceSpec { mac, .. }) => *mac,
        None => {
            let [a, b, c, d] = names::mark(&spec.id).to_be_bytes();
            Mac([0x0a, 0x58, a, b, c, d])
        }
    }
}
