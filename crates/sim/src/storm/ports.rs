//! One network, from whose few addresses servers ask for theirs.

use std::net::{IpAddr, Ipv4Addr};

use unkai_model::compute::Server;
use unkai_model::network::{FixedIp, MacAddr, Network, Port, Segment, Standard, Subnet, owner};
use unkai_model::{Error, Id, Meta};
use unkai_store::Tx;

const NETWORK: &str = "network";
const SUBNET: &str = "subnet";
/// So few that one that is free again is soon taken by somebody else.
const ADDRESSES: u64 = 24;

pub fn create_network(tx: &mut Tx) -> Result<(), Error> {
    tx.insert(Network {
        meta: Meta::new(NETWORK).named(NETWORK),
        standard: Standard::default(),
        admin_up: true,
        mtu: 1450,
        segment: Segment::Vxlan { vni: 4096 },
        external: false,
        is_default: false,
        port_security: true,
        dns_domain: String::new(),
        availability_zone_hints: Vec::new(),
    })?;
    let (dns_nameservers, host_routes, service_types, pools) = Default::default();
    tx.insert(Subnet {
        meta: Meta::new(SUBNET).named(SUBNET),
        standard: Standard::default(),
        network: Id::new(NETWORK),
        cidr: "10.0.0.0/24".parse().map_err(|e| Error::invalid(format!("the subnet: {e}")))?,
        gateway: None,
        pools,
        enable_dhcp: false,
        dns_nameservers,
        host_routes,
        ipv6_ra_mode: None,
        ipv6_address_mode: None,
        subnet_pool: None,
        service_types,
    })
    .map(drop)
}

/// Gives a new server a port with this address. Refused when somebody has it.
pub fn create(tx: &mut Tx, server: &Id<Server>, draw: u64) -> Result<(), Error> {
    let address = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1 + (draw % ADDRESSES) as u8));
    let (allowed_address_pairs, extra_dhcp_options, security_groups, binding_profile) = Default::default();
    let port = tx.insert(Port {
        meta: Meta::new(tx.new_id()),
        standard: Standard::default(),
        network: Id::new(NETWORK),
        mac: mac(tx)?,
        admin_up: true,
        fixed_ips: vec![FixedIp { subnet: Id::new(SUBNET), address }],
        device_id: server.to_string(),
        device_owner: owner::COMPUTE.into(),
        port_security: true,
        security_groups,
        allowed_address_pairs,
        extra_dhcp_options,
        dns_name: String::new(),
        vnic_type: "normal".into(),
        binding_host: None,
        binding_profile,
        status: Default::default(),
    })?;
    tx.update(server, |server: &mut Server| {
        server.spec.ports.push(port.meta.id.clone());
        Ok::<_, Error>(())
    })
    .map(drop)
}

fn mac(tx: &Tx) -> Result<MacAddr, Error> {
    let [a, b, c] = tx.random();
    format!("fa:16:3e:{a:02x}:{b:02x}:{c:02x}").parse().map_err(|e| Error::invalid(format!("a MAC address: {e}")))
}
