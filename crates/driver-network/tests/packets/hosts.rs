//! Two hosts with an underlay between them.

use unkai_driver_network::*;

use crate::{
    traffic::*,
    world::{EVERYTHING, World, exec, ip, network_spec},
};

async fn host(address: &str) -> Result<World, String> {
    World::with(Config { underlay: Some(address.parse().unwrap()), dns_upstreams: Vec::new(), ..Config::default() }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_network_over_two_hosts() {
    let (a, b) = match (host("192.0.2.1").await, host("192.0.2.2").await) {
        (Ok(a), Ok(b)) => (a, b),
        (Err(why), _) | (_, Err(why)) => return eprintln!("skipped: {why}"),
    };
    let (da, db) = (a.dataplane(), b.dataplane());
    ip(&format!("link add under netns {da} type veth peer name under netns {db}"));
    for (netns, address) in [(&da, "192.0.2.1"), (&db, "192.0.2.2")] {
        ip(&format!("-n {netns} addr add {address}/24 dev under"));
        ip(&format!("-n {netns} link set under up"));
    }
    let mut networks = Vec::new();
    for (world, peer, vtep) in [(&a, 6, "192.0.2.2"), (&b, 5, "192.0.2.1")] {
        let mut network = network_spec(1, "10.0.1");
        network.vni = Some(77);
        network.mtu = 1400;
        network.peers = vec![Peer {
            mac: crate::world::mac(256 + peer),
            addresses: vec![format!("10.0.1.{peer}").parse().unwrap()],
            vtep: vtep.parse().unwrap(),
        }];
        world.driver.apply_network(&network).await.unwrap();
        networks.push(network);
    }
    let open = a.group(1, &EVERYTHING).await;
    let some = b.group(2, &["ingress IPv4 proto=6 min=22 max=22", "ingress IPv4 proto=1"]).await;
    let left = a.guest(&networks[0], 5, &[&open]).await;
    let right = b.guest(&networks[1], 6, &[&some]).await;
    serve_tcp(&right.netns, 22);
    serve_tcp(&right.netns, 23);
    ping_passes(&left.netns, right.v4());
    tcp_passes(&left.netns, (right.v4(), 22));
    tcp_blocked(&left.netns, (right.v4(), 23));
    // Every host answers its own guests: the service address is on both, and nobody hears two answers.
    ping_passes(&left.netns, "10.0.1.2".parse().unwrap());
    ping_passes(&right.netns, "10.0.1.2".parse().unwrap());
    let twice = exec(&left.netns, &["busybox", "arping", "-c", "1", "-w", "1", "-I", "eth0", "10.0.1.2"]);
    assert_eq!(twice.matches("reply from").count(), 1, "{twice}");

    // Nothing that is meant for everybody crosses over, and the questions are answered here; where guests may have addresses that the
    // specification does not tell, it does cross.
    let inside = a.name("n-000100000001");
    let entries = || exec(&inside, &["bridge", "fdb", "show", "dev", "vx0"]);
    let asked = |address: &str| exec(&left.netns, &["busybox", "arping", "-c", "1", "-w", "1", "-I", "eth0", address]);
    assert!(!entries().contains("00:00:00:00:00:00"), "{}", entries());
    let answer = asked("10.0.1.6");
    assert!(answer.contains("FA:16:3E:00:01:06") || answer.contains("fa:16:3e:00:01:06"), "{answer}");
    exec(&right.netns, &["ip", "addr", "add", "10.0.1.60/24", "dev", "eth0"]);
    assert!(!asked("10.0.1.60").contains("reply from"));
    for network in &mut networks {
        network.broadcasts = true;
    }
    a.driver.apply_network(&networks[0]).await.unwrap();
    b.driver.apply_network(&networks[1]).await.unwrap();
    assert!(entries().contains("00:00:00:00:00:00 dst 192.0.2.2"), "{}", entries());
    assert!(exec(&inside, &["ip", "neigh", "show", "nud", "permanent"]).is_empty());
    exec(&left.netns, &["ip", "neigh", "flush", "all"]);
    ping_passes(&left.netns, right.v4());
    for network in &mut networks {
        network.broadcasts = false;
    }
    a.driver.apply_network(&networks[0]).await.unwrap();
    b.driver.apply_network(&networks[1]).await.unwrap();
    exec(&left.netns, &["ip", "neigh", "flush", "all"]);
    ping_passes(&left.netns, right.v4());

    // Forwarding entries follow the specification.
    assert!(entries().contains("fa:16:3e:00:01:06 dst 192.0.2.2"), "{}", entries());
    networks[0].peers.clear();
    a.driver.apply_network(&networks[0]).await.unwrap();
    assert!(!entries().contains("192.0.2.2"), "{}", entries());
    ping_blocked(&left.netns, right.v4());

    // A new driver with another idea of the tunnel.
    networks[1].vni = Some(78);
    b.driver.apply_network(&networks[1]).await.unwrap();
    let link = exec(&b.name("n-000100000001"), &["ip", "-d", "link", "show", "vx0"]);
    assert!(link.contains("vxlan id 78"), "{link}");
}
