//! Lists of backups.

use axum::Json;
use serde_json::{Value, json};
use unkai_model::volume::Backup;
use unkai_openstack::web::schema::as_bool;
use unkai_openstack::web::{Fault, Query};
use unkai_store::View;

use crate::cx::Cx;
use crate::page::{self, Key};
use crate::verbs::backup_state;
use crate::volumes::dict;

pub async fn brief(cx: Cx, query: Query) -> Result<Json<Value>, Fault> {
    list(&cx, &query, "backups", |cx, _, backup| super::brief(cx, backup)).await
}

pub async fn detail(cx: Cx, query: Query) -> Result<Json<Value>, Fault> {
    list(&cx, &query, "backups/detail", super::full).await
}

async fn list(cx: &Cx, query: &Query, path: &str, render: fn(&Cx, &View, &Backup) -> Value) -> Result<Json<Value>, Fault> {
    let view = cx.view().await?;
    let mut backups = page::visible::<Backup>(&view, cx, query)?;
    for (name, value) in &query.0 {
        match name.as_str() {
            "name" => backups.retain(|one| one.meta.name == *value),
            "name~" if cx.version.at_least(34) => backups.retain(|one| one.meta.name.contains(value)),
            "status" => backups.retain(|one| backup_state(&view, one) == value),
            "volume_id" => backups.retain(|one| one.volume.as_str() == value),
            "metadata" => {
                let wanted = dict(value)?;
                backups.retain(|one| wanted.iter().all(|(key, value)| one.metadata.get(key) == Some(value)));
            }
            _ => {}
        }
    }
    page::sort(&view, &mut backups, query, key)?;
    let page = page::cut(backups, query)?;
    let mut body = page.body(cx, "backups", path, |backup| render(cx, &view, backup));
    if cx.version.at_least(45) && query.get("with_count").is_some_and(|text| as_bool(&json!(text))) {
        body["count"] = json!(page.count);
    }
    Ok(Json(body))
}

fn key(name: &str) -> Option<Key<Backup>> {
    Some(match name {
        "id" => |_, backup| json!(backup.meta.id),
        "name" => |_, backup| json!(backup.meta.name),
        "status" => |view: &View, backup| json!(backup_state(view, backup)),
        "size" => |_, backup| json!(backup.size_gib),
        "volume_id" => |_, backup| json!(backup.volume),
        "snapshot_id" => |_, backup| json!(backup.snapshot),
        "data_timestamp" => |_, backup| json!(backup.data_timestamp.as_nanosecond().to_string()),
        "created_at" => |_, backup| json!(backup.meta.created.as_nanosecond().to_string()),
        "updated_at" => |_, backup| json!(backup.meta.updated.as_nanosecond().to_string()),
        _ => return None,
    })
}
