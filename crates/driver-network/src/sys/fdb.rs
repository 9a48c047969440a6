//! Forwarding entries of a VXLAN device: told by the controller, never learned.
//!
//! A peer's MAC has an entry on the VXLAN device (which remote host) and one on the bridge (out of the VXLAN port).
//! The all-zero MAC of the VXLAN device is the list of hosts that get copies of broadcast and unknown frames.

use std::{collections::BTreeSet, net::IpAddr};

use futures_util::StreamExt;
use futures_util::TryStreamExt;
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::{
    AddressFamily,
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState},
    route::RouteType,
};

use super::Links;
use crate::{Error, Mac, Result, error::kernel_errno};

/// `vtep` is the remote host, or none for the bridge's side of the entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FdbEntry {
    pub mac: Mac,
    pub vtep: Option<IpAddr>,
}

impl Links {
    /// Makes the static entries of the VXLAN device exactly `wanted`.
    pub async fn set_fdb(&self, device: u32, wanted: &BTreeSet<FdbEntry>) -> Result<()> {
        let have = self.fdb(device).await?;
        for entry in have.difference(wanted) {
            self.delete_fdb(device, entry).await?;
        }
        for entry in wanted.difference(&have) {
            self.add_fdb(device, entry).await?;
        }
        Ok(())
    }

    async fn fdb(&self, device: u32) -> Result<BTreeSet<FdbEntry>> {
        let request = self.handle.neighbours().get().set_address_family(AddressFamily::Bridge);
        let messages: Vec<NeighbourMessage> =
            request.execute().try_collect().await.map_err(Error::netlink(self.on("list forwarding entries")))?;
        Ok(messages.iter().filter(|m| m.header.ifindex == device).filter_map(read).collect())
    }

    async fn add_fdb(&self, device: u32, entry: &FdbEntry) -> Result<()> {
        // Appending: a MAC may have several hosts (the all-zero one has).
        let how = if entry.vtep.is_some() { NLM_F_APPEND } else { 0 };
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewNeighbour(message(device, entry)));
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | how;
        let what = || self.on(&format!("add forwarding entry {} to {:?}", entry.mac, entry.vtep));
        let mut answers = self.handle.clone().request(request).map_err(|e| Error::netlink(what())(e))?;
        while let Some(answer) = answers.next().await {
            if let NetlinkPayload::Error(e) = answer.payload
                && e.code.is_some()
                && -e.raw_code() != libc::EEXIST
            {
                return Err(Error::netlink(what())(rtnetlink::Error::NetlinkError(e)));
            }
        }
        Ok(())
    }

    async fn delete_fdb(&self, device: u32, entry: &FdbEntry) -> Result<()> {
        match self.handle.neighbours().del(message(device, entry)).execute().await {
            Err(e) if kernel_errno(&e) != Some(libc::ENOENT) => {
                let what = format!("delete forwarding entry {} to {:?}", entry.mac, entry.vtep);
                Err(Error::netlink(self.on(&what))(e))
            }
            _ => Ok(()),
        }
    }
}

fn message(device: u32, entry: &FdbEntry) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = device;
    message.header.state = NeighbourState::Noarp;
    message.header.kind = RouteType::Unspec;
    let mac = NeighbourAttribute::LinkLayerAddress(entry.mac.0.to_vec());
    message.attributes.push(mac);
    message.header.flags = match entry.vtep {
        None => NeighbourFlags::Controller,
        Some(vtep) => {
            let vtep = match vtep {
                IpAddr::V4(a) => NeighbourAddress::Inet(a),
                IpAddr::V6(a) => NeighbourAddress::Inet6(a),
            };
            message.attributes.push(NeighbourAttribute::Destination(vtep));
            message.header.state = NeighbourState::Permanent;
            NeighbourFlags::Own
        }
    };
    message
}

/// Only what [`message`] makes: not the device's own address, not what a bridge learned.
fn read(message: &NeighbourMessage) -> Option<FdbEntry> {
    let mac = message.attributes.iter().find_map(|a| match a {
        NeighbourAttribute::LinkLayerAddress(m) => m.clone().try_into().ok().map(Mac),
        _ => None,
    })?;
    if message.header.flags.contains(NeighbourFlags::Own) {
        let vtep = message.attributes.iter().find_map(|a| match a {
            NeighbourAttribute::Destination(to) => remote(to),
            _ => None,
        });
        return vtep.map(|vtep| FdbEntry { mac, vtep: Some(vtep) });
    }
    let ours = message.header.state == NeighbourState::Noarp;
    ours.then_some(FdbEntry { mac, vtep: None })
}

/// The family of the message is `bridge`, so the address may come as bare bytes.
fn remote(address: &NeighbourAddress) -> Option<IpAddr> {
    match address {
        NeighbourAddress::Inet(ip) => Some(IpAddr::V4(*ip)),
        NeighbourAddress::Inet6(ip) => Some(IpAddr::V6(*ip)),
        NeighbourAddress::Other(bytes) => match bytes.len() {
            4 => bytes.first_chunk::<4>().map(|b| IpAddr::from(*b)),
            16 => bytes.first_chunk::<16>().map(|b| IpAddr::from(*b)),
            _ => None,
        },
        _ => None,
    }
}
