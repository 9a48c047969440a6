//! Addresses of a device.

use std::net::IpAddr;

use futures_util::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::packet_route::{
    AddressFamily,
    address::{AddressAttribute, AddressHeaderFlags, AddressMessage},
};

use super::Links;
use crate::{Error, Result, error::kernel_errno};

impl Links {
    async fn address_messages(&self, index: u32) -> Result<Vec<AddressMessage>> {
        let request = self.handle.address().get().set_link_index_filter(index);
        request.execute().try_collect().await.map_err(Error::netlink(self.on("list addresses")))
    }

    /// Makes the device's addresses exactly `wanted` (its IPv6 link-local one aside); returns what is new.
    pub async fn set_addresses(&self, index: u32, wanted: &[IpNet]) -> Result<Vec<IpNet>> {
        let have = self.address_messages(index).await?;
        for message in &have {
            let stale = net(message).is_some_and(|net| !is_link_local(&net) && !wanted.contains(&net));
            if stale {
                self.delete_address(message.clone()).await?;
            }
        }
        let have: Vec<IpNet> = have.iter().filter_map(net).collect();
        let mut added = Vec::new();
        for net in wanted.iter().filter(|net| !have.contains(net)) {
            if self.add_address(index, *net).await? {
                added.push(*net);
            }
        }
        Ok(added)
    }

    async fn add_address(&self, index: u32, net: IpNet) -> Result<bool> {
        let mut request = self.handle.address().add(index, net.addr(), net.prefix_len());
        if net.addr().is_ipv6() {
            // Nobody else can have it: addresses are allocated by the controller.
            request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        }
        match request.execute().await {
            Ok(()) => Ok(true),
            Err(e) if kernel_errno(&e) == Some(libc::EEXIST) => Ok(false),
            Err(e) => Err(Error::netlink(self.on(&format!("add address {net}")))(e)),
        }
    }

    async fn delete_address(&self, message: AddressMessage) -> Result<()> {
        match self.handle.address().del(message).execute().await {
            Err(e) if kernel_errno(&e) != Some(libc::EADDRNOTAVAIL) => Err(Error::netlink(self.on("delete address"))(e)),
            _ => Ok(()),
        }
    }
}

fn is_link_local(net: &IpNet) -> bool {
    matches!(net.addr(), IpAddr::V6(a) if a.is_unicast_link_local())
}

fn net(message: &AddressMessage) -> Option<IpNet> {
    let wanted = match message.header.family {
        AddressFamily::Inet => |a: &AddressAttribute| match a {
            AddressAttribute::Local(ip) => Some(*ip),
            _ => None,
        },
        _ => |a: &AddressAttribute| match a {
            AddressAttribute::Address(ip) => Some(*ip),
            _ => None,
        },
    };
    let address = message.attributes.iter().find_map(wanted)?;
    IpNet::new(address, message.header.prefix_len).ok()
}
