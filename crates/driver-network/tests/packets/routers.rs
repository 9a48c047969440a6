//! Routers: between networks, to the outside, and back in by floating addresses.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use unkai_driver_network::*;

use crate::{
    traffic::*,
    world::{EVERYTHING, World, exec, id, ip, mac, network_spec, world},
};

const PHYSICAL: &str = "ext";

pub fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The outside: 203.0.113.0/24, the host itself at .1, which routes back nothing.
pub async fn outside(world: &World) {
    let spec = ExternalSpec { physical: PHYSICAL.into(), device: None, host_addresses: vec!["203.0.113.1/24".parse().unwrap()], mtu: 1500 };
    world.driver.apply_external(&spec).await.unwrap();
}

pub fn interface(network: &NetworkSpec, n: u32, addresses: &[&str]) -> RouterInterface {
    RouterInterface {
        port_id: id(0x00aa_0000 + n),
        network_id: network.id.clone(),
        mac: mac(0xa000 + n),
        addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
    }
}

pub fn router(n: u32, interfaces: Vec<RouterInterface>) -> RouterSpec {
    RouterSpec {
        id: id(0x00bb_0000 + n),
        admin_state_up: true,
        interfaces,
        gateway: Some(RouterGateway {
            port_id: id(0x00cc_0000 + n),
            network_id: id(0x00dd_0000),
            physical: PHYSICAL.into(),
            mac: mac(0xb000 + n),
            addresses: vec![format!("203.0.113.{}/24", 10 + n).parse().unwrap()],
            next_hops: vec![address("203.0.113.1")],
            enable_snat: true,
            mtu: 1500,
        }),
        routes: vec![],
        floating_ips: vec![],
    }
}

