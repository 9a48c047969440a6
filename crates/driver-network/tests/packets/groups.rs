//! Security groups, one kind of rule after another.

use crate::{
    traffic::*,
    world::{EVERYTHING, group_spec, id, rule, world},
};

#[tokio::test(flavor = "multi_thread")]
async fn tcp_udp_icmp_and_bare_protocols() {
    let world = world!();
    let network = world.network(1).await;
    let open = world.group(1, &EVERYTHING).await;
    let some = world
        .group(
            2,
            &[
                "ingress IPv4 proto=6 min=22 max=22",
                "ingress IPv4 proto=17 min=6000 max=6001",
                "ingress IPv4 proto=112",
                "ingress IPv6 proto=6 min=23 max=23",
            ],
        )
        .await;
    let client = world.guest(&network, 5, &[&open]).await;
    let server = world.guest(&network, 6, &[&some]).await;
    for port in [22, 23] {
        serve_tcp(&server.netns, port);
        serve_tcp(&client.netns, port);
    }
    for port in [5999, 6000, 6001, 6002] {
        serve_udp(&server.netns, port);
    }
    let (v4, v6) = (server.v4(), server.v6());
    tcp_passes(&client.netns, (v4, 22));
    tcp_blocked(&client.netns, (v4, 23));
    tcp_blocked(&client.netns, (v6, 22));
    tcp_passes(&client.netns, (v6, 23));
    udp_blocked(&client.netns, (v4, 5999));
    udp_passes(&client.netns, (v4, 6000));
    udp_passes(&client.netns, (v4, 6001));
    udp_blocked(&client.netns, (v4, 6002));
    ping_blocked(&client.netns, v4);
    assert!(protocol_arrives(&client.netns, &server.netns, v4, 112));
    assert!(!protocol_arrives(&client.netns, &server.netns, v4, 113));
    // The server may send nothing of its own: there is no egress rule.
    tcp_blocked(&server.netns, (client.v4(), 22));
    ping_blocked(&server.netns, client.v4());

    // Echo request allowed, by type and code; the answer needs no rule.
    let mut more = some.clone();
    more.rules.push(rule("ingress IPv4 proto=1 min=8 max=0"));
    more.rules.push(rule("ingress IPv6 proto=58 min=128"));
    world.driver.apply_group(&more).await.unwrap();
    ping_passes(&client.netns, v4);
    ping_passes(&client.netns, v6);
    more.rules.retain(|r| r.protocol != Some(1));
    more.rules.push(rule("ingress IPv4 proto=1 min=13"));
    world.driver.apply_group(&more).await.unwrap();
    ping_blocked(&client.netns, v4);
}

#[tokio::test(flavor = "multi_thread")]
async fn egress_is_limited_as_well() {
    let world = world!();
    let network = world.network(1).await;
    let open = world.group(1, &EVERYTHING).await;
    let narrow = world.group(2, &["egress IPv4 proto=6 min=80 max=80 prefix=10.0.1.6/32"]).await;
    let client = world.guest(&network, 5, &[&narrow]).await;
    let a = world.guest(&network, 6, &[&open]).await;
    let b = world.guest(&network, 7, &[&open]).await;
    for netns in [&a.netns, &b.netns] {
        serve_tcp(netns, 80);
        serve_tcp(netns, 81);
    }
    tcp_passes(&client.netns, (a.v4(), 80));
    tcp_blocked(&client.netns, (a.v4(), 81));
    tcp_blocked(&client.netns, (b.v4(), 80));
    // Nothing at all without a group.
    let mut alone = client.spec.clone();
    alone.security_groups.clear();
    world.driver.apply_port(&alone).await.unwrap();
    tcp_blocked(&client.netns, (a.v4(), 80));
    // Everything without port security.
    alone.port_security = false;
    world.driver.apply_port(&alone).await.unwrap();
    tcp_passes(&client.netns, (b.v4(), 81));
    ping_passes(&b.netns, client.v4());
    alone.port_security = true;
    world.driver.apply_port(&alone).await.unwrap();
    tcp_blocked(&client.netns, (b.v4(), 81));
}

#[tokio::test(flavor = "multi_thread")]
async fn remote_prefix_and_remote_group() {
    let world = world!();
    let network = world.network(1).await;
    let open = world.group(1, &EVERYTHING).await;
    let mut friends = group_spec(3, &[]);
    let by_prefix = format!("ingress IPv4 proto=6 min=80 max=80 prefix={}", "10.0.1.5/32");
    let by_group = format!("ingress IPv4 proto=6 min=81 max=81 group={}", friends.id);
    let some = world.group(2, &[&by_prefix, &by_group]).await;
    let a = world.guest(&network, 5, &[&open]).await;
    let b = world.guest(&network, 6, &[&open]).await;
    let server = world.guest(&network, 7, &[&some]).await;
    serve_tcp(&server.netns, 80);
    serve_tcp(&server.netns, 81);
    let v4 = server.v4();
    tcp_passes(&a.netns, (v4, 80));
    tcp_blocked(&b.netns, (v4, 80));
    tcp_blocked(&a.netns, (v4, 81));

    friends.members = vec!["10.0.1.5/32".parse().unwrap()];
    world.driver.apply_group(&friends).await.unwrap();
    tcp_passes(&a.netns, (v4, 81));
    tcp_blocked(&b.netns, (v4, 81));
    let mut stream = connected(&a.netns, (v4, 81));

    // Membership moves: the old member's open connection goes with it.
    friends.members = vec!["10.0.1.6/32".parse().unwrap()];
    world.driver.apply_group(&friends).await.unwrap();
    assert!(is_cut(&mut stream));
    tcp_blocked(&a.netns, (v4, 81));
    tcp_passes(&b.netns, (v4, 81));

    // A whole network as member (from an allowed address pair).
    friends.members = vec!["10.0.1.4/31".parse().unwrap()];
    world.driver.apply_group(&friends).await.unwrap();
    tcp_passes(&a.netns, (v4, 81));
    tcp_blocked(&b.netns, (v4, 81));
}

