//! IPv6 router advertisements (RFC 4861): prefixes for SLAAC, and a default router when there is one.
//!
//! A router's interface advertises itself. Where no router of this host is in the network, the network's services
//! advertise the prefixes with a router lifetime of zero, so guests get addresses but no default route.

mod encode;

use std::{
    io,
    net::{Ipv6Addr, SocketAddrV6},
    os::fd::AsRawFd,
    time::Duration,
};

use ipnet::{IpNet, Ipv6Net};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{io::unix::AsyncFd, time::Instant};

use super::{Shared, Snapshot, Task};
use crate::{
    Mac, Result,
    netns::Netns,
    spec::{Ipv6Mode, RouterInterface},
};

use encode::{Advertisement, Prefix};

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
const ROUTER_SOLICITATION: u8 = 133;
/// Often at first, because guests may have come up before us.
const FIRST: [Duration; 3] = [Duration::from_millis(100), Duration::from_secs(2), Duration::from_secs(8)];
const PERIOD: Duration = Duration::from_secs(60);
const ROUTER_LIFETIME: u16 = 1800;

/// Who is speaking.
#[derive(Clone, Debug)]
pub enum Sender {
    Service,
    Router { mac: Mac, addresses: Vec<IpNet> },
}

impl Sender {
    pub fn router(interface: &RouterInterface) -> Self {
        Self::Router { mac: interface.mac, addresses: interface.addresses.clone() }
    }

    /// What to say now, if anything.
    fn say(&self, snapshot: &Snapshot) -> Option<Vec<u8>> {
        let subnets = snapshot.network.subnets.iter();
        let mut subnets = subnets.filter_map(|s| match s.cidr {
            IpNet::V6(net) => Some((net.trunc(), s.ipv6_ra_mode?, s)),
            IpNet::V4(_) => None,
        });
        let (mac, lifetime, subnets): (_, _, Vec<_>) = match self {
            Self::Service if snapshot.router_present => return None,
            Self::Service => (snapshot.mac, 0, subnets.collect()),
            Self::Router { mac, addresses } => {
                let joined = |net: &Ipv6Net| addresses.iter().any(|a| IpNet::V6(*net).contains(&a.addr()));
                (*mac, ROUTER_LIFETIME, subnets.by_ref().filter(|(net, ..)| joined(net)).collect())
            }
        };
        if subnets.is_empty() {
            return None;
        }
        let mut dns: Vec<Ipv6Addr> =
            subnets.iter().flat_map(|(_, _, subnet)| &subnet.dns_servers).filter_map(|address| v6(*address)).collect();
        if dns.is_empty() {
            dns.extend(snapshot.service_nets().filter_map(|net| v6(net.addr())));
        }
        let advertisement = Advertisement {
            mac,
            mtu: snapshot.network.mtu,
            lifetime,
            managed: subnets.iter().any(|(_, mode, _)| *mode == Ipv6Mode::Dhcpv6Stateful),
            other: subnets.iter().any(|(_, mode, _)| *mode != Ipv6Mode::Slaac),
            prefixes: subnets.iter().map(|(net, mode, _)| Prefix { net: *net, autonomous: *mode != Ipv6Mode::Dhcpv6Stateful }).collect(),
            dns,
            domain: snapshot.network.dns.domain.clone(),
        };
        Some(advertisement.encode())
    }
}

fn v6(address: std::net::IpAddr) -> Option<Ipv6Addr> {
    match address {
        std::net::IpAddr::V6(a) => Some(a),
        std::net::IpAddr::V4(_) => None,
    }
}

pub async fn start(netns: &Netns, device: &str, sender: Sender, snapshot: Shared) -> Result<Task> {
    let name = device.to_owned();
    let (socket, index) = netns.run("open advertisement socket", move || open(&name)).await?;
    Ok(Task::spawn(speak(socket, index, sender, snapshot)))
}

