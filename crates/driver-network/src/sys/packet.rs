//! Raw Ethernet sockets on one device, and the two frames we make by hand.

use std::{
    ffi::CString,
    io,
    net::Ipv4Addr,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
};

use tokio::io::unix::AsyncFd;

use crate::Mac;

pub const ETH_IPV4: u16 = 0x0800;
pub const ETH_ARP: u16 = 0x0806;

/// A raw socket bound to `device` in the namespace of the calling thread, receiving frames of one type.
pub fn open(device: &str, ethertype: u16) -> io::Result<OwnedFd> {
    let protocol = ethertype.to_be();
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // Protocol 0 receives nothing until bind says what, so no frame of another device slips in before.
    // SAFETY: plain system call; the result is checked.
    let fd = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` was just opened and nobody else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let name = CString::new(device)?;
    // SAFETY: `name` is a C string that lives through the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: sockaddr_ll is plain data, all zero is a valid value of it.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol;
    address.sll_ifindex = index as i32;
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the address lives through the call and its length is given.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    if bound < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(socket)
}

/// Lets only unfragmented IPv4/UDP frames to one port through, in the kernel.
pub fn only_udp_to(socket: &OwnedFd, port: u16) -> io::Result<()> {
    let step = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    use libc::{BPF_ABS, BPF_B, BPF_H, BPF_IND, BPF_JEQ, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_LDX, BPF_MSH, BPF_RET};
    let mut program = [
        step(BPF_LD | BPF_B | BPF_ABS, 0, 0, 23),
        step(BPF_JMP | BPF_JEQ | BPF_K, 0, 6, libc::IPPROTO_UDP as u32),
        step(BPF_LD | BPF_H | BPF_ABS, 0, 0, 20),
        step(BPF_JMP | BPF_JSET | BPF_K, 4, 0, 0x3fff),
        step(BPF_LDX | BPF_B | BPF_MSH, 0, 0, 14),
        step(BPF_LD | BPF_H | BPF_IND, 0, 0, 16),
        step(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, u32::from(port)),
        step(BPF_RET | BPF_K, 0, 0, 0xffff),
        step(BPF_RET | BPF_K, 0, 0, 0),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the program outlives the call, which copies it.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if set < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Hands a socket to the runtime.
pub fn register<T: AsFd + AsRawFd>(socket: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: the types this is used with own their descriptor: it stays open and the same until they are dropped.
    unsafe { AsyncFd::register(socket) }.map_err(|e| e.into_parts().1)
}

pub fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    nix::sys::socket::recv(socket.as_raw_fd(), buffer, nix::sys::socket::MsgFlags::empty()).map_err(Into::into)
}

pub fn send(socket: &OwnedFd, frame: &[u8]) -> io::Result<usize> {
    nix::sys::socket::send(socket.as_raw_fd(), frame, nix::sys::socket::MsgFlags::empty()).map_err(Into::into)
}

/// "This address is at this MAC", to everybody.
pub fn gratuitous_arp(mac: Mac, address: Ipv4Addr) -> Vec<u8> {
    let mut frame = Vec::with_capacity(42);
    frame.extend(Mac::BROADCAST.0);
    frame.extend(mac.0);
    frame.extend(ETH_ARP.to_be_bytes());
    frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(mac.0);
    frame.extend(address.octets());
    frame.extend([0; 6]);
    frame.extend(address.octets());
    frame
}

/// An IPv4/UDP frame with both checksums.
pub struct UdpFrame<'a> {
    pub source: (Mac, Ipv4Addr, u16),
    pub destination: (Mac, Ipv4Addr, u16),
    pub payload: &'a [u8],
}

impl UdpFrame<'_> {
    pub fn encode(&self) -> Vec<u8> {
        let udp_length = (8 + self.payload.len()) as u16;
        let mut ip = vec![0x45, 0xc0];
        ip.extend((20 + udp_length).to_be_bytes());
        ip.extend([0, 0, 0x40, 0, 64, libc::IPPROTO_UDP as u8, 0, 0]);
        ip.extend(self.source.1.octets());
        ip.extend(self.destination.1.octets());
        let sum = checksum(&[&ip]);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());

        let mut udp = Vec::with_capacity(usize::from(udp_length));
        udp.extend(self.source.2.to_be_bytes());
        udp.extend(self.destination.2.to_be_bytes());
        udp.extend(udp_length.to_be_bytes());
        udp.extend([0, 0]);
        udp.extend(self.payload);
        let tail = [0, libc::IPPROTO_UDP as u8, (udp_length >> 8) as u8, udp_length as u8];
        let sum = match checksum(&[&ip[12..20], &tail, &udp]) {
            0 => 0xffff,
            sum => sum,
        };
        udp[6..8].copy_from_slice(&sum.to_be_bytes());

        let mut frame = Vec::with_capacity(14 + ip.len() + udp.len());
        frame.extend(self.destination.0.0);
        frame.extend(self.source.0.0);
        frame.extend(ETH_IPV4.to_be_bytes());
        frame.extend(ip);
        frame.extend(udp);
        frame
    }
}

/// The Internet checksum of the parts, each of even length but the last.
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u32;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_verify() {
        let mac = Mac([2, 0, 0, 0, 0, 1]);
        let frame =
            UdpFrame { source: (mac, Ipv4Addr::new(10, 0, 0, 2), 67), destination: (mac, Ipv4Addr::new(10, 0, 0, 9), 68), payload: b"odd" }
                .encode();
        assert_eq!(checksum(&[&frame[14..34]]), 0);
        let pseudo = [0, 17, 0, 11];
        assert_eq!(checksum(&[&frame[26..34], &pseudo, &frame[34..]]), 0);
    }

    #[test]
    fn gratuitous_arp_is_a_broadcast_request_for_itself() {
        let frame = gratuitous_arp(Mac([2, 0, 0, 0, 0, 1]), Ipv4Addr::new(203, 0, 113, 5));
        assert_eq!(frame.len(), 42);
        assert_eq!(frame[28..32], frame[38..42]);
    }
}
