//! Verbs on a real store: allocation as properties, the rest as stories.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use proptest::prelude::*;
use unkai_model::Id;
use unkai_model::network::{FloatingIp, Network, Pool, Port, Segment, Subnet, address, owner};
use unkai_store::{Store, System, Tx};

use super::*;
use crate::Refusal;

/// Runs one transaction in a store of its own and keeps nothing.
fn alone<T: Send + 'static>(body: impl FnMut(&mut Tx) -> Result<T, Refusal> + Send + 'static) -> Result<T, Refusal> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(Store::in_memory(Arc::new(System)).transact(body))
}

fn network(tx: &mut Tx) -> Result<Id<Network>, Refusal> {
    Ok(create_network(tx, &NetworkRequest::new(Some("p".into())))?.meta.id.clone())
}

fn external(tx: &mut Tx, cidr: &str) -> Result<Id<Network>, Refusal> {
    let segment = SegmentWish::Exactly(Segment::Flat { physical: "public".into() });
    let id = create_network(tx, &NetworkRequest { external: true, segment, ..NetworkRequest::new(Some("admin".into())) })?.meta.id.clone();
    let request = SubnetRequest { enable_dhcp: false, ..SubnetRequest::on(id.clone(), Some("admin".into()), 4) };
    create_subnet(tx, &SubnetRequest { cidr: Some(cidr.parse().unwrap()), ..request })?;
    Ok(id)
}

fn subnet(tx: &mut Tx, network: &Id<Network>, cidr: &str) -> Result<Arc<Subnet>, Refusal> {
    let cidr: ipnet::IpNet = cidr.parse().unwrap();
    let version = if cidr.addr().is_ipv4() { 4 } else { 6 };
    create_subnet(tx, &SubnetRequest { cidr: Some(cidr), ..SubnetRequest::on(network.clone(), Some("p".into()), version) })
}

fn port(tx: &mut Tx, network: &Id<Network>) -> Result<Arc<Port>, Refusal> {
    create_port(tx, &PortRequest::on(network.clone(), Some("p".into())))
}

fn unlimited(tx: &mut Tx) {
    let limits = ["port", "network", "subnet"].map(|r| (r.to_owned(), -1)).into();
    let id = Id::<unkai_model::quota::Quota>::new("network/default");
    tx.insert(unkai_model::quota::Quota { meta: unkai_model::Meta::new(id), limits }).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// A subnet gives out every address it has, each once, never its own, the broadcast or the gateway's.
    #[test]
    fn a_subnet_is_used_up_without_duplicates(prefix in 24u8..=29, gateway in 1u32..6, holes in proptest::collection::vec(any::<u8>(), 0..20)) {
        let (given, gateway) = alone(move |tx| {
            unlimited(tx);
            let net = network(tx)?;
            let cidr: ipnet::IpNet = format!("10.7.0.0/{prefix}").parse().unwrap();
            let gateway: IpAddr = address::from_number(address::number(cidr.network()) + u128::from(gateway), cidr.addr());
            let request = SubnetRequest { cidr: Some(cidr), gateway: Some(Some(gateway)), ..SubnetRequest::on(net.clone(), Some("p".into()), 4) };
            create_subnet(tx, &request)?;
            let dhcp = tx.by_index::<Port>("dhcp", net.as_str()).next().unwrap();
            let mut ports = Vec::new();
            let refusal = loop {
                match port(tx, &net) {
                    Ok(port) => ports.push(port),
                    Err(refusal) => break refusal,
                }
            };
            assert_eq!(refusal.kind, "IpAddressGenerationFailure");
            // What is given back is found again.
            for hole in &holes {
                let no = usize::from(*hole) % ports.len();
                delete_port(tx, &ports[no].meta.id)?;
                ports[no] = port(tx, &net)?;
            }
            let given: Vec<IpAddr> = ports.iter().chain([&dhcp]).flat_map(|p| p.addresses().collect::<Vec<_>>()).collect();
            Ok((given, gateway))
        }).unwrap();
        let cidr: ipnet::IpNet = format!("10.7.0.0/{prefix}").parse().unwrap();
        let unique: BTreeSet<_> = given.iter().collect();
        prop_assert_eq!(unique.len(), given.len());
        prop_assert_eq!(given.len() as u32, (1u32 << (32 - prefix)) - 3);
        prop_assert!(!unique.contains(&gateway) && !unique.contains(&cidr.network()) && !unique.contains(&cidr.broadcast()));
    }

    /// Pools are honoured, with holes between them.
    #[test]
    fn only_pools_are_used(starts in proptest::collection::btree_set(0u32..20, 1..4)) {
        let given = alone(move |tx| {
            let net = network(tx)?;
            let at = |n: u32| IpAddr::from([10, 0, 0, 0x10 + n as u8]);
            let pools = starts.iter().map(|s| Pool { start: at(s * 10), end: at(s * 10 + 2) }).collect::<Vec<_>>();
            let request = SubnetRequest { cidr: Some("10.0.0.0/24".parse().unwrap()), pools: Some(pools.clone()), enable_dhcp: false,
                ..SubnetRequest::on(net.clone(), Some("p".into()), 4) };
            create_subnet(tx, &request)?;
            let mut given = BTreeSet::new();
            while let Ok(port) = port(tx, &net) {
                given.extend(port.addresses());
            }
            assert!(given.iter().all(|a| pools.iter().any(|p| p.contains(*a))));
            assert_eq!(given.len(), pools.len() * 3);
            Ok(given)
        }).unwrap();
        prop_assert!(!given.is_empty());
    }
}

