//! Networks: a namespace with a bridge, perhaps a way to other hosts, and the services of the network.
//!
//! Order matters only towards guests: the firewall's frame is there before the first port, and a port's rules before
//! the port is up (see [`crate::port`]). Every step looks first, so a run that was cut short is completed by the next.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
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
    sys::{FdbEntry, KernelRoute, Link, Links, VethEnd, Vxlan, sysctl},
};

const METADATA: &str = "169.254.169.254/32";

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
        self.services.publish(Snapshot::new(
            self.spec.clone(),
            self.ports.values(),
            self.router_present,
        ));
    }

    pub fn service_addresses(&self) -> Vec<IpAddr> {
        let own = self.spec.service.iter();
        let mut all: Vec<IpAddr> = own
            .flat_map(|s| s.addresses.iter().map(IpNet::addr))
            .collect();
        all.push(IpAddr::from([169, 254, 169, 254]));
        all
    }
}

impl Driver {
    /// Creates the network on this host, or makes what is there as specified.
    pub async fn apply_network(&self, spec: &NetworkSpec) -> Result<()> {
        let spec = spec.clone();
        self.whole(|driver| async move { driver.do_apply_network(&spec).await })
            .await
    }

    /// Removes the network from this host with all that is in its namespace.
    pub async fn remove_network(&self, id: &str) -> Result<()> {
        let id = id.to_owned();
        self.whole(|driver| async move { driver.do_remove_network(&id).await })
            .await
    }

