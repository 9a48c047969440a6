//! `/network-ip-availabilities`: how many addresses networks have, and how many are taken; for administrators.

use axum::extract::{Path, Query as Pairs, State};
use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};
use unkai_model::network::{Network, Pool, Subnet};
use unkai_model::{Id, Kind};
use unkai_openstack::{Caller, Cloud, Routes};
use unkai_store::View;

use crate::Refusal;
use crate::object::Object;
use crate::query::Query;
use crate::resource::{Keyed, answer};

pub fn routes() -> Routes {
    Routes::new().get("/v2.0/network-ip-availabilities", list).get("/v2.0/network-ip-availabilities/{id}", show)
}

/// As large as JSON numbers go.
fn number(n: u128) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

fn total(subnet: &Subnet) -> u128 {
    subnet.pools.iter().map(Pool::size).fold(0, u128::saturating_add)
}

fn used(view: &View, subnet: &Subnet) -> u128 {
    view.tally("subnet-addresses", subnet.meta.id.as_str()).max(0) as u128
}

fn render(view: &View, network: &Network, version: Option<&str>, out: &mut Object) {
    let of_version = |s: &std::sync::Arc<Subnet>| version.is_none_or(|v| (v == "4") == s.cidr.addr().is_ipv4());
    let subnets: Vec<_> = view.by_index::<Subnet>("network", network.meta.id.as_str()).filter(of_version).collect();
    out.put("network_id", || network.meta.id.as_str());
    out.put("network_name", || network.meta.name.as_str());
    out.owner(&network.meta);
    out.put("total_ips", || number(subnets.iter().map(|s| total(s)).fold(0, u128::saturating_add)));
    out.put("used_ips", || number(subnets.iter().map(|s| used(view, s)).sum()));
    out.put("subnet_ip_availability", || {
        let one = |s: &std::sync::Arc<Subnet>| {
            json!({
                "subnet_id": s.meta.id.as_str(),
                "subnet_name": s.meta.name,
                "ip_version": if s.cidr.addr().is_ipv4() { 4 } else { 6 },
                "cidr": s.cidr.to_string(),
                "total_ips": number(total(s)),
                "used_ips": number(used(view, s)),
            })
        };
        subnets.iter().map(one).collect::<Vec<Value>>()
    });
}

async fn list(State(cloud): State<Cloud>, Caller(who): Caller, Pairs(pairs): Pairs<Vec<(String, String)>>) -> Result<Response, Refusal> {
    let query = Query::parse(pairs)?;
    let view = cloud.store.read().await?;
    let version = query.only("ip_version");
    let shown = |network: std::sync::Arc<Network>| {
        let mut object = Object::of(None);
        render(&view, &network, version, &mut object);
        object
    };
    let found = view.all::<Network>().filter(|_| who.is_admin()).map(shown).filter(|o| query.accepts(o));
    let items: Vec<_> = found.map(|o| o.select(&query.fields)).collect();
    Ok(answer(StatusCode::OK, &Keyed("network_ip_availabilities", items)))
}

async fn show(State(cloud): State<Cloud>, Caller(who): Caller, Path(id): Path<String>) -> Result<Response, Refusal> {
    let view = cloud.store.read().await?;
    let network = view.get(&Id::<Network>::new(id.as_str())).filter(|_| who.is_admin());
    let network = network.ok_or_else(|| Refusal::not_found(Network::NOUN, &id))?;
    let mut object = Object::of(None);
    render(&view, &network, None, &mut object);
    Ok(answer(StatusCode::OK, &Keyed("network_ip_availability", object)))
}
