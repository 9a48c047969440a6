//! Routers: a namespace joined to its networks and to an external bridge by veth pairs.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    os::fd::OwnedFd,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::{
    Driver, Mac, Result, names,
    netns::Netns,
    network::{Network, missing},
    nft,
    service::{Task, ra},
    spec::{RouterGateway, RouterInterface, RouterSpec},
    sys::{KernelRoute, Links, VethEnd, packet, sysctl},
    translation,
    wire::attach,
};

/// A router of which this process has applied the spec at least once.
pub(crate) struct Router {
    netns: Netns,
    spec: RouterSpec,
    /// Everything of `spec` is done.
    complete: bool,
    /// IPv6 router advertisements, one task per interface.
    advertising: BTreeMap<String, (RouterInterface, Task)>,
}

impl Driver {
    /// Creates the router on this host, or makes what is there as specified. Its networks must have been applied.
    pub async fn apply_router(&self, spec: &RouterSpec) -> Result<()> {
        let spec = spec.clone();
        self.whole(|driver| async move { driver.do_apply_router(&spec).await }).await
    }

    /// Removes the router from this host; its networks stay.
    pub async fn remove_router(&self, id: &str) -> Result<()> {
        let id = id.to_owned();
        self.whole(|driver| async move { driver.do_remove_router(&id).await }).await
    }

    async fn do_apply_router(&self, spec: &RouterSpec) -> Result<()> {
        let slot = self.0.routers.slot(&spec.id);
        let mut held = slot.lock().await;
        if held.as_ref().is_some_and(|r| !r.netns.is_current()) {
            *held = None;
        }
        let old = held.as_ref().map(|r| r.spec.clone());
        let complete = held.as_mut().is_some_and(|r| std::mem::replace(&mut r.complete, false));
        let netns = match &*held {
            Some(router) => router.netns.clone(),
            None => self.prepare_router(spec).await?,
        };
        let links = netns.links().await?;
        remove_stale(&links, spec).await?;
        let mut announce = Vec::new();
        for interface in &spec.interfaces {
            let new = self.join_network(&netns, &links, spec, interface).await?;
            announce.extend(new.into_iter().map(|net| (names::interface(&interface.port_id), interface.mac, net)));
        }
        if let Some(gateway) = &spec.gateway {
            let new = self.join_external(&netns, &links, spec, gateway).await?;
            announce.extend(new.into_iter().map(|net| (names::GATEWAY.to_owned(), gateway.mac, net)));
        }
        if !complete || old.as_ref().is_none_or(|old| translation::differs(old, spec)) {
            nft::apply(&netns, nft::router::batch(spec)).await?;
            translation::cut(&netns, old.as_ref().filter(|_| complete), spec).await?;
        }
        let gateway_index = links.get(names::GATEWAY).await?.map(|l| l.index);
        for route in links.set_routes(&routes_of(spec, gateway_index)).await? {
            tracing::warn!(router = spec.id, ?route, "route refused");
        }
        self.announce(&netns, announce).await;
        let router =
            held.get_or_insert_with(|| Router { netns: netns.clone(), spec: spec.clone(), complete: false, advertising: BTreeMap::new() });
        router.spec = spec.clone();
        self.advertise(router).await?;
        for left in old.iter().flat_map(|old| &old.interfaces) {
            if !spec.interfaces.iter().any(|i| i.network_id == left.network_id) {
                self.router_left(&left.network_id).await?;
            }
        }
        router.complete = true;
        Ok(())
    }

    async fn do_remove_router(&self, id: &str) -> Result<()> {
        let slot = self.0.routers.slot(id);
        let mut held = slot.lock().await;
        let old = held.take();
        self.empty_and_remove(&self.0.names.router(id)).await?;
        match old {
            Some(old) => {
                for interface in &old.spec.interfaces {
                    self.router_left(&interface.network_id).await?;
                }
            }
            // Made by an earlier driver: any network may have been joined to it.
            None => {
                for slot in self.0.networks.all() {
                    if let Some(network) = slot.lock().await.as_mut() {
                        look_for_routers(network).await?;
                    }
                }
            }
        }
        drop(held);
        drop(slot);
        self.0.routers.prune();
        Ok(())
    }

