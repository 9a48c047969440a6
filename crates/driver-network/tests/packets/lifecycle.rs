//! Coming, going, and dying in between.

use std::{
    os::fd::OwnedFd,
    process::Command,
    time::{Duration, Instant},
};

use unkai_driver_network::*;

use crate::{
    routers::{address, interface, outside, router},
    traffic::*,
    world::{EVERYTHING, exec, id, mac, network_spec, world},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_new_driver_takes_over_without_a_break() {
    let mut world = world!();
    outside(&world).await;
    let open = world.group(1, &EVERYTHING).await;
    let some = world.group(2, &["egress IPv4", "ingress IPv4 proto=6 min=22 max=22", "ingress IPv4 proto=6 min=80 max=80"]).await;
    let network = world.network(1).await;
    let a = world.guest(&network, 5, &[&open]).await;
    let b = world.guest(&network, 6, &[&some]).await;
    let mut spec = router(1, vec![interface(&network, 1, &["10.0.1.1/24"])]);
    spec.floating_ips.push(FloatingIp { floating: "203.0.113.50".parse().unwrap(), fixed: "10.0.1.6".parse().unwrap() });
    world.driver.apply_router(&spec).await.unwrap();
    serve_tcp(&b.netns, 22);
    serve_tcp(&b.netns, 80);
    let mut inside = connected(&a.netns, (b.v4(), 22));
    let mut inside_web = connected(&a.netns, (b.v4(), 80));
    let mut outside_in = connected(&world.dataplane(), (address("203.0.113.50"), 22));

    world.reopen().await;
    let found = world.driver.inventory().await.unwrap();
    assert_eq!(found.networks.len(), 1);
    assert_eq!(found.networks[0].id, network.id);
    assert_eq!(found.networks[0].ports.len(), 2);
    assert_eq!((found.routers, found.externals), (vec![spec.id.clone()], vec!["ext".to_owned()]));

    // While the agent was away the rule for port 80 was taken away. Everything comes in an order that is hard on us:
    // ports before their groups.
    let mut less = some.clone();
    less.rules.retain(|r| r.port_min != Some(80));
    outside(&world).await;
    world.driver.apply_network(&network).await.unwrap();
    world.driver.apply_port(&a.spec).await.unwrap();
    world.driver.apply_port(&b.spec).await.unwrap();
    assert!(still_carries(&mut inside_web), "what is not known denies nothing that is established");
    world.driver.apply_group(&open).await.unwrap();
    world.driver.apply_group(&less).await.unwrap();
    world.driver.apply_router(&spec).await.unwrap();
    assert!(still_carries(&mut inside));
    assert!(still_carries(&mut outside_in));
    assert!(is_cut(&mut inside_web));
    tcp_passes(&a.netns, (b.v4(), 22));
    tcp_blocked(&a.netns, (b.v4(), 80));
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_goes() {
    let world = world!();
    outside(&world).await;
    let open = world.group(1, &EVERYTHING).await;
    let mut network = network_spec(1, "10.0.1");
    network.external = Some("ext".into());
    world.driver.apply_network(&network).await.unwrap();
    let a = world.guest(&network, 5, &[&open]).await;
    let spec = router(1, vec![interface(&network, 1, &["10.0.1.1/24"])]);
    world.driver.apply_router(&spec).await.unwrap();
    for _ in 0..2 {
        world.driver.remove_port(&network.id, &a.spec.id).await.unwrap();
        assert!(world.driver.inventory().await.unwrap().networks[0].ports.is_empty());
    }
    let tables = exec(&world.name("n-000100000001"), &["nft", "list", "ruleset"]);
    let tail = &a.spec.id[a.spec.id.len() - 10..];
    assert!(!tables.contains(tail), "{tables}");
    for _ in 0..2 {
        world.driver.remove_router(&spec.id).await.unwrap();
        world.driver.remove_network(&network.id).await.unwrap();
        world.driver.remove_external("ext").await.unwrap();
        world.driver.remove_group(&open.id).await.unwrap();
    }
    assert_eq!(world.driver.inventory().await.unwrap(), Found::default());
    let left = exec(&world.dataplane(), &["ip", "-o", "link"]);
    assert_eq!(left.lines().count(), 1, "{left}");
    // Back again under the same names.
    outside(&world).await;
    world.driver.apply_network(&network).await.unwrap();
    world.driver.open_port(&a.spec).await.unwrap();
    world.driver.remove_all().await.unwrap();
    let names = Command::new("ip").args(["netns", "list"]).output().unwrap();
    let names = String::from_utf8_lossy(&names.stdout).into_owned();
    let ours: Vec<&str> = names.lines().filter(|l| l.starts_with(&world.config.prefix)).collect();
    assert_eq!(ours.len(), 1, "only the guest's own: {ours:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tap_lives_as_long_as_its_descriptor() {
    let mut world = world!();
    let network = world.network(1).await;
    let port = PortSpec {
        id: id(1005),
        network_id: network.id.clone(),
        mac: mac(261),
        fixed_ips: vec![FixedIp { subnet_id: "four".into(), address: address("10.0.1.5") }],
        allowed_address_pairs: vec![],
        port_security: true,
        security_groups: vec![],
        admin_state_up: true,
        hostname: None,
        extra_dhcp_opts: vec![],
        attach: Attach::Tap,
    };
    assert!(matches!(world.driver.apply_port(&port).await, Err(Error::NoPort(_))));
    let tap = world.driver.open_port(&port).await.unwrap().expect("a descriptor");
    assert!(matches!(world.driver.open_port(&port).await, Err(Error::PortBusy(_))));
    assert!(tap_is_answered(&tap, port.mac));
    world.reopen().await;
    world.driver.apply_network(&network).await.unwrap();
    world.driver.apply_port(&port).await.unwrap();
    drop(tap);
    assert!(matches!(world.driver.apply_port(&port).await, Err(Error::NoPort(_))));
    let again = world.driver.open_port(&port).await.unwrap();
    assert!(again.is_some());
    // A network goes although a guest still holds its tap.
    world.driver.remove_network(&network.id).await.unwrap();
    assert_eq!(world.driver.inventory().await.unwrap(), Found::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn half_made_things_are_completed() {
    let world = world!();
    let network = network_spec(1, "10.0.1");
    let name = world.name("n-000100000001");
    // Killed after the name was made, and after the bridge.
    std::fs::write(format!("/run/netns/{name}"), "").unwrap();
    world.driver.apply_network(&network).await.unwrap();
    world.driver.remove_network(&network.id).await.unwrap();
    crate::world::ip(&format!("netns add {name}"));
    crate::world::ip(&format!("-n {name} link add br0 type bridge"));
    let found = world.driver.inventory().await.unwrap();
    assert_eq!(found.networks[0].id, "000100000001");
    world.driver.apply_network(&network).await.unwrap();
    let open = world.group(1, &EVERYTHING).await;
    let a = world.guest(&network, 5, &[&open]).await;
    let b = world.guest(&network, 6, &[&open]).await;
    ping_passes(&a.netns, b.v4());
    // The namespace deleted behind our back: the next apply makes it anew.
    crate::world::ip(&format!("netns del {name}"));
    world.driver.apply_network(&network).await.unwrap();
    assert_eq!(world.driver.inventory().await.unwrap().networks[0].id, network.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn quick_enough() {
    let world = world!();
    let open = world.group(1, &EVERYTHING).await;
    let mut first = Vec::new();
    let mut further = Vec::new();
    for n in 1..=5 {
        let network = network_spec(n, "10.0.1");
        let port = |host: u32| PortSpec {
            attach: Attach::Tap,
            ..serde_json::from_value(serde_json::json!({
                "id": id(n * 1000 + host), "network_id": network.id, "mac": mac(n * 256 + host),
                "fixed_ips": [{"subnet_id": "four", "address": format!("10.0.1.{host}")}],
                "security_groups": [open.id],
            }))
            .unwrap()
        };
        let begin = Instant::now();
        world.driver.apply_network(&network).await.unwrap();
        let made = begin.elapsed();
        let tap = world.driver.open_port(&port(5)).await.unwrap();
        first.push((made, begin.elapsed()));
        let begin = Instant::now();
        let other = world.driver.open_port(&port(6)).await.unwrap();
        further.push(begin.elapsed());
        drop((tap, other));
    }
    eprintln!("network, network + port: {first:?}\none more port: {further:?}");
    let best = first.iter().map(|t| t.1).min().unwrap();
    assert!(best < Duration::from_millis(500), "{best:?}");
}

/// Asks for the service address by ARP, as a guest's driver would: every frame has a header of ten octets before it.
fn tap_is_answered(tap: &OwnedFd, mac: Mac) -> bool {
    let mut frame = vec![0; 10];
    frame.extend(Mac::BROADCAST.0);
    frame.extend(mac.0);
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(mac.0);
    frame.extend([0; 10]);
    frame.extend([10, 0, 1, 2]);
    let mut buffer = [0; 2048];
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        nix::unistd::write(tap, &frame).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        while let Ok(n) = nix::unistd::read(tap, &mut buffer) {
            let reply = [8, 6, 0, 1, 8, 0, 6, 4, 0, 2];
            if n >= 52 && buffer[22..32] == reply && buffer[38..42] == [10, 0, 1, 2] {
                return true;
            }
        }
    }
    false
}
