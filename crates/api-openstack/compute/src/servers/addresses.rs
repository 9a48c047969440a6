//! The addresses of a server: fixed ones of its ports by network name, with the floating ones behind them.

use std::net::IpAddr;
use std::sync::Arc;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use unkai_model::network::{FloatingIp, MacAddr, Port};

use super::renderer::Renderer;

pub struct Addresses<'a> {
    pub renderer: &'a Renderer<'a>,
    pub ports: &'a [Arc<Port>],
    /// With type and MAC.
    pub extended: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Address {
    pub version: u8,
    pub addr: IpAddr,
    #[serde(rename = "OS-EXT-IPS:type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<&'static str>,
    #[serde(rename = "OS-EXT-IPS-MAC:mac_addr", skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
}

impl Addresses<'_> {
    /// Network names, in the order of the server's ports, with their addresses.
    pub fn by_network(&self) -> Vec<(Arc<str>, Vec<Address>)> {
        let mut networks: Vec<(Arc<str>, Vec<Address>)> = Vec::new();
        for port in self.ports {
            let name = self.renderer.network_name(&port.network);
            let floating: Vec<Arc<FloatingIp>> = self.renderer.view.by_index("port", port.meta.id.as_str()).collect();
            let place = networks.iter().position(|(known, _)| *known == name).unwrap_or_else(|| {
                networks.push((name, Vec::new()));
                networks.len() - 1
            });
            let list = &mut networks[place].1;
            for fixed in port.addresses() {
                list.push(self.address(fixed, "fixed", port.mac));
                let mapped = floating.iter().filter(|ip| ip.target.as_ref().is_some_and(|target| target.address == fixed));
                list.extend(mapped.map(|ip| self.address(ip.address, "floating", port.mac)));
            }
        }
        networks
    }

    fn address(&self, addr: IpAddr, kind: &'static str, mac: MacAddr) -> Address {
        let version = if addr.is_ipv4() { 4 } else { 6 };
        Address { version, addr, kind: self.extended.then_some(kind), mac: self.extended.then_some(mac) }
    }
}

impl Serialize for Addresses<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let networks = self.by_network();
        let mut map = serializer.serialize_map(Some(networks.len()))?;
        for (name, list) in &networks {
            map.serialize_entry(&**name, list)?;
        }
        map.end()
    }
}