    async fn prepare_router(&self, spec: &RouterSpec) -> Result<Netns> {
        let netns = Netns::create(&self.0.names.router(&spec.id)).await?;
        netns
            .run("prepare router", || {
                sysctl::set("ipv4/ip_forward", "1", false)?;
                for scope in ["all", "default"] {
                    sysctl::set(&format!("ipv4/conf/{scope}/send_redirects"), "0", false)?;
                    sysctl::set(&format!("ipv4/conf/{scope}/rp_filter"), "0", false)?;
                    sysctl::set(&format!("ipv6/conf/{scope}/forwarding"), "1", true)?;
                    sysctl::set(&format!("ipv6/conf/{scope}/accept_ra"), "0", true)?;
                    sysctl::set(&format!("ipv6/conf/{scope}/accept_dad"), "0", true)?;
                    // The IPv6 side of announcing: the kernel does it.
                    sysctl::set(&format!("ipv6/conf/{scope}/ndisc_notify"), "1", true)?;
                }
                Ok(())
            })
            .await?;
        let links = netns.links().await?;
        let message = links.by_name("lo").alias(&spec.id).up().build();
        links.change(message, "name router").await?;
        Ok(netns)
    }

    /// One leg in a network; returns the addresses that are new on it.
    async fn join_network(&self, netns: &Netns, links: &Links, spec: &RouterSpec, interface: &RouterInterface) -> Result<Vec<IpNet>> {
        let slot = self.network_slot(&interface.network_id);
        let mut held = slot.lock().await;
        let network = held.as_mut().ok_or_else(|| missing(&interface.network_id))?;
        let there = network.netns.links().await?;
        let (leg, name) = (names::leg(&interface.port_id), names::interface(&interface.port_id));
        if links.get(&name).await?.is_none() || there.get(&leg).await?.is_none() {
            links.delete(&name).await?;
            there.delete(&leg).await?;
            let end = VethEnd { name: &name, mac: Some(interface.mac), mtu: network.spec.mtu };
            there.add_veth(&leg, netns, end).await?;
        }
        if !network.router_present {
            network.router_present = true;
            network.publish();
        }
        attach(&there, &leg, network.bridge, network.spec.mtu, &interface.port_id).await?;
        let addresses = &interface.addresses;
        settle(links, &name, interface.mac, network.spec.mtu, spec.admin_state_up, addresses).await
    }

    async fn join_external(&self, netns: &Netns, links: &Links, spec: &RouterSpec, gateway: &RouterGateway) -> Result<Vec<IpNet>> {
        let bridge = self.external_bridge(&gateway.physical).await?;
        let outer = self.0.dataplane.links().await?;
        let leg = self.0.names.gateway_outer(&gateway.port_id);
        if links.get(names::GATEWAY).await?.is_none() || outer.get(&leg).await?.is_none() {
            links.delete(names::GATEWAY).await?;
            outer.delete(&leg).await?;
            let end = VethEnd { name: names::GATEWAY, mac: Some(gateway.mac), mtu: gateway.mtu };
            outer.add_veth(&leg, netns, end).await?;
        }
        attach(&outer, &leg, bridge, gateway.mtu, &gateway.port_id).await?;
        let mut addresses = gateway.addresses.clone();
        addresses.extend(spec.floating_ips.iter().map(|f| IpNet::from(IpAddr::V4(f.floating))));
        settle(links, names::GATEWAY, gateway.mac, gateway.mtu, spec.admin_state_up, &addresses).await
    }

    /// Starts and stops advertisements so that every interface has one sender.
    async fn advertise(&self, router: &mut Router) -> Result<()> {
        let wanted: BTreeMap<&str, &RouterInterface> = match router.spec.admin_state_up {
            true => router.spec.interfaces.iter().map(|i| (i.port_id.as_str(), i)).collect(),
            false => BTreeMap::new(),
        };
        router.advertising.retain(|id, (running, task)| wanted.get(id.as_str()) == Some(&&*running) && !task.is_over());
        for (id, interface) in wanted {
            let has_v6 = interface.addresses.iter().any(|net| net.addr().is_ipv6());
            if !has_v6 || router.advertising.contains_key(id) {
                continue;
            }
            let slot = self.network_slot(&interface.network_id);
            let Some(snapshot) = slot.lock().await.as_ref().map(|n| n.services.snapshot()) else {
                continue;
            };
            let device = names::interface(id);
            let task = ra::start(&router.netns, &device, ra::Sender::router(interface), snapshot).await?;
            router.advertising.insert(id.to_owned(), (interface.clone(), task));
        }
        Ok(())
    }

