//! A network's connections: the addresses of its services on the bridge, and the way to other hosts.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::{
    Driver, Mac, Result, names,
    netns::Netns,
    spec::{NetworkSpec, Peer},
    sys::{FdbEntry, KernelRoute, Links, Neighbour, PortFlags, VethEnd, Vxlan},
};

const METADATA: &str = "169.254.169.254/32";

impl Driver {
    /// Addresses of the services and the way to other hosts.
    pub(crate) async fn wire(&self, netns: &Netns, links: &Links, bridge: u32, spec: &NetworkSpec) -> Result<()> {
        add_addresses(links, bridge, spec).await?;
        match (&spec.external, spec.vni, self.0.config.underlay) {
            (Some(physical), _, _) => self.wire_external(netns, links, bridge, spec, physical).await,
            (None, Some(vni), Some(local)) => {
                let vxlan = Vxlan { vni, local, mtu: spec.mtu };
                self.wire_overlay(netns, links, bridge, vxlan, spec).await
            }
            _ => Ok(()),
        }
    }

    async fn wire_overlay(&self, netns: &Netns, links: &Links, bridge: u32, vxlan: Vxlan, spec: &NetworkSpec) -> Result<()> {
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
            let message = links.by_index(device.index).alias(kind).mtu(spec.mtu).controller(bridge);
            links.change(message.up().build(), "attach VXLAN device").await?;
        }
        links.set_port_flags(device.index, PortFlags { learning: false, suppresses_neighbours: !spec.broadcasts }).await?;
        links.set_neighbours(bridge, &neighbours_of(spec)).await?;
        links.set_fdb(device.index, &fdb_of(spec)).await
    }

    async fn wire_external(&self, netns: &Netns, links: &Links, bridge: u32, spec: &NetworkSpec, physical: &str) -> Result<()> {
        let outer_name = self.0.names.uplink_outer(&spec.id);
        let outer = self.0.dataplane.links().await?;
        let external = self.external_bridge(physical).await?;
        let pair = (links.get(names::UPLINK).await?, outer.get(&outer_name).await?);
        if pair.0.is_none() || pair.1.is_none() {
            links.delete(names::UPLINK).await?;
            outer.delete(&outer_name).await?;
            let peer = VethEnd { name: names::UPLINK, mac: None, mtu: spec.mtu };
            outer.add_veth(&outer_name, netns, peer).await?;
        }
        attach(&outer, &outer_name, external, spec.mtu, &spec.id).await?;
        attach(links, names::UPLINK, bridge, spec.mtu, physical).await
    }
}

/// Makes a device a port of a bridge and brings it up, if it is not already.
pub(crate) async fn attach(links: &Links, name: &str, bridge: u32, mtu: u32, alias: &str) -> Result<()> {
    let link = links.must(name).await?;
    if link.up && link.master == Some(bridge) && link.mtu == mtu && link.alias.as_deref() == Some(alias) {
        return Ok(());
    }
    let message = links.by_index(link.index).alias(alias).mtu(mtu).controller(bridge).up();
    links.change(message.build(), &format!("attach {name} to its bridge")).await
}

async fn add_addresses(links: &Links, bridge: u32, spec: &NetworkSpec) -> Result<()> {
    let metadata: IpNet = METADATA.parse().expect("a constant");
    let mut wanted: Vec<IpNet> = spec.service.iter().flat_map(|s| s.addresses.clone()).collect();
    wanted.push(metadata);
    links.set_addresses(bridge, &wanted).await?;
    // Metadata is answered to every guest, also in subnets where the services have no address.
    let routes: Vec<KernelRoute> = spec
        .subnets
        .iter()
        .filter(|s| s.cidr.addr().is_ipv4())
        .filter(|s| !wanted.iter().any(|a| s.cidr.contains(&a.addr())))
        .map(|s| KernelRoute { destination: s.cidr.trunc(), via: None, device: Some(bridge) })
        .collect();
    for route in links.set_routes(&routes).await? {
        tracing::warn!(network = spec.id, ?route, "route refused");
    }
    Ok(())
}

fn fdb_of(spec: &NetworkSpec) -> BTreeSet<FdbEntry> {
    let everybody = Mac([0; 6]);
    spec.peers
        .iter()
        .flat_map(|peer| {
            let towards = |mac| FdbEntry { mac, vtep: Some(peer.vtep) };
            let on_bridge = FdbEntry { mac: peer.mac, vtep: None };
            [Some(towards(peer.mac)), spec.broadcasts.then(|| towards(everybody)), Some(on_bridge)].into_iter().flatten()
        })
        .collect()
}

/// What the bridge answers in the place of guests on other hosts. Link-local addresses are those that follow from the MAC.
fn neighbours_of(spec: &NetworkSpec) -> BTreeSet<Neighbour> {
    if spec.broadcasts {
        return BTreeSet::new();
    }
    let of = |peer: &Peer| {
        let link_local = IpAddr::V6(peer.mac.link_local());
        let addresses: Vec<_> = peer.addresses.iter().copied().chain([link_local]).collect();
        addresses.into_iter().map(|address| Neighbour { address, mac: peer.mac }).collect::<Vec<_>>()
    };
    spec.peers.iter().flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_become_forwarding_entries_and_neighbours_or_a_flood_list() {
        let mut spec: NetworkSpec = serde_json::from_str(
            r#"{"id":"n","vni":7,"peers":[
                {"mac":"fa:16:3e:00:00:01","vtep":"192.0.2.1","addresses":["10.0.0.1"]},
                {"mac":"fa:16:3e:00:00:02","vtep":"192.0.2.1"},
                {"mac":"fa:16:3e:00:00:03","vtep":"192.0.2.2"}]}"#,
        )
        .unwrap();
        let counts = |spec: &NetworkSpec| {
            let fdb = fdb_of(spec);
            (fdb.len(), fdb.iter().filter(|e| e.mac == Mac([0; 6])).count(), neighbours_of(spec).len())
        };
        assert_eq!(counts(&spec), (6, 0, 4));
        spec.broadcasts = true;
        assert_eq!(counts(&spec), (8, 2, 0));
    }
}
