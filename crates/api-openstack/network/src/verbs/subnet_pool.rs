//! Subnet pools: which of their prefixes are free.

use std::sync::Arc;

use ipnet::IpNet;
use unkai_model::Id;
use unkai_model::identity::Project;
use unkai_model::network::{Subnet, SubnetPool, address};
use unkai_store::Tx;

use crate::Refusal;

/// What a pool is to be, before it is checked.
#[derive(Debug, Clone, Default)]
pub struct PoolRequest {
    pub prefixes: Vec<IpNet>,
    pub default_prefix_len: Option<u8>,
    pub min_prefix_len: Option<u8>,
    pub max_prefix_len: Option<u8>,
}

/// Prefixes in canonical form, and the lengths: least, most, default.
pub fn check_pool(request: &PoolRequest) -> Result<(Vec<IpNet>, u8, u8, u8), Refusal> {
    let prefixes = IpNet::aggregate(&request.prefixes.iter().map(IpNet::trunc).collect());
    let Some(first) = prefixes.first() else {
        return Err(Refusal::bad("EmptySubnetPoolPrefixList", "Empty subnet pool prefix list."));
    };
    if prefixes.iter().any(|p| p.addr().is_ipv4() != first.addr().is_ipv4()) {
        return Err(Refusal::bad("PrefixVersionMismatch", "Cannot mix IPv4 and IPv6 prefixes in a subnet pool."));
    }
    let (family_least, family_most) = if first.addr().is_ipv4() { (8, 32) } else { (64, 128) };
    let least = request.min_prefix_len.unwrap_or(family_least);
    let most = request.max_prefix_len.unwrap_or(family_most);
    let default = request.default_prefix_len.unwrap_or(least);
    let bounds = |what: &str, value: u8, base: &str, limit: u8| {
        let text = format!("Illegal prefix bounds: {what}={value}, {base}={limit}.");
        Err(Refusal::bad("IllegalSubnetPoolPrefixBounds", text))
    };
    if most > family_most {
        return bounds("max_prefixlen", most, "family_maximum", family_most);
    }
    if least > most {
        return bounds("min_prefixlen", least, "max_prefixlen", most);
    }
    if default < least {
        return bounds("default_prefixlen", default, "min_prefixlen", least);
    }
    if default > most {
        return bounds("default_prefixlen", default, "max_prefixlen", most);
    }
    Ok((prefixes, least, most, default))
}

/// A prefix of the pool for a new subnet: the one asked for, or the first free one of the length.
pub fn allocate_prefix(
    tx: &Tx,
    pool: &SubnetPool,
    project: Option<&Id<Project>>,
    wished: Option<IpNet>,
    length: Option<u8>,
) -> Result<IpNet, Refusal> {
    let length = wished.map(|w| w.prefix_len()).or(length).unwrap_or(pool.default_prefix_len);
    check_length(pool, length)?;
    let taken: Vec<Arc<Subnet>> = tx.by_index("subnet-pool", pool.meta.id.as_str()).collect();
    check_quota(pool, project, &taken, length)?;
    let used: Vec<IpNet> = taken.iter().map(|s| s.cidr).collect();
    let found = match wished {
        Some(w) => (pool.prefixes.iter().any(|p| p.contains(&w)) && !used.iter().any(|u| address::overlap(u, &w))).then_some(w),
        None => pool.prefixes.iter().find_map(|prefix| first_free(prefix, length, &used)),
    };
    let reason = match wished {
        Some(_) => "Cannot allocate requested subnet from the available set of prefixes",
        None => "Insufficient prefix space to allocate subnet size /",
    };
    let length_text = if wished.is_none() { length.to_string() } else { String::new() };
    found.ok_or_else(|| Refusal::conflict("SubnetAllocationError", format!("Failed to allocate subnet: {reason}{length_text}.")))
}

