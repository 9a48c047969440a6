//! Connections of a machine that moves between hosts: what is tracked of them here goes with it, so that they are still established there.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{
    Driver, Result,
    netns::Netns,
    network::missing,
    sys::conntrack::{self, Tuple},
};

/// A tracked connection, as one host tells another of it. TCP and UDP; others begin anew by themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackedFlow {
    /// In the direction in which it was opened.
    pub source: IpAddr,
    pub source_port: u16,
    pub destination: IpAddr,
    pub destination_port: u16,
    pub protocol: u8,
    /// Seconds until it is forgotten without another packet.
    pub timeout: u32,
    /// Packets went both ways.
    pub answered: bool,
    /// Long enough for it not to be given up when the table is full.
    pub assured: bool,
    /// The kernel's number of the state of a TCP connection.
    pub tcp_state: Option<u8>,
}

impl TrackedFlow {
    fn touches(&self, addresses: &[IpAddr]) -> bool {
        addresses.contains(&self.source) || addresses.contains(&self.destination)
    }

    pub(crate) fn tuple(&self) -> Tuple {
        Tuple {
            source: self.source,
            destination: self.destination,
            protocol: self.protocol,
            source_port: self.source_port,
            destination_port: self.destination_port,
            icmp: None,
        }
    }
}

impl Driver {
    /// What is tracked in a network here of connections from or to these addresses.
    pub async fn flows(&self, network_id: &str, addresses: &[IpAddr]) -> Result<Vec<TrackedFlow>> {
        let Some(netns) = Netns::open(&self.0.names.network(network_id))? else { return Ok(Vec::new()) };
        let addresses = addresses.to_vec();
        netns.run("list connections", move || Ok(conntrack::list()?.into_iter().filter(|flow| flow.touches(&addresses)).collect())).await
    }

    /// Takes over connections of a machine that has come here from another host. Only those from or to its own addresses are; those
    /// that are known stay as they are.
    pub async fn adopt_flows(&self, network_id: &str, addresses: &[IpAddr], flows: Vec<TrackedFlow>) -> Result<()> {
        let netns = Netns::open(&self.0.names.network(network_id))?.ok_or_else(|| missing(network_id))?;
        let own: Vec<TrackedFlow> = flows.into_iter().filter(|flow| flow.touches(addresses)).collect();
        if own.is_empty() {
            return Ok(());
        }
        netns.run("add connections", move || conntrack::add(&own)).await
    }
}
