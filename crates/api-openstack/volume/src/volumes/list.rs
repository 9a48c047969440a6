//! Lists of volumes.

use axum::Json;
use serde_json::{Value, json};
use unkai_model::volume::Volume;
use unkai_openstack::web::schema::as_bool;
use unkai_openstack::web::{Fault, Query};
use unkai_store::View;

use super::filter;
use super::view::{Shown, zone};
use crate::cx::Cx;
use crate::page::{self, Key};
use crate::verbs;

pub async fn brief(cx: Cx, query: Query) -> Result<Json<Value>, Fault> {
    list(&cx, &query, "volumes", |shown, volume| shown.brief(volume)).await
}

pub async fn detail(cx: Cx, query: Query) -> Result<Json<Value>, Fault> {
    list(&cx, &query, "volumes/detail", |shown, volume| shown.full(volume)).await
}

async fn list(cx: &Cx, query: &Query, path: &str, render: fn(&Shown<'_>, &Volume) -> Value) -> Result<Json<Value>, Fault> {
    let view = cx.view().await?;
    let mut volumes = page::visible::<Volume>(&view, cx, query)?;
    filter::keep(cx, &view, query, &mut volumes)?;
    page::sort(&view, &mut volumes, query, key)?;
    let page = page::cut(volumes, query)?;
    let shown = Shown { cx, view: &view };
    let mut body = page.body(cx, "volumes", path, |volume| render(&shown, volume));
    if cx.version.at_least(45) && query.get("with_count").is_some_and(|text| as_bool(&json!(text))) {
        body["count"] = json!(page.count);
    }
    Ok(Json(body))
}

fn key(name: &str) -> Option<Key<Volume>> {
    Some(match name {
        "id" => |_, volume| json!(volume.meta.id),
        "name" | "display_name" => |_, volume| json!(volume.meta.name),
        "status" => |view: &View, volume| json!(verbs::state(view, volume).as_str()),
        "size" => |_, volume| json!(volume.spec.size_gib),
        "bootable" => |_, volume| json!(volume.spec.bootable),
        "availability_zone" => |_, volume| json!(zone(volume)),
        "created_at" => |_, volume| json!(volume.meta.created.as_nanosecond().to_string()),
        "updated_at" => |_, volume| json!(volume.meta.updated.as_nanosecond().to_string()),
        "user_id" => |_, volume| json!(volume.spec.user),
        "volume_type_id" => |_, volume| json!(volume.spec.volume_type),
        _ => return None,
    })
}
