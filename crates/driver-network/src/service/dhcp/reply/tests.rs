use std::sync::Arc;

use super::*;
use crate::spec::NetworkSpec;

pub(super) const CLIENT: Mac = Mac([0xfa, 0x16, 0x3e, 0, 0, 5]);
pub(super) const RIGHT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);
const WRONG: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 6);

pub(super) fn snapshot() -> Snapshot {
    let network: NetworkSpec = serde_json::from_str(
        r#"{"id":"n","mtu":1450,"dns":{"domain":"example.org."},
            "service":{"mac":"fa:16:3e:00:00:02","addresses":["10.0.0.2/24"]},
            "subnets":[{"id":"s","cidr":"10.0.0.0/24","gateway":"10.0.0.1"}]}"#,
    )
    .unwrap();
    let port: PortSpec = serde_json::from_str(
        r#"{"id":"p","network_id":"n","mac":"fa:16:3e:00:00:05","hostname":"web",
            "fixed_ips":[{"subnet_id":"s","address":"10.0.0.5"}],
            "extra_dhcp_opts":[{"name":"bootfile-name","value":"pxe.0"}]}"#,
    )
    .unwrap();
    Snapshot::new(Arc::new(network), [&port], false)
}

pub(super) fn ask(kind: u8, change: impl FnOnce(&mut Message)) -> Vec<u8> {
    let none = Ipv4Addr::UNSPECIFIED;
    let mut message = Message {
        reply: false,
        transaction: [0, 0, 0, 77],
        broadcast: false,
        client: none,
        yours: none,
        server: none,
        relay: none,
        mac: CLIENT,
        options: [(message::MESSAGE_TYPE, vec![kind])].into(),
    };
    change(&mut message);
    UdpFrame { source: (CLIENT, none, 68), destination: (Mac::BROADCAST, Ipv4Addr::BROADCAST, 67), payload: &message.encode() }.encode()
}

/// The answer's destination MAC and address, and the message.
fn reply_to(frame: &[u8]) -> Option<(Mac, Ipv4Addr, Message)> {
    let mut bytes = answer(&snapshot(), frame)?;
    // The frame parser is the server's: it wants to see the server's port.
    bytes[36..38].copy_from_slice(&67u16.to_be_bytes());
    let parsed = frame::parse(&bytes).unwrap();
    let message = Message::decode(parsed.payload).unwrap();
    Some((Mac(*bytes.first_chunk().unwrap()), parsed.destination, message))
}

#[test]
fn discover_is_offered_the_fixed_address() {
    let (mac, destination, offer) = reply_to(&ask(message::DISCOVER, |_| {})).unwrap();
    assert_eq!((mac, destination), (CLIENT, RIGHT));
    assert_eq!((offer.kind(), offer.yours), (Some(message::OFFER), RIGHT));
    assert_eq!(offer.transaction, [0, 0, 0, 77]);
    let mut bytes = offer.options.clone();
    let mut option = |number: u8| bytes.remove(&number).unwrap_or_default();
    assert_eq!(option(1), [255, 255, 255, 0]);
    assert_eq!(option(3), [10, 0, 0, 1]);
    assert_eq!(option(6), [10, 0, 0, 2]);
    assert_eq!(option(12), b"web");
    assert_eq!(option(15), b"example.org");
    assert_eq!(option(26), 1450u16.to_be_bytes());
    assert_eq!(option(51), options::LEASE_SECONDS.to_be_bytes());
    assert_eq!(option(54), [10, 0, 0, 2]);
    assert_eq!(option(67), b"pxe.0");
    assert_eq!(option(121)[..5], [32, 169, 254, 169, 254]);
}

#[test]
fn broadcast_flag_is_honoured() {
    let frame = ask(message::DISCOVER, |m| m.broadcast = true);
    let (mac, destination, _) = reply_to(&frame).unwrap();
    assert_eq!((mac, destination), (Mac::BROADCAST, Ipv4Addr::BROADCAST));
}

#[test]
fn requests() {
    let request = |change: &dyn Fn(&mut Message)| {
        let (.., reply) = reply_to(&ask(message::REQUEST, change))?;
        reply.kind()
    };
    let requested = |a: Ipv4Addr| {
        move |m: &mut Message| {
            m.options.insert(message::REQUESTED_ADDRESS, a.octets().into());
        }
    };
    assert_eq!(request(&requested(RIGHT)), Some(message::ACK));
    assert_eq!(request(&requested(WRONG)), Some(message::NAK));
    assert_eq!(request(&|m| m.client = RIGHT), Some(message::ACK));
    assert_eq!(request(&|m| m.client = WRONG), Some(message::NAK));
    assert_eq!(request(&|_| {}), Some(message::NAK));
    let other_server = |m: &mut Message| {
        requested(RIGHT)(m);
        m.options.insert(message::SERVER_ID, WRONG.octets().into());
    };
    assert_eq!(request(&other_server), None);
}

#[test]
fn refusal_goes_to_everybody_and_grants_nothing() {
    let frame = ask(message::REQUEST, |m| m.client = WRONG);
    let (mac, destination, nak) = reply_to(&frame).unwrap();
    assert_eq!((mac, destination), (Mac::BROADCAST, Ipv4Addr::BROADCAST));
    assert_eq!((nak.yours, nak.client), (Ipv4Addr::UNSPECIFIED, Ipv4Addr::UNSPECIFIED));
    assert!(!nak.options.contains_key(&51));
}

#[test]
fn inform_gets_configuration_but_no_lease() {
    let (_, destination, ack) = reply_to(&ask(message::INFORM, |m| m.client = RIGHT)).unwrap();
    assert_eq!((destination, ack.yours), (RIGHT, Ipv4Addr::UNSPECIFIED));
    assert!(ack.options.contains_key(&3) && !ack.options.contains_key(&51));
}

#[test]
fn silence() {
    let stranger = ask(message::DISCOVER, |m| m.mac = Mac([2, 0, 0, 0, 0, 1]));
    assert!(answer(&snapshot(), &stranger).is_none(), "MAC inside differs from the sender's");
    for kind in [message::DECLINE, message::OFFER, message::ACK, 7, 0, 99] {
        assert!(answer(&snapshot(), &ask(kind, |_| {})).is_none(), "{kind}");
    }
    let relayed = ask(message::DISCOVER, |m| m.relay = WRONG);
    assert!(answer(&snapshot(), &relayed).is_none());
    let mut down = snapshot();
    down.ports.get_mut(&CLIENT).unwrap().admin_state_up = false;
    assert!(answer(&down, &ask(message::DISCOVER, |_| {})).is_none());
}