/// A raw ICMPv6 socket on one device that receives router solicitations only; the kernel does the checksums.
fn open(device: &str) -> io::Result<(AsyncFd<Socket>, u32)> {
    let name = std::ffi::CString::new(device)?;
    // SAFETY: `name` is a C string that lives through the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 {
        return Err(io::Error::last_os_error());
    }
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
    socket.set_nonblocking(true)?;
    socket.bind_device(Some(device.as_bytes()))?;
    socket.set_multicast_hops_v6(255)?;
    socket.set_unicast_hops_v6(255)?;
    socket.set_multicast_loop_v6(false)?;
    socket.join_multicast_v6(&ALL_ROUTERS, index)?;
    only_solicitations(&socket)?;
    Ok((crate::sys::packet::register(socket)?, index))
}

fn only_solicitations(socket: &Socket) -> io::Result<()> {
    // One bit per type, set for what is *not* wanted.
    let mut filter = [u32::MAX; 8];
    filter[usize::from(ROUTER_SOLICITATION) / 32] &= !(1 << (ROUTER_SOLICITATION % 32));
    const ICMPV6_FILTER: libc::c_int = 1;
    // SAFETY: the filter lives through the call and its length is given.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_ICMPV6,
            ICMPV6_FILTER,
            filter.as_ptr().cast(),
            size_of_val(&filter) as libc::socklen_t,
        )
    };
    if set < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

async fn speak(socket: AsyncFd<Socket>, index: u32, sender: Sender, snapshot: Shared) {
    let everybody = SocketAddrV6::new(ALL_NODES, 0, 0, index);
    let mut first = FIRST.iter().copied();
    let mut next = Instant::now() + first.next().unwrap_or(PERIOD);
    loop {
        let asked = tokio::time::timeout_at(next, solicited(&socket)).await;
        match asked {
            Ok(Err(error)) => {
                tracing::debug!(%error, "advertisement socket failed");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            // RFC 4861, 6.2.6: no answer at once to every question; guests that boot together share one.
            Ok(Ok(())) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(_) => next = Instant::now() + first.next().unwrap_or(PERIOD),
        }
        if let Some(message) = sender.say(&snapshot.load())
            && let Err(error) = socket.get_ref().send_to(&message, &everybody.into())
        {
            tracing::debug!(%error, "advertisement not sent");
        }
    }
}

/// Waits for a solicitation and takes all that are there.
async fn solicited(socket: &AsyncFd<Socket>) -> io::Result<()> {
    let mut ready = socket.readable().await?;
    let mut buffer = [std::mem::MaybeUninit::uninit(); 256];
    loop {
        match socket.get_ref().recv(&mut buffer) {
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
            Err(e) => return Err(e),
        }
    }
    ready.clear_ready();
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn snapshot(router_present: bool) -> Snapshot {
        let network = serde_json::from_str(
            r#"{"id":"n","service":{"mac":"fa:16:3e:00:00:02","addresses":[]},"subnets":[
                {"id":"a","cidr":"2001:db8:1::/64","ipv6_ra_mode":"slaac"},
                {"id":"b","cidr":"2001:db8:2::/64","ipv6_ra_mode":"dhcpv6-stateful"},
                {"id":"c","cidr":"2001:db8:3::/64"},
                {"id":"d","cidr":"10.0.0.0/24"}]}"#,
        )
        .unwrap();
        Snapshot::new(Arc::new(network), [], router_present)
    }

    #[test]
    fn a_router_speaks_for_the_subnets_it_is_in() {
        let router = Sender::Router { mac: Mac([2, 0, 0, 0, 0, 1]), addresses: vec!["2001:db8:1::1/64".parse().unwrap()] };
        let said = router.say(&snapshot(true)).unwrap();
        assert_eq!(said[6..8], ROUTER_LIFETIME.to_be_bytes());
        assert!(said.windows(6).any(|w| w == [0x20, 0x01, 0x0d, 0xb8, 0, 1]));
        assert!(!said.windows(6).any(|w| w == [0x20, 0x01, 0x0d, 0xb8, 0, 2]));
    }

    #[test]
    fn services_speak_only_where_no_router_does() {
        assert!(Sender::Service.say(&snapshot(true)).is_none());
        let said = Sender::Service.say(&snapshot(false)).unwrap();
        assert_eq!(said[6..8], [0, 0], "nobody's default router");
        assert_eq!(said[5], 0x80 | 0x40);
    }
}
