//! The addresses of servers, as compute shows them.

use std::net::IpAddr;
use std::sync::Arc;

use unkai_model::network::{FloatingIp, Network, Port};
use unkai_store::View;

/// One port of a server with its network and the floating IPs that lead to it.
#[derive(Debug, Clone)]
pub struct PortAddresses {
    pub port: Arc<Port>,
    pub network: Arc<Network>,
    /// Fixed address, floating address.
    pub floating: Vec<(IpAddr, IpAddr)>,
}

/// None when the network is being removed at this moment.
pub fn port_addresses(view: &View, port: Arc<Port>) -> Option<PortAddresses> {
    let network = view.get(&port.network)?;
    let leading = view.by_index::<FloatingIp>("port", port.meta.id.as_str());
    let floating = leading.filter_map(|f| Some((f.target.as_ref()?.address, f.address))).collect();
    Some(PortAddresses { port, network, floating })
}

/// Those of all ports whose device is this server, in the order of their ids, which is that of their creation.
pub fn server_addresses(view: &View, server: &str) -> Vec<PortAddresses> {
    view.by_index::<Port>("device", server).filter_map(|port| port_addresses(view, port)).collect()
}
