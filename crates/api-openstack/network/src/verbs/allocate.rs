//! Choosing what must be unique: addresses, MACs, VNIs. Each is a claim of the document that gets it, so a choice made here cannot
//! be made twice.
//!
//! Addresses start from a random place and take the first gap from there: the claims of a network are ordered by address, so one
//! look-up per neighbour already taken is enough, however large the subnet is.

use std::net::IpAddr;

use unkai_model::Id;
use unkai_model::network::{MacAddr, Network, Pool, Segment, Subnet, VNI_FIRST, VNI_LAST, address};
use unkai_store::Tx;

use crate::Refusal;

/// Where the search for an address begins.
#[derive(Clone, Copy, PartialEq)]
pub enum From {
    /// Anywhere, so that an address is not given out again soon after it was given back.
    Random,
    /// At the start, for the few addresses that people look for there.
    Start,
}

/// Random starts stay within so many addresses of a pool's start: enough for any number of ports, and readable in IPv6.
const SPREAD: u128 = 1 << 20;

/// An address of the subnet's pools that nobody has and that is not in `besides`; none when there is none left.
pub fn free_address(tx: &Tx, subnet: &Subnet, from: From, besides: &[IpAddr]) -> Option<IpAddr> {
    let total = subnet.pools.iter().fold(0u128, |sum, pool| sum.saturating_add(pool.size()));
    if is_used_up(tx, subnet, total) {
        return None;
    }
    let offset = match from {
        From::Start => 0,
        From::Random => u128::from(u64::from_be_bytes(tx.random())) % total.clamp(1, SPREAD),
    };
    let (first, start) = place(&subnet.pools, offset)?;
    let free = |pool: &Pool, start: u128| first_gap(tx, &subnet.network, pool, start, besides);
    let after = free(&subnet.pools[first], start);
    after.or_else(|| subnet.pools[first + 1..].iter().chain(&subnet.pools[..=first]).find_map(|p| free(p, address::number(p.start))))
}

/// No address of the pools is free. Known from the count of addresses taken in the subnet, less those outside the pools, so that a
/// full subnet is not searched again and again.
fn is_used_up(tx: &Tx, subnet: &Subnet, total: u128) -> bool {
    let taken = tx.tally("subnet-addresses", subnet.meta.id.as_str()).max(0) as u128;
    taken >= total && taken.saturating_sub(taken_outside(tx, subnet)) >= total
}

/// How many addresses of the subnet are taken that lie in no pool: one look-up for each.
fn taken_outside(tx: &Tx, subnet: &Subnet) -> u128 {
    let (mut number, last) = address::span(&subnet.cidr);
    let mut count = 0;
    while number <= last {
        let at = address::from_number(number, subnet.cidr.addr());
        if let Some(pool) = subnet.pools.iter().find(|pool| pool.contains(at)) {
            let Some(next) = address::number(pool.end).checked_add(1) else { break };
            number = next;
            continue;
        }
        let found = tx.next_claimed(address::ADDRESS, &address::key(&subnet.network, at));
        let Some(found) = found.and_then(|key| address::of_key(&subnet.network, &key)).filter(|a| a.is_ipv4() == at.is_ipv4()) else {
            break;
        };
        let reached = address::number(found);
        if reached > last {
            break;
        }
        // A claim further on may lie in a pool: the next round sees that.
        if reached == number {
            count += 1;
            let Some(next) = number.checked_add(1) else { break };
            number = next;
        } else {
            number = reached;
        }
    }
    count
}

/// The pool and the number that lie `offset` addresses after the start of the first pool.
fn place(pools: &[Pool], mut offset: u128) -> Option<(usize, u128)> {
    for (no, pool) in pools.iter().enumerate() {
        if offset < pool.size() {
            return Some((no, address::number(pool.start) + offset));
        }
        offset -= pool.size();
    }
    None
}

/// The first free address of the pool from `start` on.
fn first_gap(tx: &Tx, network: &Id<Network>, pool: &Pool, start: u128, besides: &[IpAddr]) -> Option<IpAddr> {
    let last = address::number(pool.end);
    let mut number = start;
    while number <= last {
        let candidate = address::from_number(number, pool.start);
        let key = address::key(network, candidate);
        let taken = tx.next_claimed(address::ADDRESS, &key).is_some_and(|next| *next == *key);
        if !taken && !besides.contains(&candidate) {
            return Some(candidate);
        }
        number = number.checked_add(1)?;
    }
    None
}

/// A MAC that nobody has in the network.
pub fn free_mac(tx: &Tx, network: &Id<Network>) -> Result<MacAddr, Refusal> {
    for _ in 0..64 {
        let mac = MacAddr::virtual_port(tx.random());
        if !tx.is_claimed(address::MAC, &format!("{network}/{mac}")) {
            return Ok(mac);
        }
    }
    let text = format!("Unable to generate unique mac on network {network}.");
    Err(Refusal::new(http::StatusCode::SERVICE_UNAVAILABLE, "NetworkMacAddressGenerationFailure", text))
}

/// A VNI that no network has: the first free one from a random place on, round the whole range.
pub fn free_vni(tx: &Tx) -> Result<u32, Refusal> {
    let span = VNI_LAST - VNI_FIRST + 1;
    let start = u32::from_be_bytes(tx.random()) % span;
    let free = |n: &u32| {
        let (namespace, key) = Segment::Vxlan { vni: *n }.claim();
        !tx.is_claimed(namespace, &key)
    };
    let numbers = (0..span).map(|n| VNI_FIRST + (start + n) % span);
    numbers.into_iter().find(free).ok_or_else(|| {
        let text = "Unable to create the network. No project network is available for allocation.";
        Refusal::new(http::StatusCode::SERVICE_UNAVAILABLE, "NoNetworkAvailable", text)
    })
}
