//! Tracked connections of the namespace the calling thread is in: list them, delete those that must not go on.
//!
//! Spoken directly over nfnetlink; the messages are few. Parsing never trusts a length.

use crate::flows::TrackedFlow;
use std::{
    io,
    net::IpAddr,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

/// One direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: u8,
    pub source_port: u16,
    pub destination_port: u16,
    /// Type and code, for ICMP.
    pub icmp: Option<(u8, u8)>,
}

#[derive(Clone, Debug)]
pub struct Flow {
    pub original: Tuple,
    pub reply: Tuple,
    family: u8,
    /// The attributes that name this flow to the kernel, as it sent them.
    key: Vec<u8>,
}

const GET: u16 = 0x0101;
const DELETE: u16 = 0x0102;
const NEW: u16 = 0x0100;
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const STATUS: u16 = 3;
const PROTOCOL_INFO: u16 = 4;
const TIMEOUT: u16 = 7;
const ID: u16 = 12;
const ZONE: u16 = 18;
const NESTED: u16 = 0x8000;
/// Bits of the status.
const SEEN_REPLY: u32 = 2;
const ASSURED: u32 = 4;
const CONFIRMED: u32 = 8;
/// A flag of a TCP connection: its windows are not checked.
const BE_LIBERAL: u8 = 8;

/// Deletes every connection that `stays` does not want to keep; returns how many went.
pub fn retain(stays: impl Fn(&Flow) -> bool) -> io::Result<usize> {
    let socket = open()?;
    let victims: Vec<Flow> = dump(&socket)?.into_iter().filter(|f| !stays(f)).collect();
    for flow in &victims {
        delete(&socket, flow)?;
    }
    Ok(victims.len())
}

/// The TCP and UDP connections that are not translated.
pub fn list() -> io::Result<Vec<TrackedFlow>> {
    let socket = open()?;
    send(&socket, GET, libc::NLM_F_REQUEST | libc::NLM_F_DUMP, 0, &[])?;
    let mut flows = Vec::new();
    answers(&socket, |body| flows.extend(tracked(body)))?;
    Ok(flows)
}

