//! A driver of its own, guests, and cleaning up whatever happens.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use unkai_driver_network::*;

pub struct World {
    pub driver: Driver,
    pub config: Config,
    pub metadata: Arc<Metadata>,
}

pub struct Guest {
    pub netns: String,
    pub spec: PortSpec,
}

/// Answers every connection with who it says is asking.
#[derive(Default)]
pub struct Metadata {
    pub seen: Mutex<Vec<String>>,
}

pub struct Owner(pub Arc<Metadata>);

impl Services for Owner {
    fn metadata(&self, mut connection: MetadataConnection) {
        let who = format!("{} {}", connection.network_id, connection.peer.ip());
        self.0.seen.lock().unwrap().push(who.clone());
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            let _ = connection.stream.read(&mut buffer).await;
            let text = format!("HTTP/1.0 200 OK\r\n\r\n{who}");
            let _ = connection.stream.write_all(text.as_bytes()).await;
            drop(connection.permit);
        });
    }
}

/// Why packet tests cannot run here, if they cannot.
pub fn cannot_run() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("not root".into());
    }
    ["nft", "ip", "busybox"].iter().find_map(|tool| {
        let found = Command::new(tool).arg("--help").output().is_ok();
        (!found).then(|| format!("no `{tool}`"))
    })
}

/// Returns from the test, saying why, when it cannot run here.
macro_rules! world {
    () => {
        match $crate::world::World::open().await {
            Ok(world) => world,
            Err(why) => {
                eprintln!("skipped: {why}");
                return;
            }
        }
    };
}
pub(crate) use world;

static COUNT: AtomicU32 = AtomicU32::new(0);

fn prefix() -> String {
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let digits = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut n = std::process::id() % 46656 * 36 + count % 36;
    let mut text = String::new();
    for _ in 0..4 {
        text.insert(0, char::from(digits[(n % 36) as usize]));
        n /= 36;
    }
    format!("z{text}")
}

pub fn id(n: u32) -> String {
    format!("0193abcd-0000-7000-8000-{:04x}{n:08x}", n & 0xffff)
}

pub fn mac(n: u32) -> Mac {
    let [_, _, a, b] = n.to_be_bytes();
    Mac([0xfa, 0x16, 0x3e, 0, a, b])
}

pub fn ip(command: &str) {
    let output = Command::new("ip").args(command.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "ip {command}: {}", String::from_utf8_lossy(&output.stderr));
}

