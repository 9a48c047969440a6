//! Lists of snapshots.

use std::sync::Arc;

use axum::Json;
use serde_json::{Value, json};
use unkai_model::volume::Snapshot;
use unkai_openstack::web::schema::as_bool;
use unkai_openstack::web::{Fault, Query};
use unkai_store::View;

use super::render;
use crate::cx::Cx;
use crate::page::{self, Key};
use crate::verbs::snapshot_state;
use crate::volumes::dict;

pub async fn brief(cx: Cx, query: Query) -> Result<Json<Value>, Fault> {
    list(&cx, &query, "snapshots", false).await
}

pub async fn detail(cx: Cx, query: Query) -> Result<Json<Value>, Fault> {
    list(&cx, &query, "snapshots/detail", true).await
}

async fn list(cx: &Cx, query: &Query, path: &str, detail: bool) -> Result<Json<Value>, Fault> {
    let view = cx.view().await?;
    let mut snapshots = page::visible::<Snapshot>(&view, cx, query)?;
    keep(cx, &view, query, &mut snapshots)?;
    page::sort(&view, &mut snapshots, query, key)?;
    let page = page::cut(snapshots, query)?;
    let mut body = page.body(cx, "snapshots", path, |snapshot| render(cx, &view, snapshot, detail));
    if cx.version.at_least(45) && query.get("with_count").is_some_and(|text| as_bool(&json!(text))) {
        body["count"] = json!(page.count);
    }
    Ok(Json(body))
}

fn keep(cx: &Cx, view: &View, query: &Query, snapshots: &mut Vec<Arc<Snapshot>>) -> Result<(), Fault> {
    for (name, value) in &query.0 {
        match name.as_str() {
            "name" | "display_name" => snapshots.retain(|one| one.meta.name == *value),
            "name~" | "display_name~" if cx.version.at_least(34) => snapshots.retain(|one| one.meta.name.contains(value)),
            "status" => snapshots.retain(|one| snapshot_state(view, one) == value),
            "volume_id" => snapshots.retain(|one| one.volume.as_str() == value),
            "id" => snapshots.retain(|one| one.meta.id.as_str() == value),
            "user_id" => snapshots.retain(|one| one.user == *value),
            "metadata" if cx.version.at_least(22) => {
                let wanted = dict(value)?;
                snapshots.retain(|one| wanted.iter().all(|(key, value)| one.metadata.get(key) == Some(value)));
            }
            _ => {}
        }
    }
    Ok(())
}

fn key(name: &str) -> Option<Key<Snapshot>> {
    Some(match name {
        "id" => |_, snapshot| json!(snapshot.meta.id),
        "name" | "display_name" => |_, snapshot| json!(snapshot.meta.name),
        "status" => |view, snapshot| json!(snapshot_state(view, snapshot)),
        "volume_id" => |_, snapshot| json!(snapshot.volume),
        "volume_size" | "size" => |_, snapshot| json!(snapshot.size_gib),
        "user_id" => |_, snapshot| json!(snapshot.user),
        "created_at" => |_, snapshot| json!(snapshot.meta.created.as_nanosecond().to_string()),
        "updated_at" => |_, snapshot| json!(snapshot.meta.updated.as_nanosecond().to_string()),
        _ => return None,
    })
}