    async fn do_apply_network(&self, spec: &NetworkSpec) -> Result<()> {
        let slot = self.0.networks.slot(spec.id.as_str());
        let mut held = slot.lock().await;
        if held.as_ref().is_some_and(|n| !n.netns.is_current()) {
            *held = None;
        }
        if held
            .as_ref()
            .is_some_and(|n| n.complete && *n.spec == *spec)
        {
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
        let bridge = prepare_bridge(&links, spec).await?;
        prepare_namespace(&netns, spec).await?;
        self.wire(&netns, &links, bridge.index, spec).await?;
        let router_present = links
            .all()
            .await?
            .iter()
            .any(|l| l.name.starts_with(names::LEG));
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
        self.wire(&network.netns, &links, network.bridge, spec)
            .await?;
        network.spec = Arc::new(spec.clone());
        network.publish();
        network.services.listen(&network.netns).await?;
        network.complete = true;
        Ok(())
    }

    /// Addresses of the services and the way to other hosts.
    async fn wire(
        &self,
        netns: &Netns,
        links: &Links,
        bridge: u32,
        spec: &NetworkSpec,
    ) -> Result<()> {
        add_addresses(links, bridge, spec).await?;
        match (&spec.external, spec.vni, self.0.config.underlay) {
            (Some(physical), _, _) => {
                self.wire_external(netns, links, bridge, spec, physical)
                    .await
            }
            (None, Some(vni), Some(local)) => {
                let vxlan = Vxlan {
                    vni,
                    local,
                    mtu: spec.mtu,
                };
                self.wire_overlay(netns, links, bridge, vxlan, spec).await
            }
            _ => Ok(()),
        }
    }

    async fn wire_overlay(
        &self,
        netns: &Netns,
        links: &Links,
        bridge: u32,
        vxlan: Vxlan,
        spec: &NetworkSpec,
    ) -> Result<()> {
        let kind = format!("vni {} at {}", vxlan.vni, vxlan.local);
        let device = match links.get(names::VXLAN).await? {
            Some(device) if device.alias.as_deref() == Some(&kind) => device,
            _ => {
                links.delete(names::VXLAN).await?;
                let outer = self.0.dataplane.links().await?;
                outer.add_vxlan(netns, names::VXLAN, vxlan).await?;
                links.must(names::VXLAN).await?
            }
        };
        let settled = device.up && device.master == Some(bridge) && device.mtu == spec.mtu;
        if !settled {
            let message = links
                .by_index(device.index)
                .alias(kind)
                .mtu(spec.mtu)
                .controller(bridge);
            links
                .change(message.up().build(), "attach VXLAN device")
                .await?;
            links.set_learning(device.index, false).await?;
        }
        links.set_fdb(device.index, &fdb_of(spec)).await
    }

    async fn wire_external(
        &self,
        netns: &Netns,
        links: &Links,
        bridge: u32,
        spec: &NetworkSpec,
        physical: &str,
    ) -> Result<()> {
        let outer_name = self.0.names.uplink_outer(&spec.id);
        let outer = self.0.dataplane.links().await?;
        let external = self.external_bridge(physical).await?;
        let pair = (
            links.get(names::UPLINK).await?,
            outer.get(&outer_name).await?,
        );
        if pair.0.is_none() || pair.1.is_none() {
            links.delete(names::UPLINK).await?;
            outer.delete(&outer_name).await?;
            let peer = VethEnd {
                name: names::UPLINK,
                mac: None,
                mtu: spec.mtu,
            };
            outer.add_veth(&outer_name, netns, peer).await?;
        }
        attach(&outer, &outer_name, external, spec.mtu, &spec.id).await?;
        attach(links, names::UPLINK, bridge, spec.mtu, physical).await
    }

    /// The slot of a network that has been applied.
    pub(crate) fn network_slot(&self, id: &str) -> Slot<Network> {
        self.0.networks.slot(id)
    }
}

pub(crate) fn missing(id: &str) -> Error {
    Error::NoNetwork(id.to_owned())
}

/// Makes a device a port of a bridge and brings it up, if it is not already.
pub(crate) async fn attach(
    links: &Links,
    name: &str,
    bridge: u32,
    mtu: u32,
    alias: &str,
) -> Result<()> {
    let link = links.must(name).await?;
    if link.up
        && link.master == Some(bridge)
        && link.mtu == mtu
        && link.alias.as_deref() == Some(alias)
    {
        return Ok(());
    }
    let message = links
        .by_index(link.index)
        .alias(alias)
        .mtu(mtu)
        .controller(bridge)
        .up();
    links
        .change(message.build(), &format!("attach {name} to its bridge"))
        .await
}

async fn prepare_bridge(links: &Links, spec: &NetworkSpec) -> Result<Link> {
    links.add_bridge(names::BRIDGE).await?;
    let mut bridge = links.must(names::BRIDGE).await?;
    let mac = service_mac(spec);
    let settled = bridge.up
        && bridge.mac == Some(mac)
        && bridge.mtu == spec.mtu
        && bridge.alias.as_deref() == Some(&spec.id);
    if !settled {
        let message = links
            .by_index(bridge.index)
            .alias(&spec.id)
            .mtu(spec.mtu)
            .address(mac.0.to_vec());
        links.change(message.up().build(), "set up bridge").await?;
        bridge.mac = Some(mac);
    }
    Ok(bridge)
}

/// Kernel settings and the frame of the firewall.
async fn prepare_namespace(netns: &Netns, spec: &NetworkSpec) -> Result<()> {
    let batch = nft::network::batch(spec);
    let refused = netns
        .run("prepare network", move || {
            for family in ["iptables", "ip6tables"] {
                sysctl::set(&format!("bridge/bridge-nf-call-{family}"), "1", false)?;
            }
            // Ports of the bridge have no addresses of their own; the bridge has.
            sysctl::set("ipv6/conf/default/disable_ipv6", "1", true)?;
            for (key, value) in [("accept_ra", "0"), ("autoconf", "0"), ("accept_dad", "0")] {
                sysctl::set(&format!("ipv6/conf/{}/{key}", names::BRIDGE), value, true)?;
            }
            sysctl::set(
                &format!("ipv6/conf/{}/disable_ipv6", names::BRIDGE),
                "0",
                true,
            )?;
            sysctl::set(
                &format!("ipv4/conf/{}/arp_announce", names::BRIDGE),
                "2",
                false,
            )?;
            nft::run(&batch)
        })
        .await?;
    match refused {
        None => Ok(()),
        Some(message) => Err(Error::Nft {
            namespace: netns.name().to_owned(),
            message,
        }),
    }
}

async fn add_addresses(links: &Links, bridge: u32, spec: &NetworkSpec) -> Result<()> {
    let metadata: IpNet = METADATA.parse().expect("a constant");
    let mut wanted: Vec<IpNet> = spec
        .service
        .iter()
        .flat_map(|s| s.addresses.clone())
        .collect();
    wanted.push(metadata);
    links.set_addresses(bridge, &wanted).await?;
    // Metadata is answered to every guest, also in subnets where the services have no address.
    let routes: Vec<KernelRoute> = spec
        .subnets
        .iter()
        .filter(|s| s.cidr.addr().is_ipv4())
        .filter(|s| !wanted.iter().any(|a| s.cidr.contains(&a.addr())))
        .map(|s| KernelRoute {
            destination: s.cidr.trunc(),
            via: None,
            device: Some(bridge),
        })
        .collect();
    for route in links.set_routes(&routes).await? {
        tracing::warn!(network = spec.id, ?route, "route refused");
    }
    Ok(())
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

fn fdb_of(spec: &NetworkSpec) -> BTreeSet<FdbEntry> {
    let everybody = Mac([0; 6]);
    spec.peers
        .iter()
        .flat_map(|peer| {
            let towards = |mac| FdbEntry {
                mac,
                vtep: Some(peer.vtep),
            };
            let on_bridge = FdbEntry {
                mac: peer.mac,
                vtep: None,
            };
            [towards(peer.mac), towards(everybody), on_bridge]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_become_forwarding_entries_and_a_flood_list() {
        let spec: NetworkSpec = serde_json::from_str(
            r#"{"id":"n","vni":7,"peers":[
                {"mac":"fa:16:3e:00:00:01","vtep":"192.0.2.1"},
                {"mac":"fa:16:3e:00:00:02","vtep":"192.0.2.1"},
                {"mac":"fa:16:3e:00:00:03","vtep":"192.0.2.2"}]}"#,
        )
        .unwrap();
        let fdb = fdb_of(&spec);
        let flood = fdb.iter().filter(|e| e.mac == Mac([0; 6])).count();
        assert_eq!((fdb.len(), flood), (8, 2));
    }
}