#[test]
fn a_large_subnet_is_not_searched_through() {
    let (taken, spent) = alone(|tx| {
        unlimited(tx);
        let net = network(tx)?;
        subnet(tx, &net, "10.0.0.0/16")?;
        for _ in 0..3000 {
            port(tx, &net)?;
        }
        let start = std::time::Instant::now();
        for _ in 0..100 {
            port(tx, &net)?;
        }
        Ok((tx.by_index::<Port>("network", net.as_str()).count(), start.elapsed()))
    })
    .unwrap();
    assert_eq!(taken, 3101);
    assert!(spent < std::time::Duration::from_secs(2), "100 ports took {spent:?}");
}

#[test]
fn a_full_subnet_knows_it_and_addresses_outside_the_pools_do_not_count() {
    alone(|tx| {
        unlimited(tx);
        let net = network(tx)?;
        let at = |n: u8| IpAddr::from([10, 0, 0, n]);
        let pools = Some(vec![Pool { start: at(10), end: at(12) }, Pool { start: at(20), end: at(20) }]);
        let request = SubnetRequest {
            cidr: Some("10.0.0.0/24".parse().unwrap()),
            pools,
            enable_dhcp: false,
            ..SubnetRequest::on(net.clone(), Some("p".into()), 4)
        };
        create_subnet(tx, &request)?;
        for outside in [1, 2, 13, 19, 21, 254] {
            let wish = vec![AddressWish::address(at(outside))];
            create_port(tx, &PortRequest { fixed_ips: Some(wish), ..PortRequest::on(net.clone(), Some("p".into())) })?;
        }
        let given: BTreeSet<IpAddr> = (0..4).map(|_| port(tx, &net).unwrap().fixed_ips[0].address).collect();
        assert_eq!(given, [10, 11, 12, 20].map(at).into());
        assert_eq!(port(tx, &net).unwrap_err().kind, "IpAddressGenerationFailure");
        let freed = tx.holder::<Port>(address::ADDRESS, &address::key(&net, at(11))).unwrap();
        delete_port(tx, &freed)?;
        assert_eq!(port(tx, &net)?.fixed_ips[0].address, at(11));
        Ok(())
    })
    .unwrap();
}

#[test]
fn the_dhcp_port_follows_the_subnets() {
    alone(|tx| {
        let net = network(tx)?;
        let dhcp = |tx: &Tx| tx.by_index::<Port>("dhcp", net.as_str()).next();
        let first = subnet(tx, &net, "10.0.0.0/24")?;
        assert_eq!(dhcp(tx).unwrap().addresses().collect::<Vec<_>>(), ["10.0.0.2".parse::<IpAddr>().unwrap()]);
        subnet(tx, &net, "10.0.1.0/24")?;
        assert_eq!(dhcp(tx).unwrap().fixed_ips.len(), 2);
        delete_subnet(tx, &first.meta.id)?;
        assert_eq!(dhcp(tx).unwrap().addresses().collect::<Vec<_>>(), ["10.0.1.2".parse::<IpAddr>().unwrap()]);
        delete_network(tx, &net)?;
        assert_eq!(tx.all::<Port>().count() + tx.all::<Subnet>().count() + tx.all::<Network>().count(), 0);
        Ok(())
    })
    .unwrap();
}

