//! Routes of a namespace that we put there (protocol `static`); the kernel's own are left alone.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::{
    RouteMessageBuilder,
    packet_route::{
        AddressFamily,
        route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope},
    },
};

use super::Links;
use crate::{Error, Result, error::kernel_errno};

/// Towards `destination`, by a next hop or straight out of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelRoute {
    pub destination: IpNet,
    pub via: Option<IpAddr>,
    pub device: Option<u32>,
}

impl Links {
    /// Makes our routes exactly `wanted`. A route the kernel refuses (next hop out of reach) is returned, not fatal:
    /// a tenant may write such routes and everything else must still work.
    pub async fn set_routes(&self, wanted: &[KernelRoute]) -> Result<Vec<KernelRoute>> {
        let have = self.static_routes().await?;
        for (route, message) in &have {
            if !wanted.iter().any(|w| same(w, route)) {
                match self.handle.route().del(message.clone()).execute().await {
                    Err(e) if kernel_errno(&e) != Some(libc::ESRCH) => {
                        return Err(Error::netlink(self.on("delete route"))(e));
                    }
                    _ => {}
                }
            }
        }
        let mut refused = Vec::new();
        for route in wanted {
            if have.iter().any(|(h, _)| same(route, h)) {
                continue;
            }
            match self.handle.route().add(build(route)).execute().await {
                Ok(()) => {}
                Err(e) if kernel_errno(&e) == Some(libc::EEXIST) => {}
                Err(_) => refused.push(route.clone()),
            }
        }
        Ok(refused)
    }

    async fn static_routes(&self) -> Result<Vec<(KernelRoute, RouteMessage)>> {
        let mut found = Vec::new();
        for filter in [RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build()] {
            let messages: Vec<RouteMessage> =
                self.handle.route().get(filter).execute().try_collect().await.map_err(Error::netlink(self.on("list routes")))?;
            found.extend(messages.into_iter().filter_map(|m| Some((read(&m)?, m))));
        }
        Ok(found)
    }
}

/// The kernel names a device for every route; we do not always.
fn same(wanted: &KernelRoute, have: &KernelRoute) -> bool {
    wanted.destination == have.destination && wanted.via == have.via && (wanted.device.is_none() || wanted.device == have.device)
}

fn build(route: &KernelRoute) -> RouteMessage {
    let mut message = match (route.destination, route.via) {
        (IpNet::V4(net), via) => {
            let builder = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(net.network(), net.prefix_len());
            match via {
                Some(IpAddr::V4(hop)) => builder.gateway(hop).build(),
                _ => builder.scope(RouteScope::Link).build(),
            }
        }
        (IpNet::V6(net), via) => {
            let builder = RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(net.network(), net.prefix_len());
            match via {
                Some(IpAddr::V6(hop)) => builder.gateway(hop).build(),
                _ => builder.build(),
            }
        }
    };
    if let Some(device) = route.device {
        message.attributes.push(RouteAttribute::Oif(device));
    }
    message
}

fn read(message: &RouteMessage) -> Option<KernelRoute> {
    if message.header.protocol != RouteProtocol::Static {
        return None;
    }
    let default = match message.header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    let mut address = default;
    let (mut via, mut device) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(d) => address = plain(d)?,
            RouteAttribute::Gateway(g) => via = plain(g),
            RouteAttribute::Oif(index) => device = Some(*index),
            _ => {}
        }
    }
    let destination = IpNet::new(address, message.header.destination_prefix_length).ok()?;
    Some(KernelRoute { destination, via, device })
}

fn plain(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(a) => Some(IpAddr::V4(*a)),
        RouteAddress::Inet6(a) => Some(IpAddr::V6(*a)),
        _ => None,
    }
}