fn floating(outer: &str, inner: &str) -> FloatingIp {
    FloatingIp { floating: outer.parse().unwrap(), fixed: inner.parse().unwrap() }
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_ranges_with_floating_addresses_at_the_same_time() {
    let world = world!();
    outside(&world).await;
    let open = world.group(1, &EVERYTHING).await;
    let out = world.dataplane();
    serve_udp(&out, 7);
    let mut guests = Vec::new();
    for n in [1, 2] {
        let network = network_spec(n, "172.16.0");
        world.driver.apply_network(&network).await.unwrap();
        let guest = world.guest(&network, 5, &[&open]).await;
        let plain = world.guest(&network, 6, &[&open]).await;
        let mut spec = router(n, vec![interface(&network, n, &["172.16.0.1/24"])]);
        spec.floating_ips.push(floating(&format!("203.0.113.5{n}"), "172.16.0.5"));
        world.driver.apply_router(&spec).await.unwrap();
        serve_tcp(&guest.netns, 22);
        guests.push((n, guest, plain, spec));
    }
    for (n, guest, plain, _) in &guests {
        // Outward: with the floating address, and hidden behind the router's.
        assert_eq!(udp_passes(&guest.netns, (address("203.0.113.1"), 7)), format!("203.0.113.5{n}"));
        assert_eq!(udp_passes(&plain.netns, (address("203.0.113.1"), 7)), format!("203.0.113.1{n}"));
        tcp_passes(&out, (address(&format!("203.0.113.5{n}")), 22));
        // To one's own floating neighbour from inside.
        tcp_passes(&plain.netns, (address(&format!("203.0.113.5{n}")), 22));
    }
    // From one tenant to the other, by floating address.
    tcp_passes(&guests[0].1.netns, (address("203.0.113.52"), 22));

    // Taking the association away ends its connections; the other tenant's go on.
    let mut first = connected(&out, (address("203.0.113.51"), 22));
    let mut second = connected(&out, (address("203.0.113.52"), 22));
    let mut spec = guests[0].3.clone();
    spec.floating_ips.clear();
    world.driver.apply_router(&spec).await.unwrap();
    assert!(is_cut(&mut first));
    assert!(still_carries(&mut second));
    tcp_blocked(&out, (address("203.0.113.51"), 22));
    assert_eq!(udp_passes(&guests[0].1.netns, (address("203.0.113.1"), 7)), "203.0.113.11");

    // Moved to the other guest of the same network.
    spec.floating_ips.push(floating("203.0.113.51", "172.16.0.6"));
    world.driver.apply_router(&spec).await.unwrap();
    serve_tcp(&guests[0].2.netns, 22);
    tcp_passes(&out, (address("203.0.113.51"), 22));

    // Down, and up again.
    spec.admin_state_up = false;
    world.driver.apply_router(&spec).await.unwrap();
    tcp_blocked(&out, (address("203.0.113.51"), 22));
    spec.admin_state_up = true;
    world.driver.apply_router(&spec).await.unwrap();
    tcp_passes(&out, (address("203.0.113.51"), 22));
}

#[tokio::test(flavor = "multi_thread")]
async fn between_networks_and_by_static_routes() {
    let world = world!();
    outside(&world).await;
    let open = world.group(1, &EVERYTHING).await;
    let (one, two) = (world.network(1).await, world.network(2).await);
    let a = world.guest(&one, 5, &[&open]).await;
    let b = world.guest(&two, 5, &[&open]).await;
    let mut spec =
        router(1, vec![interface(&one, 1, &["10.0.1.1/24", "2001:db8:1::1/64"]), interface(&two, 2, &["10.0.2.1/24", "2001:db8:2::1/64"])]);
    world.driver.apply_router(&spec).await.unwrap();
    ping_passes(&a.netns, b.v4());
    // The sender is seen as it is between one's own networks.
    serve_udp(&b.netns, 7);
    assert_eq!(udp_passes(&a.netns, (b.v4(), 7)), "10.0.1.5");

    // Something behind guest b, which only a static route leads to.
    ip(&format!("-n {} addr add 192.168.99.1/32 dev lo", b.netns));
    let mut forwarding = b.spec.clone();
    forwarding.allowed_address_pairs.push(AddressPair { mac: None, address: "192.168.99.0/24".parse().unwrap() });
    world.driver.apply_port(&forwarding).await.unwrap();
    ping_blocked(&a.netns, address("192.168.99.1"));
    spec.routes.push(Route { destination: "192.168.99.0/24".parse().unwrap(), nexthop: b.v4() });
    // One that cannot be: everything else must still be done.
    spec.routes.push(Route { destination: "192.168.98.0/24".parse().unwrap(), nexthop: address("198.51.100.1") });
    world.driver.apply_router(&spec).await.unwrap();
    ping_passes(&a.netns, address("192.168.99.1"));
    spec.routes.clear();
    world.driver.apply_router(&spec).await.unwrap();
    ping_blocked(&a.netns, address("192.168.99.1"));

    // One interface less.
    spec.interfaces.pop();
    world.driver.apply_router(&spec).await.unwrap();
    ping_blocked(&a.netns, b.v4());
    ping_passes(&a.netns, address("10.0.1.1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn ipv6_between_networks_by_advertised_routers() {
    let world = world!();
    outside(&world).await;
    let open = world.group(1, &EVERYTHING).await;
    let (one, two) = (world.network(1).await, world.network(2).await);
    let spec = router(1, vec![interface(&one, 1, &["2001:db8:1::1/64"]), interface(&two, 2, &["2001:db8:2::1/64"])]);
    world.driver.apply_router(&spec).await.unwrap();
    let a = world.guest(&one, 5, &[&open]).await;
    let b = world.guest(&two, 5, &[&open]).await;
    let until = Instant::now() + Duration::from_secs(20);
    let routed = |netns: &str| exec(netns, &["ip", "-6", "route", "show", "default"]).contains("via fe80::");
    while Instant::now() < until && !(routed(&a.netns) && routed(&b.netns)) {
        std::thread::sleep(Duration::from_millis(200));
    }
    ping_passes(&a.netns, b.v6());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_on_the_external_network_itself() {
    let world = world!();
    outside(&world).await;
    let open = world.group(1, &EVERYTHING).await;
    let mut network = network_spec(3, "203.0.113");
    network.external = Some(PHYSICAL.into());
    world.driver.apply_network(&network).await.unwrap();
    let guest = world.guest(&network, 77, &[&open]).await;
    ping_passes(&guest.netns, address("203.0.113.1"));
    ping_passes(&world.dataplane(), guest.v4());
    // The services of the network are not for the outside.
    ping_blocked(&world.dataplane(), address("203.0.113.2"));
    ping_passes(&guest.netns, address("203.0.113.2"));
}
