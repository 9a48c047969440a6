//! Connections of a server that moves: they stay established, because what its old host tracked of them goes with it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use unkai_driver_network::TrackedFlow;
use unkai_link::item::{ServerItem, net};

use crate::server::Servers;

/// By network.
pub type Flows = BTreeMap<String, Vec<TrackedFlow>>;

fn addresses(port: &net::PortSpec) -> Vec<IpAddr> {
    let pairs = port.allowed_address_pairs.iter().map(|pair| pair.address).filter(|net| net.prefix_len() == net.max_prefix_len());
    port.fixed_ips.iter().map(|ip| ip.address).chain(pairs.map(|net| net.addr())).collect()
}

impl Servers {
    fn addresses(&self, item: &ServerItem) -> BTreeMap<String, Vec<IpAddr>> {
        let mut found: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
        for port in item.ports.iter().filter_map(|port| self.desired.port(port)) {
            found.entry(port.network_id.clone()).or_default().extend(addresses(&port));
        }
        found
    }

    /// They are not cut here, whatever becomes of what this host has of the server.
    pub(super) async fn leave_ports(&self, item: &ServerItem) {
        for port in item.ports.iter().filter_map(|port| self.desired.port(port)) {
            self.network.leave_port(&port.network_id, &port.id).await;
        }
    }

    pub(super) async fn take_ports_back(&self, item: &ServerItem) {
        for port in item.ports.iter().filter_map(|port| self.desired.port(port)) {
            if let Err(error) = self.network.apply_port(&port).await {
                tracing::warn!(server = %item.id, port = port.id, %error, "it is not looked after yet");
            }
        }
    }

    /// What is tracked here. Without it the guest's connections are at worst begun anew.
    pub(super) async fn flows(&self, item: &ServerItem) -> Flows {
        let mut flows = Flows::new();
        for (network, addresses) in self.addresses(item) {
            match self.network.flows(&network, &addresses).await {
                Ok(found) => drop(flows.insert(network, found)),
                Err(error) => tracing::warn!(server = %item.id, network, %error, "its connections are not known"),
            }
        }
        flows
    }

    pub(super) async fn adopt_flows(&self, item: &ServerItem, mut flows: Flows) {
        for (network, addresses) in self.addresses(item) {
            let Some(flows) = flows.remove(&network) else { continue };
            if let Err(error) = self.network.adopt_flows(&network, &addresses, flows).await {
                let cause = std::error::Error::source(&error);
                tracing::warn!(server = %item.id, network, %error, ?cause, "its connections are not all taken over");
            }
        }
    }
}
