//! DNS for guests: names of the network's own ports, everything else from the host's resolvers.
//!
//! The sockets guests talk to are in the network's namespace; the sockets towards the resolvers are in the process's
//! own. Between the two only a question passes, decoded and written anew, and only to resolvers the operator
//! configured: a tenant cannot choose where the host sends packets.

mod answer;
mod forward;
#[cfg(test)]
mod hostile;
mod listen;
mod request;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UdpSocket};

use super::{Shared, Task};
use crate::{Result, netns::Netns};

pub use forward::Forwarder;

/// The resolvers of this machine.
pub fn system_upstreams() -> Vec<SocketAddr> {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    resolvers(&text)
}

fn resolvers(text: &str) -> Vec<SocketAddr> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .filter_map(|rest| rest.trim().parse::<IpAddr>().ok())
        .map(|address| SocketAddr::from((address, 53)))
        .take(3)
        .collect()
}

/// Opens the sockets of all `addresses` at once and serves each.
pub async fn start(netns: &Netns, addresses: Vec<IpAddr>, snapshot: &Shared, forwarder: &Arc<Forwarder>) -> Result<Vec<(IpAddr, Task)>> {
    if addresses.is_empty() {
        return Ok(Vec::new());
    }
    let sockets = netns
        .run("open DNS sockets", move || {
            addresses
                .into_iter()
                .map(|address| {
                    let at = SocketAddr::from((address, 53));
                    let udp = UdpSocket::from_std(bind_udp(at)?)?;
                    let tcp = TcpListener::from_std(bind_tcp(at)?)?;
                    Ok((address, udp, tcp))
                })
                .collect::<io::Result<Vec<_>>>()
        })
        .await?;
    Ok(sockets
        .into_iter()
        .map(|(address, udp, tcp)| {
            let (snapshot, forwarder) = (snapshot.clone(), forwarder.clone());
            let task = Task::spawn(listen::serve(Arc::new(udp), tcp, snapshot, forwarder));
            (address, task)
        })
        .collect())
}

fn bind_udp(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

pub(super) fn bind_tcp(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    // A restarted agent finds its predecessor's connections in their last minute.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(128)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf() {
        let found = resolvers("# x\nnameserver 192.0.2.1\n search a b\nnameserver ::1\nnameserver fe80::1%eth0\n");
        assert_eq!(found, ["192.0.2.1:53".parse().unwrap(), "[::1]:53".parse().unwrap()]);
    }
}
