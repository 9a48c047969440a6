//! `/scheduler-stats/get_pools` and `/capabilities/{host}`: the pools as placement sees them.

use axum::Json;
use serde_json::{Value, json};
use unkai_model::volume::Pool;
use unkai_openstack::web::schema::as_bool;
use unkai_openstack::web::{Fault, Query};
use unkai_openstack::{Routes, iso};
use unkai_store::View;

use super::services::works;
use super::{backend, full_name};
use crate::cx::Cx;

pub fn routes() -> Routes {
    Routes::new().get("/scheduler-stats/get_pools", list).get("/capabilities/{id}", capabilities)
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

async fn list(cx: Cx, query: Query) -> Result<Json<Value>, Fault> {
    cx.require_admin("scheduler_extension:scheduler_stats:get_pools")?;
    let view = cx.view().await?;
    let detail = query.get("detail").is_some_and(|text| as_bool(&json!(text)));
    let named = |pool: &Pool| query.get("name").is_none_or(|name| full_name(pool) == name);
    let shown: Vec<Value> = view
        .all::<Pool>()
        .filter(|pool| named(pool))
        .map(|pool| match detail {
            true => json!({ "name": full_name(&pool), "capabilities": render(&view, &pool) }),
            false => json!({ "name": full_name(&pool) }),
        })
        .collect();
    Ok(Json(json!({ "pools": shown })))
}

fn render(view: &View, pool: &Pool) -> Value {
    let (total, free) = pool.space();
    let mut body = json!(pool.offers());
    for (key, value) in [
        ("total_capacity_gb", json!(total)),
        ("free_capacity_gb", json!(free)),
        ("allocated_capacity_gb", json!(view.tally("pool_gib", pool.meta.id.as_str()))),
        ("provisioned_capacity_gb", json!(view.tally("pool_gib", pool.meta.id.as_str()))),
        ("max_over_subscription_ratio", json!(pool.overcommit.to_string())),
        ("reserved_percentage", json!(0)),
        ("driver_version", json!(VERSION)),
        ("timestamp", json!(iso(pool.meta.updated))),
        ("QoS_support", json!(false)),
        ("multiattach", json!(true)),
        ("thin_provisioning_support", json!(true)),
        ("backend_state", json!(if works(view, pool) { "up" } else { "down" })),
    ] {
        body[key] = value;
    }
    body
}

async fn capabilities(cx: Cx) -> Result<Json<Value>, Fault> {
    cx.require_admin("volume_extension:capabilities")?;
    let view = cx.view().await?;
    let name = cx.param("id");
    let pool = view.all::<Pool>().find(|pool| full_name(pool) == name || backend(pool) == name);
    let pool = pool.ok_or_else(|| Fault::not_found(format!("Service cinder-volume could not be found on host {name}.")))?;
    let offers = pool.offers();
    let properties = pool.capabilities.keys().map(|key| {
        let about = json!({ "title": key, "description": "Said by the operator of the pool.", "type": "string" });
        (key.clone(), about)
    });
    Ok(Json(json!({
        "namespace": format!("OS::Storage::Capabilities::{}", backend(&pool)),
        "vendor_name": offers["vendor_name"],
        "volume_backend_name": offers["volume_backend_name"],
        "pool_name": pool.meta.name,
        "driver_version": VERSION,
        "storage_protocol": offers["storage_protocol"],
        "display_name": pool.meta.name,
        "description": null,
        "visibility": "public",
        "replication_targets": [],
        "properties": properties.collect::<serde_json::Map<_, _>>(),
    })))
}
