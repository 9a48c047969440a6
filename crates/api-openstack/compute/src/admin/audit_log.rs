//! `/os-instance_usage_audit_log`: periodic usage audits of hosts. None are run here, so every host is one that did not.

use axum::Json;
use axum::extract::{Path, State};
use jiff::civil::{DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde_json::{Value, json};
use unkai_openstack::{Caller, Cloud, Routes};
use unkai_store::View;

use super::policy;
use super::services::hosts;
use crate::Fault;

pub fn routes() -> Routes {
    Routes::new().get("/v2.1/os-instance_usage_audit_log", index).get("/v2.1/os-instance_usage_audit_log/{before}", show)
}

async fn index(State(cloud): State<Cloud>, caller: Caller) -> Result<Json<Value>, Fault> {
    policy::admin(&caller, "os_compute_api:os-instance-usage-audit-log:list")?;
    let now = Timestamp::now().to_zoned(TimeZone::UTC).datetime();
    Ok(Json(json!({ "instance_usage_audit_logs": report(&cloud.store.read().await?, now) })))
}

async fn show(State(cloud): State<Cloud>, caller: Caller, Path(before): Path<String>) -> Result<Json<Value>, Fault> {
    policy::admin(&caller, "os_compute_api:os-instance-usage-audit-log:show")?;
    let format = if before.contains('.') { "%Y-%m-%d %H:%M:%S%.f" } else { "%Y-%m-%d %H:%M:%S" };
    let time = DateTime::strptime(format, &before).map_err(|_| Fault::bad_request(format!("Invalid timestamp for date {before}")))?;
    Ok(Json(json!({ "instance_usage_audit_log": report(&cloud.store.read().await?, time) })))
}

fn report(view: &View, before: DateTime) -> Value {
    let (begin, end) = month_before(before);
    let names: Vec<_> = hosts(view).iter().map(|host| host.meta.name.clone()).collect();
    json!({
        "period_beginning": begin.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        "period_ending": end.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        "num_hosts": names.len(),
        "num_hosts_done": 0,
        "num_hosts_running": 0,
        "num_hosts_not_run": names.len(),
        "hosts_not_run": names,
        "total_instances": 0,
        "total_errors": 0,
        "overall_status": format!("0 of {} hosts done. 0 errors.", hosts(view).len()),
        "log": {},
    })
}

/// The last whole calendar month that ended by then.
fn month_before(time: DateTime) -> (DateTime, DateTime) {
    let end = time.date().first_of_month().to_datetime(Time::midnight());
    (end.saturating_sub(1.month()), end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audits_are_of_whole_months() {
        let of = |text: &str| {
            let (begin, end) = month_before(text.parse().unwrap());
            (begin.to_string(), end.to_string())
        };
        assert_eq!(of("2026-01-15T10:00:00"), ("2025-12-01T00:00:00".into(), "2026-01-01T00:00:00".into()));
        assert_eq!(of("2026-03-01T00:00:00"), ("2026-02-01T00:00:00".into(), "2026-03-01T00:00:00".into()));
    }
}