/// Makes them known; what is known already stays as it is.
pub fn add(flows: &[TrackedFlow]) -> io::Result<()> {
    let socket = open()?;
    for flow in flows {
        let family = if flow.source.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        let flags = libc::NLM_F_REQUEST | libc::NLM_F_CREATE | libc::NLM_F_EXCL | libc::NLM_F_ACK;
        send(&socket, NEW, flags, family as u8, &description(flow))?;
        match answers(&socket, |_| {}) {
            Err(e) if e.raw_os_error() != Some(libc::EEXIST) => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

fn tracked(body: &[u8]) -> Option<TrackedFlow> {
    let flow = parse(body)?;
    let (there, back) = (flow.original, flow.reply);
    let plain = there.source == back.destination
        && there.destination == back.source
        && (there.source_port, there.destination_port) == (back.destination_port, back.source_port);
    let (mut status, mut timeout, mut tcp_state, mut zone) = (0, None, None, 0);
    for (kind, value, _) in attributes(body.get(4..)?) {
        match kind {
            STATUS => status = number(value)?,
            TIMEOUT => timeout = number(value),
            ZONE => zone = u16::from_be_bytes(*value.first_chunk()?),
            PROTOCOL_INFO => {
                let tcp = attributes(value).find(|(kind, _, _)| *kind == 1).map(|(_, value, _)| value);
                tcp_state = tcp.and_then(|tcp| attributes(tcp).find(|(kind, _, _)| *kind == 1)?.1.first().copied());
            }
            _ => {}
        }
    }
    let known = matches!(i32::from(there.protocol), libc::IPPROTO_TCP | libc::IPPROTO_UDP);
    (plain && known && zone == 0).then_some(TrackedFlow {
        source: there.source,
        source_port: there.source_port,
        destination: there.destination,
        destination_port: there.destination_port,
        protocol: there.protocol,
        timeout: timeout?,
        answered: status & SEEN_REPLY != 0,
        assured: status & ASSURED != 0,
        tcp_state,
    })
}

fn number(value: &[u8]) -> Option<u32> {
    value.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(align(bytes.len()), 0);
    bytes
}

fn nested(kind: u16, parts: &[Vec<u8>]) -> Vec<u8> {
    attribute(kind | NESTED, &parts.concat())
}

/// The attributes with which the kernel makes a connection.
fn description(flow: &TrackedFlow) -> Vec<u8> {
    let there = flow.tuple();
    let back = Tuple {
        source: there.destination,
        destination: there.source,
        source_port: there.destination_port,
        destination_port: there.source_port,
        ..there
    };
    let mut status = CONFIRMED;
    status |= if flow.answered { SEEN_REPLY } else { 0 };
    status |= if flow.assured { ASSURED } else { 0 };
    let mut parts = vec![
        direction(TUPLE_ORIGINAL, &there),
        direction(TUPLE_REPLY, &back),
        attribute(STATUS, &status.to_be_bytes()),
        attribute(TIMEOUT, &flow.timeout.to_be_bytes()),
    ];
    if let (Some(state), libc::IPPROTO_TCP) = (flow.tcp_state, i32::from(flow.protocol)) {
        // Where its windows are is learnt from its next packets.
        let tcp = [attribute(1, &[state]), attribute(4, &[BE_LIBERAL; 2]), attribute(5, &[BE_LIBERAL; 2])];
        parts.push(nested(PROTOCOL_INFO, &[nested(1, &tcp)]));
    }
    parts.concat()
}

fn direction(kind: u16, tuple: &Tuple) -> Vec<u8> {
    let address = |four: u16, address: IpAddr| match address {
        IpAddr::V4(v4) => attribute(four, &v4.octets()),
        IpAddr::V6(v6) => attribute(four + 2, &v6.octets()),
    };
    let addresses = nested(1, &[address(1, tuple.source), address(2, tuple.destination)]);
    let port = |kind: u16, port: u16| attribute(kind, &port.to_be_bytes());
    let ports = [attribute(1, &[tuple.protocol]), port(2, tuple.source_port), port(3, tuple.destination_port)];
    nested(kind, &[addresses, nested(2, &ports)])
}

fn open() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: plain system call; the result is checked.
    let fd = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_NETFILTER) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` was just opened and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn send(socket: &OwnedFd, kind: u16, flags: i32, family: u8, attributes: &[u8]) -> io::Result<()> {
    let length = 20 + attributes.len() as u32;
    let mut message = Vec::with_capacity(length as usize);
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend((flags as u16).to_ne_bytes());
    message.extend([0; 8]);
    message.extend([family, 0, 0, 0]);
    message.extend(attributes);
    nix::sys::socket::send(socket.as_raw_fd(), &message, nix::sys::socket::MsgFlags::empty())?;
    Ok(())
}

/// Feeds the messages of an answer to `each` until the kernel says it is complete.
fn answers(socket: &OwnedFd, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; 128 * 1024];
    loop {
        let flags = nix::sys::socket::MsgFlags::empty();
        let n = nix::sys::socket::recv(socket.as_raw_fd(), &mut buffer, flags)?;
        let mut rest = &buffer[..n];
        while let Some((kind, body, next)) = split_message(rest) {
            match i32::from(kind) {
                libc::NLMSG_DONE => return Ok(()),
                libc::NLMSG_ERROR => return acknowledged(body),
                _ => each(body),
            }
            rest = next;
        }
    }
}

fn acknowledged(body: &[u8]) -> io::Result<()> {
    let code = body.first_chunk().map_or(-libc::EPROTO, |b| i32::from_ne_bytes(*b));
    match -code {
        0 | libc::ENOENT => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

fn dump(socket: &OwnedFd) -> io::Result<Vec<Flow>> {
    send(socket, GET, libc::NLM_F_REQUEST | libc::NLM_F_DUMP, 0, &[])?;
    let mut flows = Vec::new();
    answers(socket, |body| flows.extend(parse(body)))?;
    Ok(flows)
}

fn delete(socket: &OwnedFd, flow: &Flow) -> io::Result<()> {
    send(socket, DELETE, libc::NLM_F_REQUEST | libc::NLM_F_ACK, flow.family, &flow.key)?;
    answers(socket, |_| {})
}

fn align(length: usize) -> usize {
    length.div_ceil(4) * 4
}

/// Type, body and what follows of the first netlink message.
fn split_message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
    let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
    let body = bytes.get(16..length)?;
    Some((kind, body, bytes.get(align(length)..).unwrap_or(&[])))
}

/// Attributes one after another: type without flags, value, and the attribute as a whole.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8], &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
        let kind = u16::from_ne_bytes(*bytes.get(2..)?.first_chunk()?) & 0x3fff;
        let value = bytes.get(4..length)?;
        let whole = bytes.get(..align(length)).unwrap_or(&bytes[..length]);
        bytes = bytes.get(align(length)..).unwrap_or(&[]);
        Some((kind, value, whole))
    })
}

fn parse(body: &[u8]) -> Option<Flow> {
    let family = *body.first()?;
    let (mut original, mut reply, mut key) = (None, None, Vec::new());
    for (kind, value, whole) in attributes(body.get(4..)?) {
        match kind {
            TUPLE_ORIGINAL => original = tuple(value),
            TUPLE_REPLY => reply = tuple(value),
            _ => {}
        }
        if matches!(kind, TUPLE_ORIGINAL | ID | ZONE) {
            key.extend(whole);
        }
    }
    Some(Flow { original: original?, reply: reply?, family, key })
}

fn tuple(bytes: &[u8]) -> Option<Tuple> {
    let (mut source, mut destination) = (None, None);
    let (mut protocol, mut ports, mut icmp) = (None, (0, 0), (None, None));
    for (kind, value, _) in attributes(bytes) {
        for (inner, value, _) in attributes(value) {
            match (kind, inner) {
                (1, 1 | 3) => source = address(value),
                (1, 2 | 4) => destination = address(value),
                (2, 1) => protocol = value.first().copied(),
                (2, 2) => ports.0 = port(value)?,
                (2, 3) => ports.1 = port(value)?,
                (2, 5 | 8) => icmp.0 = value.first().copied(),
                (2, 6 | 9) => icmp.1 = value.first().copied(),
                _ => {}
            }
        }
    }
    Some(Tuple {
        source: source?,
        destination: destination?,
        protocol: protocol?,
        source_port: ports.0,
        destination_port: ports.1,
        icmp: icmp.0.zip(icmp.1),
    })
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(v4.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

fn port(bytes: &[u8]) -> Option<u16> {
    bytes.first_chunk().map(|b| u16::from_be_bytes(*b))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_told_of_a_connection_is_what_is_made_of_it() {
        for (source, destination) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
            let flow = TrackedFlow {
                source: source.parse().unwrap(),
                source_port: 40_000,
                destination: destination.parse().unwrap(),
                destination_port: 22,
                protocol: 6,
                timeout: 431_999,
                answered: true,
                assured: true,
                tcp_state: Some(3),
            };
            assert_eq!(tracked(&[vec![2, 0, 0, 0], description(&flow)].concat()), Some(flow.clone()));
            let udp = TrackedFlow { protocol: 17, tcp_state: None, answered: false, assured: false, ..flow };
            assert_eq!(tracked(&[vec![2, 0, 0, 0], description(&udp)].concat()), Some(udp));
        }
    }

    #[test]
    fn reads_a_tcp_flow() {
        let ip = [attribute(1, &[10, 0, 0, 1]), attribute(2, &[10, 0, 0, 2])].concat();
        let proto = [attribute(1, &[6]), attribute(2, &[4, 0]), attribute(3, &[0, 22])].concat();
        let one = [attribute(0x8001, &ip), attribute(0x8002, &proto)].concat();
        let body = [vec![2, 0, 0, 0], attribute(0x8001, &one), attribute(0x8002, &one), attribute(12, &[1, 2, 3, 4])].concat();
        let flow = parse(&body).unwrap();
        assert_eq!(flow.original.destination_port, 22);
        assert_eq!(flow.original.source_port, 1024);
        assert_eq!(flow.original.protocol, 6);
        assert_eq!(flow.key.len(), attribute(1, &one).len() + 8);
    }

    proptest! {
        #[test]
        fn bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
            let _ = split_message(&bytes);
            prop_assert!(attributes(&bytes).count() <= bytes.len());
        }
    }
}
