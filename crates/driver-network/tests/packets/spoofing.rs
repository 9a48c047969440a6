//! Who a guest may claim to be.

use std::net::Ipv4Addr;

use unkai_driver_network::{AddressPair, Mac};

use crate::{
    traffic::*,
    world::{EVERYTHING, mac, world},
};

fn ethernet(destination: Mac, source: Mac, ethertype: u16, body: &[u8]) -> Vec<u8> {
    let mut frame = destination.0.to_vec();
    frame.extend(source.0);
    frame.extend(ethertype.to_be_bytes());
    frame.extend(body);
    frame.resize(frame.len().max(60), 0);
    frame
}

fn arp(sender: Mac, address: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let mut body = vec![0, 1, 8, 0, 6, 4, 0, 2];
    body.extend(sender.0);
    body.extend(address);
    body.extend([0; 6]);
    body.extend(target);
    body
}

/// IPv4/UDP without a UDP checksum.
fn udp(source: [u8; 4], destination: [u8; 4], ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let length = 28 + payload.len() as u16;
    let mut ip = vec![0x45, 0];
    ip.extend(length.to_be_bytes());
    ip.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    ip.extend(source);
    ip.extend(destination);
    let mut sum: u32 = ip.chunks(2).map(|p| u32::from(u16::from_be_bytes([p[0], p[1]]))).sum();
    sum = (sum & 0xffff) + (sum >> 16);
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    ip.extend(ports.0.to_be_bytes());
    ip.extend(ports.1.to_be_bytes());
    ip.extend((length - 20).to_be_bytes());
    ip.extend([0, 0]);
    ip.extend(payload);
    ip
}

