//! The port from whose address and MAC hosts answer DHCP, DNS and metadata on a network: one, with an address in every subnet that
//! has DHCP. It is made, changed and removed in the transaction that changes the subnets.

use unkai_model::Id;
use unkai_model::network::{FixedIp, MacAddr, Network, Port, Subnet, owner};
use unkai_store::Tx;

use super::allocate::{self, From};
use super::port::{self, AddressWish, PortRequest};
use crate::Refusal;

/// Makes the DHCP port of a network fit its subnets.
pub fn refresh(tx: &mut Tx, network: &Id<Network>) -> Result<(), Refusal> {
    let served: Vec<_> = tx.by_index::<Subnet>("network", network.as_str()).filter(|s| s.enable_dhcp).collect();
    let existing = tx.by_index::<Port>("dhcp", network.as_str()).next();
    match existing {
        None if served.is_empty() => Ok(()),
        None => {
            let mac = allocate::free_mac(tx, network)?;
            let fixed_ips = addresses(tx, &served, mac, &[])?;
            insert(tx, network, mac, &fixed_ips)
        }
        Some(port) if served.is_empty() => port::delete_port(tx, &port.meta.id),
        Some(port) => {
            let fixed_ips = addresses(tx, &served, port.mac, &port.fixed_ips)?;
            if fixed_ips != port.fixed_ips {
                tx.update(&port.meta.id, |port: &mut Port| {
                    port.fixed_ips = fixed_ips.clone();
                    Ok::<_, Refusal>(())
                })?;
            }
            Ok(())
        }
    }
}

/// One address in every served subnet; what the port has it keeps. A full subnet is served from the other addresses.
fn addresses(tx: &Tx, served: &[std::sync::Arc<Subnet>], mac: MacAddr, has: &[FixedIp]) -> Result<Vec<FixedIp>, Refusal> {
    let mut found = Vec::new();
    for subnet in served {
        let kept = has.iter().find(|ip| ip.subnet == subnet.meta.id).map(|ip| ip.address);
        let address = match kept {
            None if subnet.is_auto_addressed() => Some(subnet.auto_address(mac)),
            None => allocate::free_address(tx, subnet, From::Start, &[]),
            kept => kept,
        };
        found.extend(address.map(|address| FixedIp { subnet: subnet.meta.id.clone(), address }));
    }
    Ok(found)
}

fn insert(tx: &mut Tx, network: &Id<Network>, mac: MacAddr, fixed_ips: &[FixedIp]) -> Result<(), Refusal> {
    let project = tx.require(network)?.meta.project.clone();
    let wishes = fixed_ips.iter().map(|ip| AddressWish::exactly(ip.subnet.clone(), ip.address)).collect();
    port::insert_port(
        tx,
        &PortRequest {
            mac: Some(mac),
            fixed_ips: Some(wishes),
            device_id: format!("dhcp-{network}"),
            device_owner: owner::DHCP.into(),
            port_security: Some(false),
            ..PortRequest::on(network.clone(), project)
        },
    )?;
    Ok(())
}