fn check_length(pool: &SubnetPool, length: u8) -> Result<(), Refusal> {
    if length < pool.min_prefix_len {
        let text = format!("Unable to allocate subnet with prefix length {length}, minimum allowed prefix is {}.", pool.min_prefix_len);
        return Err(Refusal::bad("MinPrefixSubnetAllocationError", text));
    }
    if length > pool.max_prefix_len {
        let text = format!("Unable to allocate subnet with prefix length {length}, maximum allowed prefix is {}.", pool.max_prefix_len);
        return Err(Refusal::bad("MaxPrefixSubnetAllocationError", text));
    }
    Ok(())
}

/// How much of a quota a prefix takes: addresses in IPv4, /64s in IPv6.
fn cost(v4: bool, length: u8) -> u64 {
    let bits = if v4 { 32u8.saturating_sub(length) } else { 64u8.saturating_sub(length) };
    1u64.checked_shl(bits.into()).unwrap_or(u64::MAX)
}

fn check_quota(pool: &SubnetPool, project: Option<&Id<Project>>, taken: &[Arc<Subnet>], length: u8) -> Result<(), Refusal> {
    let Some(quota) = pool.default_quota else { return Ok(()) };
    let v4 = pool.ip_version() == 4;
    let own = taken.iter().filter(|s| s.meta.project.as_ref() == project);
    let used = own.fold(0u64, |sum, s| sum.saturating_add(cost(v4, s.cidr.prefix_len())));
    if used.saturating_add(cost(v4, length)) > quota {
        return Err(Refusal::conflict("SubnetPoolQuotaExceeded", "Per-project subnet pool prefix quota exceeded."));
    }
    Ok(())
}

/// The lowest block of this length inside the prefix that touches nothing used. Jumps over what is used.
fn first_free(prefix: &IpNet, length: u8, used: &[IpNet]) -> Option<IpNet> {
    if length < prefix.prefix_len() {
        return None;
    }
    let (first, last) = address::span(prefix);
    let mut start = first;
    loop {
        let block = IpNet::new(address::from_number(start, prefix.addr()), length).ok()?;
        let Some(hit) = used.iter().find(|u| address::overlap(u, &block)) else { return Some(block) };
        let past = address::span(hit).1.max(address::span(&block).1);
        start = past.checked_add(1).filter(|next| *next <= last)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn blocks_are_found_between_used_ones() {
        let used = [net("10.0.0.0/24"), net("10.0.1.128/25")];
        assert_eq!(first_free(&net("10.0.0.0/16"), 24, &used), Some(net("10.0.2.0/24")));
        assert_eq!(first_free(&net("10.0.0.0/16"), 25, &used), Some(net("10.0.1.0/25")));
        assert_eq!(first_free(&net("10.0.0.0/24"), 26, &used), None);
        assert_eq!(first_free(&net("10.0.0.0/24"), 16, &[]), None);
        assert_eq!(first_free(&net("ffff::/16"), 16, &[net("ffff::/17")]), None);
    }

    #[test]
    fn pools_check_their_bounds() {
        let request = |prefixes: &[&str]| PoolRequest { prefixes: prefixes.iter().map(|p| net(p)).collect(), ..Default::default() };
        assert_eq!(check_pool(&request(&["10.0.0.0/9", "10.128.0.0/9"])).unwrap(), (vec![net("10.0.0.0/8")], 8, 32, 8));
        assert_eq!(check_pool(&request(&[])).unwrap_err().kind, "EmptySubnetPoolPrefixList");
        assert_eq!(check_pool(&request(&["10.0.0.0/8", "fd00::/48"])).unwrap_err().kind, "PrefixVersionMismatch");
        let narrow = PoolRequest { min_prefix_len: Some(28), max_prefix_len: Some(24), ..request(&["10.0.0.0/8"]) };
        assert_eq!(check_pool(&narrow).unwrap_err().kind, "IllegalSubnetPoolPrefixBounds");
    }
}
