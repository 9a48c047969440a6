//! Devices, over the netlink socket of one namespace.

use futures_util::TryStreamExt;
use rtnetlink::{
    Handle, LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVeth, LinkVxlan,
    packet_route::link::{InfoData, InfoVeth, LinkAttribute, LinkFlags, LinkMessage, Stats64},
};

use unkai_crashpoint::point;

use crate::{Error, Mac, Result, error::kernel_errno, netns::Netns};

#[derive(Clone, Debug)]
pub struct Links {
    pub(super) handle: Handle,
    pub(super) namespace: String,
}

/// A device as the kernel has it.
#[derive(Clone, Debug)]
pub struct Link {
    pub index: u32,
    pub name: String,
    pub up: bool,
    pub master: Option<u32>,
    pub mtu: u32,
    pub mac: Option<Mac>,
    pub alias: Option<String>,
    pub stats: Stats64,
}

impl Links {
    pub fn new(handle: Handle, namespace: &str) -> Self {
        Self { handle, namespace: namespace.to_owned() }
    }

    pub fn by_name(&self, name: &str) -> LinkMessageBuilder<LinkUnspec> {
        LinkUnspec::new_with_name(name)
    }

    pub fn by_index(&self, index: u32) -> LinkMessageBuilder<LinkUnspec> {
        LinkUnspec::new_with_index(index)
    }

    pub(super) fn on(&self, what: &str) -> String {
        format!("{what} in {}", self.namespace)
    }

    pub async fn all(&self) -> Result<Vec<Link>> {
        self.handle.link().get().execute().map_ok(read).try_collect().await.map_err(Error::netlink(self.on("list devices")))
    }

    pub async fn get(&self, name: &str) -> Result<Option<Link>> {
        let found = self.handle.link().get().match_name(name).execute().try_next().await;
        match found {
            Ok(message) => Ok(message.map(read)),
            Err(e) if kernel_errno(&e) == Some(libc::ENODEV) => Ok(None),
            Err(e) => Err(Error::netlink(self.on(&format!("look for device {name}")))(e)),
        }
    }

    /// The device, which was made or seen a moment ago.
    pub async fn must(&self, name: &str) -> Result<Link> {
        self.get(name).await?.ok_or_else(|| Error::Invalid(self.on(&format!("device {name} vanished while it was set up"))))
    }

    pub async fn change(&self, message: LinkMessage, what: &str) -> Result<()> {
        let result = self.handle.link().change(message).execute().await;
        point("network: a device is changed");
        result.map_err(Error::netlink(self.on(what)))
    }

    pub async fn delete(&self, name: &str) -> Result<()> {
        let Some(link) = self.get(name).await? else {
            return Ok(());
        };
        self.delete_index(link.index, name).await
    }

    pub async fn delete_index(&self, index: u32, name: &str) -> Result<()> {
        match self.handle.link().del(index).execute().await {
            Err(e) if kernel_errno(&e) != Some(libc::ENODEV) => Err(Error::netlink(self.on(&format!("delete device {name}")))(e)),
            _ => {
                point("network: a device is deleted");
                Ok(())
            }
        }
    }

    /// Deletes every device but `lo` in one go: one by one, the kernel waits for all processors after each.
    pub async fn delete_all(&self) -> Result<()> {
        const DOOMED: u32 = 0x756e_6b61;
        let all = || async { Ok::<_, Error>(self.all().await?.into_iter().filter(|l| l.name != "lo")) };
        for link in all().await? {
            let message = self.by_index(link.index).link_group(DOOMED).build();
            // One that went in the meantime (the guest closed its tap) is as good as deleted.
            let _ = self.change(message, "mark device for deletion").await;
        }
        let message = self.by_index(0).link_group(DOOMED).build();
        let _ = self.handle.link().del_with_message(message).execute().await;
        for link in all().await? {
            self.delete_index(link.index, &link.name).await?;
        }
        Ok(())
    }

    /// `true` when the device was made, `false` when it was there.
    async fn add(&self, message: LinkMessage, what: &str) -> Result<bool> {
        match self.handle.link().add(message).execute().await {
            Ok(()) => {
                point("network: a device is made");
                Ok(true)
            }
            Err(e) if kernel_errno(&e) == Some(libc::EEXIST) => Ok(false),
            Err(e) => Err(Error::netlink(self.on(what))(e)),
        }
    }

    pub async fn add_bridge(&self, name: &str) -> Result<bool> {
        let message = LinkBridge::new(name).mcast_snooping(false).build();
        self.add(message, &format!("make bridge {name}")).await
    }

    /// A VXLAN device whose outer packets belong to this namespace, placed in `inside`.
    pub async fn add_vxlan(&self, inside: &Netns, name: &str, vxlan: Vxlan) -> Result<bool> {
        let builder = LinkVxlan::new(name, vxlan.vni).port(4789).learning(false);
        let builder = match vxlan.local {
            std::net::IpAddr::V4(local) => builder.local(local),
            std::net::IpAddr::V6(local) => builder.local6(local),
        };
        let message = builder.mtu(vxlan.mtu).setns_by_fd(inside.raw_fd()).build();
        self.add(message, &format!("make VXLAN device {} for {}", vxlan.vni, inside.name())).await
    }

    /// A veth pair: `name` here, `peer` with `peer_mac` in `other`.
    pub async fn add_veth(&self, name: &str, other: &Netns, peer: VethEnd<'_>) -> Result<bool> {
        let mut end = LinkMessageBuilder::<LinkUnspec>::default().name(peer.name).mtu(peer.mtu).setns_by_fd(other.raw_fd());
        if let Some(mac) = peer.mac {
            end = end.address(mac.0.to_vec());
        }
        let message = LinkVeth::new(name, peer.name).set_info_data(InfoData::Veth(InfoVeth::Peer(end.build()))).mtu(peer.mtu).build();
        self.add(message, &format!("make veth pair {name} to {}/{}", other.name(), peer.name)).await
    }

    /// No learning on a bridge port: its addresses are told, not seen.
    pub async fn set_learning(&self, index: u32, learning: bool) -> Result<()> {
        let message = LinkBridgePort::new(index).learning(learning).build();
        let result = self.handle.link().set_port(message).execute().await;
        result.map_err(Error::netlink(self.on("set learning of bridge port")))
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Vxlan {
    pub vni: u32,
    pub local: std::net::IpAddr,
    pub mtu: u32,
}

#[derive(Clone, Copy, Debug)]
pub struct VethEnd<'a> {
    pub name: &'a str,
    pub mac: Option<Mac>,
    pub mtu: u32,
}

fn read(message: LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        up: message.header.flags.contains(LinkFlags::Up),
        master: None,
        mtu: 0,
        mac: None,
        alias: None,
        stats: Stats64::default(),
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Controller(index) => link.master = Some(index),
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::Address(mac) => link.mac = mac.try_into().ok().map(Mac),
            LinkAttribute::IfAlias(alias) => link.alias = Some(alias),
            LinkAttribute::Stats64(stats) => link.stats = stats,
            _ => {}
        }
    }
    link
}
