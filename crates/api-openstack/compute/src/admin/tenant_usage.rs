//! `/os-simple-tenant-usage`: hours of servers in a period, from when they were started to when they were deleted.
//!
//! Deleted servers count as long as their documents are kept.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Map, Value, json};
use unkai_model::Timestamp;
use unkai_model::compute::{Phase, Run, Server};
use unkai_openstack::{Caller, Cloud, Routes, iso};
use unkai_store::View;

use super::page::{self, QuerySchema};
use super::policy;
use crate::query::{Query, time};
use crate::schema::{Schema, object};
use crate::{Fault, Microversion};

pub fn routes() -> Routes {
    Routes::new().get("/v2.1/os-simple-tenant-usage", index).get("/v2.1/os-simple-tenant-usage/{project}", show)
}

static QUERY: LazyLock<QuerySchema> = LazyLock::new(|| {
    let text = || Schema::string(0, usize::MAX).many();
    let object = object().optional("start", text()).optional("end", text()).optional("detailed", text());
    QuerySchema::new(object.optional_in(40.., "limit", Schema::count().many()).optional_in(40.., "marker", text()))
});

#[derive(Debug, Clone, Copy, PartialEq)]
struct Period {
    start: Timestamp,
    stop: Timestamp,
}

impl Period {
    fn parse(query: &Query, now: Timestamp) -> Result<Self, Fault> {
        let at = |name: &str| match query.get(name).filter(|text| !text.is_empty()) {
            None => Ok(now),
            Some(text) => time(text).ok_or_else(|| Fault::bad_request("Invalid date format: Datetime is in invalid format")),
        };
        let (start, stop) = (at("start")?, at("end")?);
        if start >= stop {
            return Err(Fault::bad_request("Invalid start time. The start time cannot occur after the end time."));
        }
        Ok(Period { start, stop: stop.min(now) })
    }

    /// How long something that lived so long was there in the period.
    fn hours(&self, launched: Timestamp, ended: Option<Timestamp>) -> f64 {
        let start = launched.max(self.start);
        let stop = ended.map_or(self.stop, |ended| ended.min(self.stop));
        (stop.as_millisecond() - start.as_millisecond()).max(0) as f64 / 3_600_000.0
    }

    fn touches(&self, launched: Timestamp, ended: Option<Timestamp>) -> bool {
        launched <= self.stop && ended.is_none_or(|ended| ended >= self.start)
    }
}

/// When it began to cost, when it no longer did.
fn life(server: &Server) -> Option<(Timestamp, Option<Timestamp>)> {
    let timeline = &server.status.timeline;
    Some((timeline.launched.or(timeline.started)?, server.status.deleted))
}

fn state(server: &Server) -> &'static str {
    match (&server.status.observed.phase, server.spec.run) {
        _ if server.status.deleted.is_some() => "terminated",
        _ if server.status.fault.is_some() => "error",
        (_, Run::Shelved) => "shelved",
        (_, Run::Offloaded) => "shelved_offloaded",
        (Phase::Paused, _) => "paused",
        (Phase::Suspended, _) => "suspended",
        (Phase::Stopped(_), _) => "stopped",
        _ => "active",
    }
}

/// Sums of one project.
#[derive(Debug, Default)]
struct Sum {
    hours: f64,
    memory_mb: f64,
    vcpus: f64,
    local_gb: f64,
    servers: Vec<Value>,
}

impl Sum {
    fn add(&mut self, server: &Server, period: &Period, now: Timestamp) {
        let Some((launched, ended)) = life(server) else { return };
        let hours = period.hours(launched, ended);
        let flavor = &server.spec.launch.flavor;
        let local_gb = flavor.disk_gib + flavor.ephemeral_gib;
        self.hours += hours;
        self.memory_mb += hours * flavor.ram_mib as f64;
        self.vcpus += hours * f64::from(flavor.vcpus);
        self.local_gb += hours * local_gb as f64;
        self.servers.push(json!({
            "instance_id": server.meta.id,
            "name": server.meta.name,
            "tenant_id": server.meta.project,
            "flavor": flavor.name,
            "hours": hours,
            "memory_mb": flavor.ram_mib,
            "vcpus": flavor.vcpus,
            "local_gb": local_gb,
            "started_at": iso(launched),
            "ended_at": ended.map(iso),
            "state": state(server),
            "uptime": (ended.unwrap_or(now).as_second() - launched.as_second()).max(0),
        }));
    }

    fn render(self, project: &str, period: &Period, detailed: bool) -> Value {
        let mut shown = json!({
            "tenant_id": project,
            "start": iso(period.start),
            "stop": iso(period.stop),
            "total_hours": self.hours,
            "total_memory_mb_usage": self.memory_mb,
            "total_vcpus_usage": self.vcpus,
            "total_local_gb_usage": self.local_gb,
        });
        if detailed {
            shown["server_usages"] = json!(self.servers);
        }
        shown
    }
}

