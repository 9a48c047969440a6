//! `/agents`: the hosts, as administrators of networks know them. There is one agent per host, which does everything.

use axum::extract::{Path, Query as Pairs, State};
use axum::response::Response;
use http::StatusCode;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use unkai_model::compute::Host;
use unkai_model::{Id, Kind};
use unkai_openstack::{Caller, Cloud, Routes};

use crate::Refusal;
use crate::object::Object;
use crate::query::Query;
use crate::resource::{Keyed, answer};

const TYPE: &str = "Unkai agent";

pub fn routes() -> Routes {
    Routes::new().get("/v2.0/agents", list).get("/v2.0/agents/{id}", show)
}

fn time(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

fn render(host: &Host, out: &mut Object) {
    // An agent that is connected is heard all the time; of one that is not we know when it went.
    let heard = if host.is_up() { Timestamp::now() } else { host.status.since.unwrap_or(host.meta.updated) };
    out.put("id", || host.meta.id.as_str());
    out.put("agent_type", || TYPE);
    out.put("binary", || "unkai");
    out.put("topic", || "N/A");
    out.put("host", || host.meta.name.as_str());
    out.put("availability_zone", || "nova");
    out.put("admin_state_up", || host.disabled.is_none());
    out.put("alive", || host.is_up());
    out.put("created_at", || time(host.meta.created));
    out.put("started_at", || time(host.status.booted.unwrap_or(host.meta.created)));
    out.put("heartbeat_timestamp", || time(heard));
    out.put("description", || host.disabled.clone());
    out.put("resources_synced", || Value::Null);
    out.put("configurations", || {
        json!({"agent_version": host.status.agent_version, "tunnel_types": ["vxlan"], "tunneling_ip": host.status.underlay.map(|a| a.to_string())})
    });
}

/// Others than administrators see none.
async fn list(State(cloud): State<Cloud>, Caller(who): Caller, Pairs(pairs): Pairs<Vec<(String, String)>>) -> Result<Response, Refusal> {
    let query = Query::parse(pairs)?;
    let view = cloud.store.read().await?;
    let shown = |host: std::sync::Arc<Host>| {
        let mut object = Object::of(None);
        render(&host, &mut object);
        object
    };
    let found = view.all::<Host>().filter(|_| who.is_admin()).map(shown).filter(|o| query.accepts(o));
    let items: Vec<_> = found.map(|o| o.select(&query.fields)).collect();
    Ok(answer(StatusCode::OK, &Keyed("agents", items)))
}

async fn show(State(cloud): State<Cloud>, Caller(who): Caller, Path(id): Path<String>) -> Result<Response, Refusal> {
    let view = cloud.store.read().await?;
    let host = view.get(&Id::<Host>::new(id.as_str())).filter(|_| who.is_admin()).ok_or_else(|| Refusal::not_found(Host::NOUN, &id))?;
    let mut object = Object::of(None);
    render(&host, &mut object);
    Ok(answer(StatusCode::OK, &Keyed("agent", object)))
}