#[tokio::test(flavor = "multi_thread")]
async fn taking_a_rule_away_cuts_its_connections_and_no_others() {
    let world = world!();
    let network = world.network(1).await;
    let open = world.group(1, &EVERYTHING).await;
    let mut some = world.group(2, &["egress IPv4", "ingress IPv4 proto=6 min=22 max=22", "ingress IPv4 proto=6 min=80 max=80"]).await;
    let client = world.guest(&network, 5, &[&open]).await;
    let server = world.guest(&network, 6, &[&some]).await;
    serve_tcp(&server.netns, 22);
    serve_tcp(&server.netns, 80);
    let mut ssh = connected(&client.netns, (server.v4(), 22));
    let mut web = connected(&client.netns, (server.v4(), 80));
    some.rules.retain(|r| r.port_min != Some(22));
    world.driver.apply_group(&some).await.unwrap();
    assert!(is_cut(&mut ssh), "connection of the rule that is gone");
    assert!(still_carries(&mut web), "connection of the rule that stays");
    // Also when the whole group is taken from the port, although the guest itself goes on sending.
    let mut bare = server.spec.clone();
    bare.security_groups = vec![id(0x00f0_0009)];
    world.group(9, &["egress IPv4"]).await;
    world.driver.apply_port(&bare).await.unwrap();
    assert!(is_cut(&mut web));
}

#[tokio::test(flavor = "multi_thread")]
async fn stateless_groups_ask_for_every_packet() {
    let world = world!();
    let network = world.network(1).await;
    let open = world.group(1, &EVERYTHING).await;
    let mut stateless = group_spec(2, &["ingress IPv4 proto=17 min=6000 max=6000"]);
    stateless.stateful = false;
    world.driver.apply_group(&stateless).await.unwrap();
    let client = world.guest(&network, 5, &[&open]).await;
    let server = world.guest(&network, 6, &[&stateless]).await;
    serve_udp(&server.netns, 6000);
    udp_blocked(&client.netns, (server.v4(), 6000));
    stateless.rules.push(rule("egress IPv4 proto=17"));
    world.driver.apply_group(&stateless).await.unwrap();
    udp_passes(&client.netns, (server.v4(), 6000));
    // Turned stateful, the answer needs no rule of its own.
    stateless.rules.pop();
    stateless.stateful = true;
    world.driver.apply_group(&stateless).await.unwrap();
    udp_passes(&client.netns, (server.v4(), 6000));
}

#[tokio::test(flavor = "multi_thread")]
async fn fragments_are_judged_as_a_whole() {
    let world = world!();
    let network = world.network(1).await;
    let open = world.group(1, &EVERYTHING).await;
    let echo = world.group(2, &["ingress IPv4 proto=1 min=8 max=0"]).await;
    let client = world.guest(&network, 5, &[&open]).await;
    let server = world.guest(&network, 6, &[&echo]).await;
    let to = server.v4().to_string();
    let ping = ["busybox", "ping", "-c", "2", "-W", "2", "-s", "5000", &to];
    let said = crate::world::exec(&client.netns, &ping);
    assert!(!said.contains("0 packets received"), "{said}");
    let udp = ["busybox", "ping", "-c", "1", "-W", "1", "-s", "5000", &client.v4().to_string()].map(str::to_owned);
    let said = crate::world::exec(&server.netns, &udp.each_ref().map(String::as_str));
    assert!(said.contains("0 packets received"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_nobody_uses_leave_the_tables() {
    let world = world!();
    let network = world.network(1).await;
    let friends = world.group(3, &[]).await;
    let some = world.group(2, &[&format!("ingress IPv4 group={}", friends.id)]).await;
    let guest = world.guest(&network, 5, &[&some]).await;
    let tables = || crate::world::exec(&world.name("n-000100000001"), &["nft", "list", "ruleset"]);
    let tail = |id: &str| id[id.len() - 12..].to_owned();
    assert!(tables().contains(&format!("gi_{}", tail(&some.id))));
    assert!(tables().contains(&format!("m4_{}", tail(&friends.id))));
    let mut bare = guest.spec.clone();
    bare.security_groups.clear();
    world.driver.apply_port(&bare).await.unwrap();
    let left = tables();
    assert!(!left.contains(&tail(&some.id)) && !left.contains(&tail(&friends.id)), "{left}");
    world.driver.apply_port(&guest.spec).await.unwrap();
    assert!(tables().contains(&format!("gi_{}", tail(&some.id))));
}
