//! Connections through a router that are translated otherwise than they would be now.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;

use crate::{
    Result,
    netns::Netns,
    spec::{FloatingIp, RouterSpec},
    sys::conntrack,
};

/// Whether two specs differ in what is translated.
pub(crate) fn differs(old: &RouterSpec, new: &RouterSpec) -> bool {
    let of = |s: &RouterSpec| {
        let gateway = s.gateway.as_ref().map(|g| (g.addresses.clone(), g.enable_snat));
        (s.floating_ips.clone(), gateway)
    };
    of(old) != of(new)
}

/// Connections keep the translation they began with: those of floating addresses that are gone or moved are deleted.
pub(crate) async fn cut(netns: &Netns, old: Option<&RouterSpec>, spec: &RouterSpec) -> Result<()> {
    let now: BTreeSet<FloatingIp> = spec.floating_ips.iter().copied().collect();
    let gone: Option<Vec<FloatingIp>> = old.map(|old| old.floating_ips.iter().filter(|f| !now.contains(f)).copied().collect());
    if gone.as_ref().is_some_and(Vec::is_empty) {
        return Ok(());
    }
    let own: Vec<IpAddr> = spec.gateway.iter().flat_map(|g| g.addresses.iter().map(IpNet::addr)).collect();
    netns
        .run("delete translated connections", move || {
            conntrack::retain(|flow| match &gone {
                Some(gone) => !gone.iter().any(|f| is_of(f, flow)),
                // A new process does not know what was before: what was translated must be as it would be today.
                None => {
                    let inward = flow.original.destination != flow.reply.source;
                    let outward = flow.original.source != flow.reply.destination;
                    let hidden = own.contains(&flow.reply.destination);
                    !(inward || outward && !hidden) || now.iter().any(|f| is_of(f, flow))
                }
            })
        })
        .await
        .map(|_| ())
}

/// Whether the flow was translated by this association, inward or outward.
fn is_of(f: &FloatingIp, flow: &conntrack::Flow) -> bool {
    let (floating, fixed) = (IpAddr::V4(f.floating), IpAddr::V4(f.fixed));
    let inward = flow.original.destination == floating && flow.reply.source == fixed;
    let outward = flow.original.source == fixed && flow.reply.destination == floating;
    inward || outward
}
