//! Who has which address, told and permanent: what a bridge answers from when its ports suppress the question.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};

use super::Links;
use crate::{Error, Mac, Result, error::kernel_errno};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Neighbour {
    pub address: IpAddr,
    pub mac: Mac,
}

impl Links {
    /// Makes the permanent neighbours of a device exactly `wanted`.
    pub async fn set_neighbours(&self, device: u32, wanted: &BTreeSet<Neighbour>) -> Result<()> {
        let list = self.handle.neighbours().get().execute();
        let messages: Vec<NeighbourMessage> = list.try_collect().await.map_err(Error::netlink(self.on("list neighbours")))?;
        let ours = |m: &&NeighbourMessage| m.header.ifindex == device && m.header.state == NeighbourState::Permanent;
        let have: BTreeMap<Neighbour, &NeighbourMessage> = messages.iter().filter(ours).filter_map(|m| Some((read(m)?, m))).collect();
        let kept: BTreeSet<IpAddr> = wanted.iter().map(|w| w.address).collect();
        // One address has one owner: the new one replaces the old one, which must not be deleted afterwards.
        for (neighbour, message) in &have {
            if !kept.contains(&neighbour.address) {
                match self.handle.neighbours().del((*message).clone()).execute().await {
                    Err(e) if kernel_errno(&e) != Some(libc::ENOENT) => {
                        return Err(Error::netlink(self.on(&format!("forget neighbour {}", neighbour.address)))(e));
                    }
                    _ => {}
                }
            }
        }
        for neighbour in wanted.iter().filter(|w| !have.contains_key(w)) {
            let request = self.handle.neighbours().add(device, neighbour.address).link_layer_address(&neighbour.mac.0).replace();
            let what = || self.on(&format!("tell that {} is at {}", neighbour.address, neighbour.mac));
            match request.execute().await {
                // A kernel without IPv6 has no guests that speak it, and has to carry the others.
                Err(e) if neighbour.address.is_ipv6() && kernel_errno(&e) == Some(libc::EAFNOSUPPORT) => {}
                result => result.map_err(Error::netlink(what()))?,
            }
        }
        Ok(())
    }
}

fn read(message: &NeighbourMessage) -> Option<Neighbour> {
    let (mut address, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => address = Some(IpAddr::V4(*ip)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => address = Some(IpAddr::V6(*ip)),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.clone().try_into().ok().map(Mac),
            _ => {}
        }
    }
    Some(Neighbour { address: address?, mac: mac? })
}