#[test]
fn ports_refuse_addresses_that_are_not_theirs_to_take() {
    alone(|tx| {
        let net = network(tx)?;
        let sub = subnet(tx, &net, "10.0.0.0/24")?;
        let mut ask = |wish: AddressWish| {
            let request = PortRequest { fixed_ips: Some(vec![wish]), ..PortRequest::on(net.clone(), Some("p".into())) };
            create_port(tx, &request).map(|p| p.fixed_ips[0].address.to_string()).map_err(|r| r.kind)
        };
        let a = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(ask(AddressWish::address(a("10.0.0.9"))), Ok("10.0.0.9".into()));
        assert_eq!(ask(AddressWish::address(a("10.0.0.9"))), Err("IpAddressAlreadyAllocated"));
        assert_eq!(ask(AddressWish::address(a("10.0.1.9"))), Err("InvalidIpForNetwork"));
        assert_eq!(ask(AddressWish::exactly(sub.meta.id.clone(), a("10.0.0.255"))), Err("InvalidIpForSubnet"));
        assert_eq!(ask(AddressWish::of_subnet("no-such".into())), Err("SubnetNotFound"));
        Ok(())
    })
    .unwrap();
}

#[test]
fn slaac_addresses_come_from_the_mac() {
    alone(|tx| {
        let net = network(tx)?;
        let mode = Some(unkai_model::network::Ipv6Mode::Slaac);
        let before = port(tx, &net)?;
        let request = SubnetRequest {
            cidr: Some("fd00:1::/64".parse().unwrap()),
            ipv6_ra_mode: mode,
            ipv6_address_mode: mode,
            ..SubnetRequest::on(net.clone(), Some("p".into()), 6)
        };
        let sub = create_subnet(tx, &request)?;
        let after = port(tx, &net)?;
        for port in [tx.require(&before.meta.id)?, after] {
            assert_eq!(port.addresses().collect::<Vec<_>>(), [sub.auto_address(port.mac)]);
        }
        delete_subnet(tx, &sub.meta.id)?;
        assert!(tx.require(&before.meta.id)?.fixed_ips.is_empty());
        Ok(())
    })
    .unwrap();
}

type Reachable = (Id<Network>, Arc<Port>, Id<unkai_model::network::Router>, Arc<Subnet>);

fn reachable(tx: &mut Tx) -> Result<Reachable, Refusal> {
    let public = external(tx, "203.0.113.0/24")?;
    let net = network(tx)?;
    let sub = subnet(tx, &net, "10.0.0.0/24")?;
    let gateway = Some(GatewayWish { network: public.clone(), snat: None, fixed_ips: None });
    let router = create_router(
        tx,
        &RouterRequest {
            project: Some("p".into()),
            name: "r".into(),
            standard: Default::default(),
            admin_up: true,
            gateway,
            availability_zone_hints: vec![],
        },
    )?
    .meta
    .id
    .clone();
    add_interface(tx, &router, &InterfaceWish::Subnet(sub.meta.id.clone()))?;
    let port = port(tx, &net)?;
    Ok((public, port, router, sub))
}

fn floating(tx: &mut Tx, public: &Id<Network>, target: Option<&Port>) -> Result<Arc<FloatingIp>, Refusal> {
    let target = target.map(|p| TargetWish { port: p.meta.id.clone(), address: None });
    create_floating_ip(
        tx,
        &FloatingRequest {
            project: Some("p".into()),
            standard: Default::default(),
            network: public.clone(),
            subnet: None,
            address: None,
            target,
            dns_name: String::new(),
            dns_domain: String::new(),
        },
    )
}

