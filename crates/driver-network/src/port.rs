//! Ports: a device on the network's bridge, and the rules that come with it.
//!
//! The rules are in force before the device is on the bridge, and the bridge drops frames of devices it does not know,
//! so there is no moment at which a port is open and unguarded.

use std::{mem, os::fd::OwnedFd};

use crate::{
    Driver, Error, Result, names,
    netns::Netns,
    network::{Network, missing},
    nft,
    policy::{Groups, Judge},
    spec::{Attach, PortSpec},
    sys::{Link, VethEnd, tap},
};

/// Traffic of a port, seen from what is plugged into it: `rx` is what a guest received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct PortCounters {
    pub rx_bytes: u64,
    pub rx_packets: u64,
    pub rx_dropped: u64,
    pub tx_bytes: u64,
    pub tx_packets: u64,
    pub tx_dropped: u64,
}

impl Driver {
    /// Makes the port's device and puts it on the network, guarded from the first frame on.
    ///
    /// For a tap the descriptor is the device: give it to the virtual machine; the device goes when the last copy is
    /// closed. A tap somebody else holds (the guest still runs) is [`Error::PortBusy`]: then use `apply_port`. For a
    /// veth there is no descriptor, and opening it again finds it in place.
    pub async fn open_port(&self, spec: &PortSpec) -> Result<Option<OwnedFd>> {
        let spec = spec.clone();
        self.whole(|driver| async move { driver.do_open_port(&spec, false).await }).await
    }

    /// The same for a machine that comes from another host: what is tracked here of its connections is its own.
    pub async fn open_port_of_guest(&self, spec: &PortSpec) -> Result<Option<OwnedFd>> {
        let spec = spec.clone();
        self.whole(|driver| async move { driver.do_open_port(&spec, true).await }).await
    }

    /// Makes an existing port as specified: rules, lease, up or down. Also for ports an earlier driver opened.
    ///
    /// Connections that are not allowed any more are cut some milliseconds later.
    pub async fn apply_port(&self, spec: &PortSpec) -> Result<()> {
        let spec = spec.clone();
        self.whole(|driver| async move { driver.do_apply_port(&spec).await }).await
    }

    /// Takes the port away with its rules; nothing happens when it is not there.
    pub async fn remove_port(&self, network_id: &str, port: &str) -> Result<()> {
        let (network_id, port) = (network_id.to_owned(), port.to_owned());
        self.whole(|driver| async move { driver.do_remove_port(&network_id, &port).await }).await
    }

    /// The machine of this port goes on at another host: whatever becomes of the port here, its connections with others here are not cut.
    /// `apply_port` takes it back.
    pub async fn leave_port(&self, network_id: &str, port: &str) {
        let slot = self.network_slot(network_id);
        let mut held = slot.lock().await;
        if let Some(network) = held.as_mut() {
            network.settled.remove(port);
            network.ports.remove(port);
            network.publish();
        }
    }

    async fn do_open_port(&self, spec: &PortSpec, arrives: bool) -> Result<Option<OwnedFd>> {
        let slot = self.network_slot(&spec.network_id);
        let mut held = slot.lock().await;
        let network = held.as_mut().ok_or_else(|| missing(&spec.network_id))?;
        // Nothing is on the bridge before the rules are in force, but it can be made meanwhile.
        let tap = match &spec.attach {
            Attach::Tap => Some(tokio::spawn(make_tap(network.netns.clone(), spec.id.clone()))),
            Attach::Veth { .. } => None,
        };
        let ruled = self.rule(network, spec, false).await;
        let tap = match tap {
            Some(task) => Some(task.await.map_err(|e| Error::io("make tap")(e.into()))?),
            None => None,
        };
        ruled?;
        let descriptor = match &spec.attach {
            Attach::Tap => tap.transpose()?,
            Attach::Veth { netns, device } => {
                make_veth(network, spec, netns, device).await?;
                None
            }
        };
        if network.adopted && !arrives {
            // What is tracked for these addresses may belong to a machine that is gone.
            network.sweeper.retire(spec.fixed_ips.iter().map(|ip| ip.address));
            self.sweep(network);
        }
        plug(network, spec).await?;
        network.settled.insert(spec.id.clone());
        Ok(descriptor)
    }

    async fn do_apply_port(&self, spec: &PortSpec) -> Result<()> {
        let slot = self.network_slot(&spec.network_id);
        let mut held = slot.lock().await;
        let network = held.as_mut().ok_or_else(|| missing(&spec.network_id))?;
        let links = network.netns.links().await?;
        let Some(link) = links.get(&names::tap(&spec.id)).await? else {
            return Err(Error::NoPort(spec.id.clone()));
        };
        let known = network.settled.contains(&spec.id) && network.ports.get(&spec.id) == Some(spec);
        if known && is_plugged(network, spec, &link) {
            return Ok(());
        }
        self.rule(network, spec, network.adopted).await?;
        if let Attach::Veth { netns, device } = &spec.attach {
            make_veth(network, spec, netns, device).await?;
        }
        plug(network, spec).await?;
        network.settled.insert(spec.id.clone());
        Ok(())
    }

    async fn do_remove_port(&self, network_id: &str, port: &str) -> Result<()> {
        let slot = self.network_slot(network_id);
        let mut held = slot.lock().await;
        let Some(netns) = Netns::open(&self.0.names.network(network_id))? else {
            return Ok(());
        };
        netns.links().await?.delete(&names::tap(port)).await?;
        let batch = nft::port::remove(port);
        let Some(network) = held.as_mut() else {
            return nft::apply(&netns, nft::network::objects() + &batch).await;
        };
        nft::apply(&network.netns, batch).await?;
        network.settled.remove(port);
        network.stateless.remove(port);
        if let Some(old) = network.ports.remove(port) {
            network.sweeper.retire(old.fixed_ips.iter().map(|ip| ip.address));
            network.publish();
            self.sweep(network);
        }
        self.refresh_groups(network).await
    }