fn octets(address: std::net::IpAddr) -> [u8; 4] {
    match address {
        std::net::IpAddr::V4(a) => a.octets(),
        std::net::IpAddr::V6(_) => unreachable!("asked for IPv4"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_ones_own_addresses() {
    let world = world!();
    let network = world.network(1).await;
    let open = world.group(1, &EVERYTHING).await;
    let a = world.guest(&network, 5, &[&open]).await;
    let b = world.guest(&network, 6, &[&open]).await;
    let out = raw(&a.netns, "eth0");
    let at_b = raw(&b.netns, "eth0");
    let (from, to) = (a.spec.mac, b.spec.mac);
    let (own, theirs) = (octets(a.v4()), octets(b.v4()));
    let stolen = [10, 0, 1, 77];
    let try_frame = |frame: &[u8], marker: &[u8]| {
        send_raw(&out, frame);
        arrives(&at_b, marker)
    };
    let datagram = |source, ports, marker: &[u8]| udp(source, theirs, ports, marker);

    let cases: [(&str, Vec<u8>, &[u8], bool); 14] = [
        ("own", ethernet(to, from, 0x800, &datagram(own, (9, 9), b"marker-own")), b"marker-own", true),
        ("other IP", ethernet(to, from, 0x800, &datagram(stolen, (9, 9), b"marker-ip")), b"marker-ip", false),
        ("other MAC", ethernet(to, mac(999), 0x800, &datagram(own, (9, 9), b"marker-mac")), b"marker-mac", false),
        ("DHCP answer", ethernet(to, from, 0x800, &datagram(own, (67, 68), b"marker-dhcp")), b"marker-dhcp", false),
        (
            "ARP for own",
            ethernet(Mac::BROADCAST, from, 0x806, &arp(from, own, [1, 1, 1, 1])),
            &[&from.0[..], &own, &[0; 6], &[1, 1, 1, 1]].concat(),
            true,
        ),
        (
            "ARP for another's",
            ethernet(Mac::BROADCAST, from, 0x806, &arp(from, [10, 0, 1, 1], [1, 1, 1, 2])),
            &[0, 0, 0, 0, 0, 0, 1, 1, 1, 2],
            false,
        ),
        (
            "ARP with another MAC inside",
            ethernet(Mac::BROADCAST, from, 0x806, &arp(mac(999), own, [1, 1, 1, 3])),
            &[0, 0, 0, 0, 0, 0, 1, 1, 1, 3],
            false,
        ),
        ("ARP probe", ethernet(Mac::BROADCAST, from, 0x806, &arp(from, [0; 4], [1, 1, 1, 4])), &[0, 0, 0, 0, 0, 0, 1, 1, 1, 4], true),
        ("other ethertype", ethernet(to, from, 0x88b5, b"marker-type"), b"marker-type", false),
        ("tagged", ethernet(to, from, 0x8100, &[&[0, 7, 8, 0], &datagram(own, (9, 9), b"marker-tag")[..]].concat()), b"marker-tag", false),
        (
            "echo from its own link-local address",
            ethernet(to, from, 0x86dd, &icmp6(from.link_local().octets(), b"\x80\0\0\0\0\x01\0\x01marker-six-own!!")),
            b"marker-six-own",
            true,
        ),
        (
            "echo from another IPv6 address",
            ethernet(to, from, 0x86dd, &icmp6(mac(999).link_local().octets(), b"\x80\0\0\0\0\x01\0\x02marker-six-ip!!!")),
            b"marker-six-ip",
            false,
        ),
        (
            "router advertisement",
            ethernet(to, from, 0x86dd, &icmp6(from.link_local().octets(), &[134, 0, 0, 0, 64, 0, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8])),
            &[1, 2, 3, 4, 5, 6, 7, 8],
            false,
        ),
        (
            "neighbour advertisement for another's",
            ethernet(
                to,
                from,
                0x86dd,
                &icmp6(
                    from.link_local().octets(),
                    &[&[136, 0, 0, 0, 0x20, 0, 0, 0][..], &[0x20, 1, 0x0d, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]].concat(),
                ),
            ),
            &[0x20, 1, 0x0d, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
            false,
        ),
    ];
    for (what, frame, marker, passes) in &cases {
        assert_eq!(try_frame(frame, marker), *passes, "{what}");
    }

    // An allowed address pair extends what a guest may be.
    let mut paired = a.spec.clone();
    paired.allowed_address_pairs.push(AddressPair { mac: None, address: "10.0.1.77/32".parse().unwrap() });
    world.driver.apply_port(&paired).await.unwrap();
    let frame = ethernet(to, from, 0x800, &datagram(stolen, (9, 9), b"marker-pair"));
    assert!(try_frame(&frame, b"marker-pair"));

    // A pair of everything: any address, but still only its own MAC, and no DHCP service.
    for net in ["0.0.0.0/0", "::/0"] {
        paired.allowed_address_pairs.push(AddressPair { mac: None, address: net.parse().unwrap() });
    }
    world.driver.apply_port(&paired).await.unwrap();
    let frame = ethernet(to, from, 0x800, &datagram([9, 9, 9, 9], (9, 9), b"marker-any"));
    assert!(try_frame(&frame, b"marker-any"));
    let frame = ethernet(to, mac(999), 0x800, &datagram([9, 9, 9, 9], (9, 9), b"marker-any-mac"));
    assert!(!try_frame(&frame, b"marker-any-mac"));
    let frame = ethernet(to, from, 0x800, &datagram([9, 9, 9, 9], (67, 68), b"marker-any-dhcp"));
    assert!(!try_frame(&frame, b"marker-any-dhcp"));

    // Without port security everything goes.
    paired.port_security = false;
    world.driver.apply_port(&paired).await.unwrap();
    let frame = ethernet(to, mac(999), 0x800, &datagram([9, 9, 9, 9], (67, 68), b"marker-free"));
    assert!(try_frame(&frame, b"marker-free"));
    world.driver.apply_port(&a.spec).await.unwrap();
    let frame = ethernet(to, mac(999), 0x800, &datagram([9, 9, 9, 9], (9, 9), b"marker-shut"));
    assert!(!try_frame(&frame, b"marker-shut"));
}

/// An IPv6 packet to all nodes with a right checksum.
fn icmp6(source: [u8; 16], message: &[u8]) -> Vec<u8> {
    let mut destination = [0; 16];
    (destination[0], destination[1], destination[15]) = (0xff, 2, 1);
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((message.len() as u16).to_be_bytes());
    packet.extend([58, 255]);
    packet.extend(source);
    packet.extend(destination);
    let pseudo = [&source[..], &destination, &[0, 0, 0, message.len() as u8, 0, 0, 0, 58], message].concat();
    let mut sum: u32 = pseudo.chunks(2).map(|p| u32::from(u16::from_be_bytes([p[0], *p.get(1).unwrap_or(&0)]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let at = packet.len();
    packet.extend(message);
    packet[at + 2..at + 4].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    packet
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_down_is_silent() {
    let world = world!();
    let network = world.network(1).await;
    let open = world.group(1, &EVERYTHING).await;
    let a = world.guest(&network, 5, &[&open]).await;
    let b = world.guest(&network, 6, &[&open]).await;
    ping_passes(&a.netns, b.v4());
    let mut down = b.spec.clone();
    down.admin_state_up = false;
    world.driver.apply_port(&down).await.unwrap();
    ping_blocked(&a.netns, b.v4());
    world.driver.apply_port(&b.spec).await.unwrap();
    ping_passes(&a.netns, b.v4());
    assert_eq!(b.v4(), std::net::IpAddr::V4(Ipv4Addr::new(10, 0, 1, 6)));
    let counters = world.driver.port_counters(&network.id, &b.spec.id).await.unwrap();
    assert!(counters.rx_packets > 0 && counters.tx_bytes > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_way_around_the_receivers_rules() {
    let world = world!();
    let network = world.network(1).await;
    let open = world.group(1, &EVERYTHING).await;
    let shut = world.group(2, &["egress IPv4"]).await;
    let a = world.guest(&network, 5, &[&open]).await;
    let b = world.guest(&network, 6, &[&shut]).await;
    let out = raw(&a.netns, "eth0");
    let at_b = raw(&b.netns, "eth0");
    let packet = udp(octets(a.v4()), octets(b.v4()), (9, 9), b"marker-around");
    // Straight, to everybody, and by the network's own services, which do not route.
    let service = network.service.as_ref().unwrap().mac;
    for destination in [b.spec.mac, Mac::BROADCAST, service] {
        send_raw(&out, &ethernet(destination, a.spec.mac, 0x800, &packet));
        assert!(!arrives(&at_b, b"marker-around"), "by {destination}");
    }
}