#[test]
fn floating_ips_need_a_way_and_hold_it() {
    alone(|tx| {
        let (public, port, router, sub) = reachable(tx)?;
        let floating_ip = floating(tx, &public, Some(&port))?;
        assert_eq!(floating_ip.target.as_ref().unwrap().router, router);
        assert_eq!(server_addresses(&tx.view(), "").len(), 0);
        assert_eq!(port_addresses(&tx.view(), port.clone()).unwrap().floating, [(port.fixed_ips[0].address, floating_ip.address)]);
        assert_eq!(floating(tx, &public, Some(&port)).unwrap_err().kind, "FloatingIPPortAlreadyAssociated");
        let wish = InterfaceWish::Subnet(sub.meta.id.clone());
        assert_eq!(remove_interface(tx, &router, &wish).unwrap_err().kind, "RouterInterfaceInUseByFloatingIP");
        assert_eq!(set_gateway(tx, &router, None).unwrap_err().kind, "RouterExternalGatewayInUseByFloatingIp");
        assert_eq!(delete_router(tx, &router).unwrap_err().kind, "RouterInUse");
        delete_port(tx, &port.meta.id)?;
        assert_eq!(tx.require(&floating_ip.meta.id)?.target, None);
        remove_interface(tx, &router, &wish)?;
        delete_router(tx, &router)?;
        delete_network(tx, &public)
    })
    .unwrap();
}

#[test]
fn a_failed_verb_leaves_nothing() {
    let store = Store::in_memory(Arc::new(System));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let refused = runtime.block_on(store.transact(|tx| {
        let net = network(tx)?;
        subnet(tx, &net, "10.0.0.0/24")?;
        port(tx, &"no-such-network".into())
    }));
    assert_eq!(refused.unwrap_err().kind, "NetworkNotFound");
    assert_eq!(store.view().all::<Network>().count() + store.view().all::<Port>().count(), 0);
}

#[test]
fn a_project_has_one_default_group_and_deleting_ports_frees_groups() {
    alone(|tx| {
        let net = network(tx)?;
        subnet(tx, &net, "10.0.0.0/24")?;
        let port = port(tx, &net)?;
        let group = default_security_group(tx, &"p".into())?;
        assert_eq!(port.security_groups, std::slice::from_ref(&group));
        assert_eq!(tx.by_index::<unkai_model::network::SecurityGroupRule>("group", group.as_str()).count(), 4);
        assert_eq!(delete_security_group(tx, &group).unwrap_err().kind, "SecurityGroupInUse");
        delete_ports_of(tx, "nothing")?;
        delete_port(tx, &port.meta.id)?;
        delete_security_group(tx, &group)
    })
    .unwrap();
}

#[test]
fn quota_counts_what_is_there() {
    let refusal = alone(|tx| {
        let net = network(tx)?;
        subnet(tx, &net, "10.0.0.0/16")?;
        for _ in 0..500 {
            port(tx, &net)?;
        }
        Ok(())
    })
    .unwrap_err();
    assert_eq!((refusal.kind, refusal.message.as_str()), ("OverQuota", "Quota exceeded for resources: ['port']."));
}

#[test]
fn routers_refuse_subnets_that_overlap_and_owners_are_kept_apart() {
    alone(|tx| {
        let (public, port, router, _) = reachable(tx)?;
        let other = network(tx)?;
        let overlapping = subnet(tx, &other, "10.0.0.128/25")?;
        let refused = add_interface(tx, &router, &InterfaceWish::Subnet(overlapping.meta.id.clone())).unwrap_err();
        assert_eq!((refused.kind, refused.status.as_u16()), ("BadRequest", 400));
        assert_eq!(tx.by_index::<Port>("device", router.as_str()).filter(|p| p.device_owner == owner::ROUTER_INTERFACE).count(), 1);
        let foreign = FloatingRequest {
            project: Some("q".into()),
            standard: Default::default(),
            network: public,
            subnet: None,
            address: None,
            target: Some(TargetWish { port: port.meta.id.clone(), address: None }),
            dns_name: String::new(),
            dns_domain: String::new(),
        };
        assert_eq!(create_floating_ip(tx, &foreign).unwrap_err().status.as_u16(), 400);
        Ok(())
    })
    .unwrap();
}

#[test]
fn two_projects_use_the_same_range_on_networks_of_their_own() {
    alone(|tx| {
        let (a, b) = (network(tx)?, network(tx)?);
        for net in [&a, &b] {
            subnet(tx, net, "172.16.0.0/24")?;
            let wish = AddressWish::address("172.16.0.77".parse().unwrap());
            create_port(tx, &PortRequest { fixed_ips: Some(vec![wish]), ..PortRequest::on(net.clone(), Some("p".into())) })?;
        }
        let vni = |id: &Id<Network>| tx.require(id).unwrap().segment.clone();
        assert_ne!(vni(&a), vni(&b));
        Ok(())
    })
    .unwrap();
}
