//! What a network answers its guests: DHCP, DNS, metadata, addresses by advertisement.

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use hickory_proto::{
    op::{Message, Query, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata::A},
};
use unkai_driver_network::Config;

use crate::{
    traffic::*,
    world::{EVERYTHING, World, exec, world},
};

const SCRIPT: &str =
    "#!/bin/busybox sh\n[ \"$1\" = deconfig ] || env\n[ \"$1\" != bound ] || busybox ip addr add $ip/$mask dev $interface\n";

#[tokio::test(flavor = "multi_thread")]
async fn dhcp_with_a_real_client() {
    let world = world!();
    let network = world.network(1).await;
    // No rule at all: DHCP works whatever the groups say.
    let guest = world.plug(&network, 5, &[]).await;
    let script = std::env::temp_dir().join(format!("{}.sh", world.config.prefix));
    std::fs::write(&script, SCRIPT).unwrap();
    std::os::unix::fs::chown(&script, Some(0), Some(0)).unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = script.to_str().unwrap();
    let client = ["busybox", "udhcpc", "-n", "-q", "-f", "-i", "eth0", "-t", "5", "-T", "1", "-O", "121", "-s", path];
    let said = exec(&guest.netns, &client);
    std::fs::remove_file(&script).unwrap();
    let value = |key: &str| {
        let line = said.lines().find_map(|l| l.strip_prefix(&format!("{key}=")));
        line.unwrap_or_default().to_owned()
    };
    assert_eq!(value("ip"), "10.0.1.5", "{said}");
    assert_eq!(value("mask"), "24");
    assert_eq!(value("router"), "10.0.1.1");
    assert_eq!(value("dns"), "10.0.1.2");
    assert_eq!(value("mtu"), "1450");
    assert_eq!(value("hostname"), "guest5");
    assert_eq!(value("domain"), "unkai.test");
    assert_eq!(value("serverid"), "10.0.1.2");
    assert_eq!(value("staticroutes").trim(), "169.254.169.254/32 10.0.1.2 0.0.0.0/0 10.0.1.1");
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.queries.push(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn dns_udp(netns: &str, server: IpAddr, message: &Message) -> Option<Message> {
    within(netns, || {
        let any = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let mut buffer = [0; 4096];
        for _ in 0..3 {
            socket.send_to(&message.to_vec().unwrap(), SocketAddr::from((server, 53))).unwrap();
            if let Ok(n) = socket.recv(&mut buffer) {
                return Message::from_vec(&buffer[..n]).ok();
            }
        }
        None
    })
}

fn dns_tcp(netns: &str, server: IpAddr, message: &Message) -> Option<Message> {
    within(netns, || {
        let wait = Duration::from_secs(3);
        let mut stream = TcpStream::connect_timeout(&SocketAddr::from((server, 53)), wait).ok()?;
        stream.set_read_timeout(Some(wait)).unwrap();
        let bytes = message.to_vec().unwrap();
        stream.write_all(&[&(bytes.len() as u16).to_be_bytes(), &bytes[..]].concat()).ok()?;
        let mut length = [0; 2];
        stream.read_exact(&mut length).ok()?;
        let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut answer).ok()?;
        Message::from_vec(&answer).ok()
    })
}

fn addresses(message: &Message) -> Vec<String> {
    message.answers.iter().map(|r| r.data.to_string()).collect()
}

/// A resolver that knows one answer to everything.
fn resolver() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((n, from)) = socket.recv_from(&mut buffer) {
            let query = Message::from_vec(&buffer[..n]).unwrap();
            let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
            answer.queries = query.queries.clone();
            let data = RData::A(A::new(192, 0, 2, 80));
            answer.answers.push(Record::from_rdata(query.queries[0].name.clone(), 60, data));
            socket.send_to(&answer.to_vec().unwrap(), from).unwrap();
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn dns_own_names_and_forwarded_ones() {
    let config = Config { dns_upstreams: vec![resolver()], ..Config::default() };
    let world = match World::with(config).await {
        Ok(world) => world,
        Err(why) => return eprintln!("skipped: {why}"),
    };
    let mut network = world.network(1).await;
    let guest = world.guest(&network, 5, &[]).await;
    let server: IpAddr = "10.0.1.2".parse().unwrap();
    let server6: IpAddr = "2001:db8:1::2".parse().unwrap();
    let metadata: IpAddr = "169.254.169.254".parse().unwrap();
    let own = query("guest5.unkai.test.", RecordType::A);
    for at in [server, server6] {
        assert_eq!(addresses(&dns_udp(&guest.netns, at, &own).unwrap()), ["10.0.1.5"], "{at}");
    }
    assert_eq!(addresses(&dns_tcp(&guest.netns, server, &own).unwrap()), ["10.0.1.5"]);
    let reverse = query("5.1.0.10.in-addr.arpa.", RecordType::PTR);
    assert_eq!(addresses(&dns_udp(&guest.netns, server, &reverse).unwrap()), ["guest5.unkai.test."]);
    let foreign = query("example.org.", RecordType::A);
    let answer = dns_udp(&guest.netns, server, &foreign).unwrap();
    assert_eq!((addresses(&answer), answer.metadata.id), (vec!["192.0.2.80".to_owned()], foreign.metadata.id));

    // A new name is known at once, and nothing is written to the firewall for it.
    network.dns.hosts.insert("new".into(), vec!["10.0.1.99".parse().unwrap()]);
    world.driver.apply_network(&network).await.unwrap();
    let new = query("new.", RecordType::A);
    assert_eq!(addresses(&dns_udp(&guest.netns, server, &new).unwrap()), ["10.0.1.99"]);
    let nobody = query("nobody.unkai.test.", RecordType::A);
    let answer = dns_udp(&guest.netns, server, &nobody).unwrap();
    assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
    // Nothing else is served on these addresses.
    tcp_blocked(&guest.netns, (server, 80));
    tcp_blocked(&guest.netns, (metadata, 22));
}

fn get_metadata(netns: &str) -> Option<String> {
    within(netns, || {
        let address = SocketAddr::from(([169, 254, 169, 254], 80));
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(3)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        stream.write_all(b"GET /latest/meta-data/ HTTP/1.0\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        text.split("\r\n\r\n").nth(1).map(str::to_owned)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_knows_who_asks() {
    let world = world!();
    // The same addresses in two networks: only the network tells them apart.
    for n in [1, 2] {
        let network = crate::world::network_spec(n, "172.16.0");
        world.driver.apply_network(&network).await.unwrap();
        let guest = world.guest(&network, 5, &[]).await;
        crate::world::ip(&format!("-n {} route add 169.254.169.254/32 via 172.16.0.2", guest.netns));
        assert_eq!(get_metadata(&guest.netns), Some(format!("{} 172.16.0.5", network.id)));
    }
    assert_eq!(world.metadata.seen.lock().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn slaac_from_the_services_without_a_router() {
    let world = world!();
    let network = world.network(1).await;
    let open = world.group(1, &EVERYTHING).await;
    let guest = world.plug(&network, 5, &[&open]).await;
    let until = Instant::now() + Duration::from_secs(15);
    let mut seen = String::new();
    while Instant::now() < until && !seen.contains("2001:db8:1:") {
        std::thread::sleep(Duration::from_millis(200));
        seen = exec(&guest.netns, &["ip", "-6", "addr", "show", "dev", "eth0"]);
    }
    assert!(seen.contains("2001:db8:1:"), "{seen}");
    let routes = exec(&guest.netns, &["ip", "-6", "route", "show", "default"]);
    assert_eq!(routes.trim(), "", "services are nobody's default router");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_greedy_guest_does_not_keep_others_from_metadata() {
    let world = world!();
    let network = world.network(1).await;
    let (greedy, other) = (world.guest(&network, 5, &[]).await, world.guest(&network, 6, &[]).await);
    for guest in [&greedy, &other] {
        crate::world::ip(&format!("-n {} route add 169.254.169.254/32 via 10.0.1.2", guest.netns));
    }
    let held: Vec<TcpStream> = (0..300)
        .filter_map(|_| {
            let address = SocketAddr::from(([169, 254, 169, 254], 80));
            within(&greedy.netns, || TcpStream::connect_timeout(&address, Duration::from_secs(3)).ok())
        })
        .collect();
    assert!(held.len() > 100);
    assert_eq!(get_metadata(&other.netns), Some(format!("{} 10.0.1.6", network.id)));
    drop(held);
}