/// In a namespace, waiting for the end; standard output.
pub fn exec(netns: &str, command: &[&str]) -> String {
    let output = Command::new("ip").args(["netns", "exec", netns]).args(command).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

impl World {
    pub async fn open() -> Result<Self, String> {
        Self::with(Config { dns_upstreams: Vec::new(), ..Config::default() }).await
    }

    pub async fn with(config: Config) -> Result<Self, String> {
        if let Some(why) = cannot_run() {
            return Err(why);
        }
        let prefix = prefix();
        let config = Config { dataplane_netns: Some(format!("{prefix}-d")), prefix, ..config };
        let metadata = Arc::new(Metadata::default());
        let driver = Driver::open(config.clone(), Arc::new(Owner(metadata.clone()))).await.unwrap();
        Ok(Self { driver, config, metadata })
    }

    /// As after a crash: a new driver that knows nothing.
    pub async fn reopen(&mut self) {
        self.driver = Driver::open(self.config.clone(), Arc::new(Owner(self.metadata.clone()))).await.unwrap();
    }

    pub fn name(&self, what: &str) -> String {
        format!("{}-{what}", self.config.prefix)
    }

    pub fn dataplane(&self) -> String {
        self.name("d")
    }

    /// A namespace that is nobody's guest.
    pub fn stranger(&self, name: &str) -> String {
        let netns = self.name(name);
        ip(&format!("netns add {netns}"));
        ip(&format!("-n {netns} link set lo up"));
        netns
    }

    /// Network `n`: 10.0.n.0/24 (or another range) and 2001:db8:n::/64, services at .2.
    pub async fn network(&self, n: u32) -> NetworkSpec {
        let spec = network_spec(n, &format!("10.0.{n}"));
        self.driver.apply_network(&spec).await.unwrap();
        spec
    }

    /// A guest with address `host` in the network's first subnets, up and configured.
    pub async fn guest(&self, network: &NetworkSpec, host: u32, groups: &[&GroupSpec]) -> Guest {
        let guest = self.plug(network, host, groups).await;
        guest.configure(network);
        guest
    }

    /// As [`World::guest`], but nobody has told the guest its address.
    pub async fn plug(&self, network: &NetworkSpec, host: u32, groups: &[&GroupSpec]) -> Guest {
        let n = number(network);
        let netns = self.stranger(&format!("g{n}-{host}"));
        let mac = mac(n * 256 + host);
        let fixed_ips = network.subnets.iter().map(|subnet| FixedIp {
            subnet_id: subnet.id.clone(),
            address: match subnet.cidr.network() {
                IpAddr::V4(net) => IpAddr::V4(Ipv4Addr::from(u32::from(net) + host)),
                // What the guest makes of an advertised prefix by itself.
                IpAddr::V6(net) => {
                    let low = u128::from(mac.link_local()) & u128::from(u64::MAX);
                    IpAddr::V6(Ipv6Addr::from(u128::from(net) | low))
                }
            },
        });
        let spec = PortSpec {
            id: id(n * 1000 + host),
            network_id: network.id.clone(),
            mac,
            fixed_ips: fixed_ips.collect(),
            allowed_address_pairs: vec![],
            port_security: true,
            security_groups: groups.iter().map(|g| g.id.clone()).collect(),
            admin_state_up: true,
            hostname: Some(format!("guest{host}")),
            extra_dhcp_opts: vec![],
            attach: Attach::Veth { netns: netns.clone(), device: "eth0".into() },
        };
        assert!(self.driver.open_port(&spec).await.unwrap().is_none());
        Guest { netns, spec }
    }

    pub async fn group(&self, n: u32, rules: &[&str]) -> GroupSpec {
        let spec = group_spec(n, rules);
        self.driver.apply_group(&spec).await.unwrap();
        spec
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let Ok(entries) = std::fs::read_dir("/run/netns") else {
            return;
        };
        for name in entries.filter_map(|e| e.ok()?.file_name().into_string().ok()) {
            if name.starts_with(&format!("{}-", self.config.prefix)) {
                let _ = Command::new("ip").args(["netns", "del", &name]).output();
            }
        }
    }
}

fn number(network: &NetworkSpec) -> u32 {
    u32::from_str_radix(&network.id[network.id.len() - 8..], 16).unwrap()
}

/// Two networks with the same `range` do not know of each other.
pub fn network_spec(n: u32, range: &str) -> NetworkSpec {
    serde_json::from_value(serde_json::json!({
        "id": id(n),
        "mtu": 1450,
        "service": {"mac": mac(n * 256 + 2), "addresses": [format!("{range}.2/24"), format!("2001:db8:{n}::2/64")]},
        "subnets": [
            {"id": "four", "cidr": format!("{range}.0/24"), "gateway": format!("{range}.1")},
            {"id": "six", "cidr": format!("2001:db8:{n}::/64"), "gateway": format!("2001:db8:{n}::1"),
             "ipv6_ra_mode": "slaac", "ipv6_address_mode": "slaac"},
        ],
        "dns": {"domain": "unkai.test.", "hosts": {"guest5": [format!("{range}.5")]}},
    }))
    .unwrap()
}

/// Rules as `ingress IPv4 proto=6 min=22 max=22 prefix=… group=…`.
pub fn group_spec(n: u32, rules: &[&str]) -> GroupSpec {
    GroupSpec { id: id(0x00f0_0000 + n), stateful: true, rules: rules.iter().map(|text| rule(text)).collect(), members: vec![] }
}

pub fn rule(text: &str) -> Rule {
    let mut words = text.split_whitespace();
    let mut object = serde_json::json!({"direction": words.next(), "ethertype": words.next()});
    for word in words {
        let (key, value) = word.split_once('=').unwrap();
        let number = value.parse::<u16>().map(serde_json::Value::from);
        let key = match key {
            "proto" => "protocol",
            "min" => "port_min",
            "max" => "port_max",
            "prefix" => "remote_prefix",
            "group" => "remote_group",
            other => panic!("{other}"),
        };
        object[key] = number.unwrap_or_else(|_| value.into());
    }
    serde_json::from_value(object).unwrap()
}

pub const EVERYTHING: [&str; 4] = ["ingress IPv4", "egress IPv4", "ingress IPv6", "egress IPv6"];

impl Guest {
    pub fn v4(&self) -> IpAddr {
        self.spec.fixed_ips[0].address
    }

    pub fn v6(&self) -> IpAddr {
        self.spec.fixed_ips[1].address
    }

    pub fn configure(&self, network: &NetworkSpec) {
        let netns = &self.netns;
        ip(&format!("-n {netns} link set eth0 mtu {}", network.mtu));
        for (fixed, subnet) in self.spec.fixed_ips.iter().zip(&network.subnets) {
            let net = subnet.cidr.prefix_len();
            let nodad = if fixed.address.is_ipv6() { "nodad" } else { "" };
            ip(&format!("-n {netns} addr replace {}/{net} dev eth0 {nodad}", fixed.address));
            if let Some(IpAddr::V4(gateway)) = subnet.gateway {
                ip(&format!("-n {netns} route add default via {gateway}"));
            }
        }
    }
}