    /// Traffic of a port since its device was made.
    pub async fn port_counters(&self, network_id: &str, port: &str) -> Result<PortCounters> {
        let name = self.0.names.network(network_id);
        let netns = Netns::open(&name)?.ok_or_else(|| missing(network_id))?;
        let found = netns.links().await?.get(&names::tap(port)).await?;
        let stats = found.ok_or_else(|| Error::NoPort(port.to_owned()))?.stats;
        Ok(PortCounters {
            rx_bytes: stats.tx_bytes,
            rx_packets: stats.tx_packets,
            rx_dropped: stats.tx_dropped,
            tx_bytes: stats.rx_bytes,
            tx_packets: stats.rx_packets,
            tx_dropped: stats.rx_dropped,
        })
    }

    /// Puts the port's rules in force and remembers it. A port that had a life before this process may have
    /// connections.
    async fn rule(&self, network: &mut Network, spec: &PortSpec, had_life: bool) -> Result<()> {
        refuse_collision(network, spec)?;
        network.settled.remove(&spec.id);
        let known = self.groups();
        let old = network.ports.insert(spec.id.clone(), spec.clone());
        let mut change = network.plan_groups(&known);
        let stateless = is_stateless(spec, &known);
        change.batch.insert_str(0, &nft::port::apply(spec, stateless));
        if let Err(e) = nft::apply(&network.netns, mem::take(&mut change.batch)).await {
            match old {
                Some(old) => network.ports.insert(spec.id.clone(), old),
                None => network.ports.remove(&spec.id),
            };
            return Err(e);
        }
        match stateless {
            true => network.stateless.insert(spec.id.clone()),
            false => network.stateless.remove(&spec.id),
        };
        let sweeps = change.tightened || tightened(old.as_ref(), spec, had_life);
        network.settle_groups(change).await;
        network.publish();
        if sweeps {
            self.sweep(network);
        }
        Ok(())
    }

    /// Has tracked connections cut that are not allowed any more.
    pub(crate) fn sweep(&self, network: &Network) {
        network.sweeper.request(Judge { ports: network.ports.clone(), groups: self.groups(), services: network.service_addresses() });
    }
}

/// A port is stateless when all its groups are.
pub(crate) fn is_stateless(spec: &PortSpec, known: &Groups) -> bool {
    let mut groups = spec.security_groups.iter().filter_map(|id| known.get(id)).peekable();
    groups.peek().is_some() && groups.all(|g| !g.stateful)
}

async fn make_tap(netns: Netns, port: String) -> Result<OwnedFd> {
    let name = names::tap(&port);
    let what = format!("open tap {name}");
    let made = netns
        .run(&what, move || match tap::open(&name) {
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) => Ok(None),
            other => other.map(Some),
        })
        .await?;
    made.ok_or(Error::PortBusy(port))
}

async fn make_veth(network: &Network, spec: &PortSpec, peer: &str, device: &str) -> Result<()> {
    let name = names::tap(&spec.id);
    let inside = Netns::open(peer)?.ok_or_else(|| Error::Invalid(format!("namespace {peer} of port {} is missing", spec.id)))?;
    let links = network.netns.links().await?;
    let there = inside.links().await?;
    if links.get(&name).await?.is_none() || there.get(device).await?.is_none() {
        links.delete(&name).await?;
        let end = VethEnd { name: device, mac: Some(spec.mac), mtu: network.spec.mtu };
        links.add_veth(&name, &inside, end).await?;
    }
    let up = there.by_name(device).up().build();
    there.change(up, "bring up container end").await
}

/// On the bridge, and up or down as wanted.
async fn plug(network: &Network, spec: &PortSpec) -> Result<()> {
    let links = network.netns.links().await?;
    let name = names::tap(&spec.id);
    let link = links.get(&name).await?.ok_or_else(|| Error::NoPort(spec.id.clone()))?;
    if is_plugged(network, spec, &link) {
        return Ok(());
    }
    let message = links.by_index(link.index).alias(&spec.id).mtu(network.spec.mtu).controller(network.bridge);
    let message = if spec.admin_state_up { message.up() } else { message.down() };
    links.change(message.build(), &format!("plug {name}")).await
}

fn is_plugged(network: &Network, spec: &PortSpec, link: &Link) -> bool {
    link.master == Some(network.bridge)
        && link.up == spec.admin_state_up
        && link.mtu == network.spec.mtu
        && link.alias.as_deref() == Some(&spec.id)
}

fn refuse_collision(network: &Network, spec: &PortSpec) -> Result<()> {
    let same =
        |other: &&String| **other != spec.id && (names::mark(other) == names::mark(&spec.id) || names::tap(other) == names::tap(&spec.id));
    match network.ports.keys().find(same) {
        None => Ok(()),
        Some(other) => Err(Error::Collision { kind: "port", id: spec.id.clone(), other: other.clone() }),
    }
}

/// Whether the new port may allow less than the old one did.
fn tightened(old: Option<&PortSpec>, new: &PortSpec, had_life: bool) -> bool {
    let Some(old) = old else {
        return had_life;
    };
    new.port_security
        && (!old.port_security
            || old.fixed_ips != new.fixed_ips
            || old.allowed_address_pairs != new.allowed_address_pairs
            || !old.security_groups.iter().all(|g| new.security_groups.contains(g)))
}
