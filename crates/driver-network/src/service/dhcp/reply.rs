//! From a client's frame to the answer's frame, purely.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

use super::{
    frame,
    message::{self, Message, Options},
    options,
};
use crate::{
    Mac,
    service::Snapshot,
    spec::{PortSpec, SubnetSpec},
    sys::packet::UdpFrame,
};

/// What the server would give a port.
struct Lease<'a> {
    port: &'a PortSpec,
    subnet: &'a SubnetSpec,
    cidr: Ipv4Net,
    address: Ipv4Addr,
    server: Ipv4Addr,
}

/// The frame to send back, or nothing: silence is the answer to everything that is not understood or not ours.
pub fn answer(snapshot: &Snapshot, bytes: &[u8]) -> Option<Vec<u8>> {
    let request = frame::parse(bytes)?;
    let message = Message::decode(request.payload)?;
    // The sender's MAC was checked by the firewall, the one inside the message was not.
    let honest = !message.reply && message.mac == request.source_mac;
    if !honest || !message.relay.is_unspecified() {
        return None;
    }
    let port = snapshot.ports.get(&request.source_mac)?;
    let lease = lease(snapshot, port)?;
    if message.address_option(message::SERVER_ID).is_some_and(|id| id != lease.server) {
        return None;
    }
    let reply = match message.kind()? {
        message::DISCOVER => grant(snapshot, &lease, &message, message::OFFER),
        message::REQUEST if wants(&message, request.source) == Some(lease.address) => grant(snapshot, &lease, &message, message::ACK),
        message::REQUEST => refuse(&lease, &message),
        message::INFORM => inform(snapshot, &lease, &message),
        message::DECLINE => {
            tracing::warn!(port = port.id, address = %lease.address, "guest finds its address in use");
            return None;
        }
        _ => return None,
    };
    Some(send(snapshot, &lease, &reply))
}

/// The first fixed address in a subnet with DHCP in which the services have an address.
fn lease<'a>(snapshot: &'a Snapshot, port: &'a PortSpec) -> Option<Lease<'a>> {
    if !port.admin_state_up {
        return None;
    }
    port.fixed_ips.iter().find_map(|fixed| {
        let IpAddr::V4(address) = fixed.address else {
            return None;
        };
        let subnets = &snapshot.network.subnets;
        let subnet = subnets.iter().find(|s| s.id == fixed.subnet_id && s.enable_dhcp)?;
        let IpNet::V4(cidr) = subnet.cidr else {
            return None;
        };
        let server = snapshot.service_v4().find(|net| cidr.contains(&net.addr()))?;
        Some(Lease { port, subnet, cidr, address, server: server.addr() })
    })
}

/// The address the client asks to have or to keep.
fn wants(message: &Message, source: Ipv4Addr) -> Option<Ipv4Addr> {
    let given = |address: Ipv4Addr| (!address.is_unspecified()).then_some(address);
    message.address_option(message::REQUESTED_ADDRESS).or_else(|| given(message.client)).or_else(|| given(source))
}

/// What every answer has.
fn blank(lease: &Lease<'_>, request: &Message, kind: u8) -> Message {
    let mut options = Options::new();
    options.insert(message::MESSAGE_TYPE, vec![kind]);
    options.insert(message::SERVER_ID, lease.server.octets().into());
    // RFC 6842: a client identifier is given back.
    if let Some(id) = request.options.get(&message::CLIENT_ID) {
        options.insert(message::CLIENT_ID, id.clone());
    }
    Message {
        reply: true,
        client: Ipv4Addr::UNSPECIFIED,
        yours: Ipv4Addr::UNSPECIFIED,
        server: lease.server,
        relay: Ipv4Addr::UNSPECIFIED,
        options,
        ..request.clone()
    }
}

fn grant(snapshot: &Snapshot, lease: &Lease<'_>, request: &Message, kind: u8) -> Message {
    let mut reply = blank(lease, request, kind);
    reply.client = request.client;
    reply.yours = lease.address;
    reply.options.extend(configuration(snapshot, lease));
    options::lease_times(&mut reply.options);
    reply
}

fn inform(snapshot: &Snapshot, lease: &Lease<'_>, request: &Message) -> Message {
    let mut reply = blank(lease, request, message::ACK);
    reply.client = request.client;
    reply.options.extend(configuration(snapshot, lease));
    reply
}

fn refuse(lease: &Lease<'_>, request: &Message) -> Message {
    let mut reply = blank(lease, request, message::NAK);
    reply.server = Ipv4Addr::UNSPECIFIED;
    reply.options.insert(message::MESSAGE, b"not your address".into());
    reply
}

fn configuration(snapshot: &Snapshot, lease: &Lease<'_>) -> Options {
    options::configuration(snapshot, lease.port, lease.subnet, lease.cidr, lease.server)
}

/// RFC 2131, 4.1: who has an address is sent to at it, who asks for broadcast gets broadcast, and a refused client is
/// not to be believed about what it has.
fn send(snapshot: &Snapshot, lease: &Lease<'_>, reply: &Message) -> Vec<u8> {
    let refused = reply.yours.is_unspecified() && reply.client.is_unspecified();
    let (mac, address) = if refused {
        (Mac::BROADCAST, Ipv4Addr::BROADCAST)
    } else if !reply.client.is_unspecified() {
        (reply.mac, reply.client)
    } else if reply.broadcast {
        (Mac::BROADCAST, Ipv4Addr::BROADCAST)
    } else {
        (reply.mac, reply.yours)
    };
    let frame = UdpFrame { source: (snapshot.mac, lease.server, 67), destination: (mac, address, 68), payload: &reply.encode() };
    frame.encode()
}

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;