    /// Tells neighbours where new addresses are. A lost announcement only costs time, so failures are logged.
    async fn announce(&self, netns: &Netns, new: Vec<(String, Mac, IpNet)>) {
        let frames: Vec<(String, Vec<u8>)> = new
            .into_iter()
            .filter_map(|(device, mac, net)| match net.addr() {
                IpAddr::V4(a) => Some((device, packet::gratuitous_arp(mac, a))),
                IpAddr::V6(_) => None,
            })
            .collect();
        if frames.is_empty() {
            return;
        }
        let sent = netns
            .run("announce addresses", move || {
                for (device, frame) in &frames {
                    let socket: OwnedFd = packet::open(device, packet::ETH_ARP)?;
                    packet::send(&socket, frame)?;
                }
                Ok(())
            })
            .await;
        if let Err(e) = sent {
            tracing::warn!(error = &e as &dyn std::error::Error, "addresses not announced");
        }
    }

    async fn router_left(&self, network_id: &str) -> Result<()> {
        let slot = self.network_slot(network_id);
        let mut held = slot.lock().await;
        match held.as_mut() {
            Some(network) => look_for_routers(network).await,
            None => Ok(()),
        }
    }
}

/// A network may have lost its last router here; then its services advertise.
async fn look_for_routers(network: &mut Network) -> Result<()> {
    if network.router_present {
        let links = network.netns.links().await?.all().await?;
        network.router_present = links.iter().any(|l| l.name.starts_with(names::LEG));
        network.publish();
    }
    Ok(())
}

/// Legs the spec does not name; deleting one end takes the other.
async fn remove_stale(links: &Links, spec: &RouterSpec) -> Result<()> {
    let mut wanted: BTreeSet<String> = spec.interfaces.iter().map(|i| names::interface(&i.port_id)).collect();
    if spec.gateway.is_some() {
        wanted.insert(names::GATEWAY.to_owned());
    }
    for link in links.all().await? {
        if link.name != "lo" && !wanted.contains(&link.name) {
            links.delete_index(link.index, &link.name).await?;
        }
    }
    Ok(())
}

/// An interface as specified; returns the addresses that are new on it.
async fn settle(links: &Links, name: &str, mac: Mac, mtu: u32, up: bool, addresses: &[IpNet]) -> Result<Vec<IpNet>> {
    let link = links.must(name).await?;
    if link.mac != Some(mac) || link.mtu != mtu || link.up != up {
        let message = links.by_index(link.index).address(mac.0.to_vec()).mtu(mtu);
        let message = if up { message.up() } else { message.down() };
        links.change(message.build(), &format!("set up {name}")).await?;
    }
    if !up {
        return Ok(Vec::new());
    }
    links.set_addresses(link.index, addresses).await
}

fn routes_of(spec: &RouterSpec, gateway: Option<u32>) -> Vec<KernelRoute> {
    let mut routes: Vec<KernelRoute> = spec
        .routes
        .iter()
        .map(|route| KernelRoute { destination: route.destination.trunc(), via: Some(route.nexthop), device: None })
        .collect();
    for hop in spec.gateway.iter().flat_map(|g| &g.next_hops) {
        let destination = match hop {
            IpAddr::V4(_) => IpNet::V4(Ipv4Net::default()),
            IpAddr::V6(_) => IpNet::V6(Ipv6Net::default()),
        };
        // A route of the tenant's own for everything wins over the gateway's.
        if !routes.iter().any(|r| r.destination == destination) {
            routes.push(KernelRoute {
                destination,
                via: Some(*hop),
                // Says nothing about reach for a global next hop, everything for a link-local one.
                device: gateway,
            });
        }
    }
    routes
}
