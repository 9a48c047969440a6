//! DHCPv4: every lease is fixed by the port's specification, so the server has no state.
//!
//! Frames come and go raw, because a client that has no address yet can neither be asked by ARP nor be sent to by an
//! ordinary socket. Only frames that came in at a port of this host are seen: the firewall keeps those of other hosts
//! from the bridge's own device.

mod frame;
mod message;
mod options;
mod reply;

use std::{io, os::fd::OwnedFd};

use tokio::io::unix::AsyncFd;

use super::{Shared, Task};
use crate::{Result, names, netns::Netns, sys::packet};

pub async fn start(netns: &Netns, snapshot: Shared) -> Result<Task> {
    let socket = netns
        .run("open DHCP socket", || {
            let socket = packet::open(names::BRIDGE, packet::ETH_IPV4)?;
            packet::only_udp_to(&socket, 67)?;
            packet::register(socket)
        })
        .await?;
    Ok(Task::spawn(serve(socket, snapshot)))
}

async fn serve(socket: AsyncFd<OwnedFd>, snapshot: Shared) {
    let mut buffer = vec![0; 2048];
    loop {
        let received = socket.async_io(tokio::io::Interest::READABLE, |s| packet::receive(s, &mut buffer)).await;
        let frame = match received {
            Ok(n) => &buffer[..n],
            Err(e) if gone(&e) => return,
            Err(_) => continue,
        };
        let snapshot = snapshot.load();
        if let Some(answer) = reply::answer(&snapshot, frame)
            && let Err(error) = packet::send(socket.get_ref(), &answer)
        {
            tracing::warn!(network = snapshot.network.id, %error, "DHCP answer not sent");
        }
    }
}

/// The bridge was deleted. (A bridge that is down only reports once and goes on.)
fn gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENXIO | libc::EBADF))
}