/// The servers of the period, a page of them from 2.40 on, and the marker of the next page.
fn select(
    servers: impl Iterator<Item = Arc<Server>>,
    period: &Period,
    query: &Query,
    version: Microversion,
) -> Result<Vec<Arc<Server>>, Fault> {
    let touches = |server: &Arc<Server>| life(server).is_some_and(|(launched, ended)| period.touches(launched, ended));
    let mut found: Vec<_> = servers.filter(touches).collect();
    if version.at_least(40) {
        found.sort_by(|a, b| a.meta.id.cmp(&b.meta.id));
        found = page::cut(found, query, |server| server.meta.id.as_str(), |marker| format!("Marker {marker} could not be found."))?;
    }
    Ok(found)
}

fn of_project(view: &View, project: &str) -> impl Iterator<Item = Arc<Server>> {
    view.by_index::<Server>("project", project).chain(view.by_index("deleted", project))
}

fn linked(
    cloud: &Cloud,
    mut body: Value,
    key: &str,
    path: &str,
    query: &Query,
    version: Microversion,
    found: &[Arc<Server>],
) -> Json<Value> {
    let last = found.last().map(|server| server.meta.id.as_str());
    if let Some(links) = page::next(cloud, path, query, found.len(), last).filter(|_| version.at_least(40)) {
        body[key] = json!(links);
    }
    Json(body)
}

async fn index(State(cloud): State<Cloud>, caller: Caller, version: Microversion, query: Query) -> Result<Json<Value>, Fault> {
    QUERY.check(&query, version)?;
    policy::admin(&caller, "os_compute_api:os-simple-tenant-usage:list")?;
    let now = Timestamp::now();
    let period = Period::parse(&query, now)?;
    let view = cloud.store.read().await?;
    let found = select(view.all::<Server>(), &period, &query, version)?;
    let mut sums: BTreeMap<String, Sum> = BTreeMap::new();
    for server in &found {
        let project = server.meta.project.as_ref().map_or("", |id| id.as_str());
        sums.entry(project.to_owned()).or_default().add(server, &period, now);
    }
    let detailed = query.get("detailed") == Some("1");
    let shown: Vec<_> = sums.into_iter().map(|(project, sum)| sum.render(&project, &period, detailed)).collect();
    let body = json!({ "tenant_usages": shown });
    Ok(linked(&cloud, body, "tenant_usages_links", "os-simple-tenant-usage", &query, version, &found))
}

async fn show(
    State(cloud): State<Cloud>,
    caller: Caller,
    version: Microversion,
    Path(project): Path<String>,
    query: Query,
) -> Result<Json<Value>, Fault> {
    QUERY.check(&query, version)?;
    policy::reader(&caller, Some(&unkai_model::Id::new(project.as_str())), "os_compute_api:os-simple-tenant-usage:show")?;
    let now = Timestamp::now();
    let period = Period::parse(&query, now)?;
    let view = cloud.store.read().await?;
    let found = select(of_project(&view, &project), &period, &query, version)?;
    let mut sum = Sum::default();
    found.iter().for_each(|server| sum.add(server, &period, now));
    let usage = if found.is_empty() { Value::Object(Map::new()) } else { sum.render(&project, &period, true) };
    let path = format!("os-simple-tenant-usage/{project}");
    Ok(linked(&cloud, json!({ "tenant_usage": usage }), "tenant_usage_links", &path, &query, version, &found))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn hours_are_those_inside_the_period() {
        let period = Period { start: at("2026-01-02T00:00:00Z"), stop: at("2026-01-03T00:00:00Z") };
        let day = |n: u32| at(&format!("2026-01-0{n}T12:00:00Z"));
        for (launched, ended, hours) in [(1, None, 24.0), (2, None, 12.0), (1, Some(2), 12.0), (1, Some(1), 0.0), (3, None, 0.0)] {
            assert_eq!(period.hours(day(launched), ended.map(day)), hours, "{launched} {ended:?}");
        }
        assert!(!period.touches(day(1), Some(day(1))) && !period.touches(day(3), None) && period.touches(day(1), None));
    }

    #[test]
    fn periods_end_now_at_the_latest_and_do_not_run_backwards() {
        let now = at("2026-01-05T00:00:00Z");
        let parse = |text: &str| Period::parse(&Query::parse(text), now);
        let period = parse("start=2026-01-01T00:00:00&end=2027-01-01T00:00:00").unwrap();
        assert_eq!(period, Period { start: at("2026-01-01T00:00:00Z"), stop: now });
        for query in ["", "start=x", "start=2026-01-02T00:00:00&end=2026-01-01T00:00:00"] {
            assert_eq!(parse(query).unwrap_err().code, 400, "{query}");
        }
    }
}
