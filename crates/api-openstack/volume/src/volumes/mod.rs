//! Volumes: `/volumes`.

pub mod create;
mod filter;
mod list;
pub mod metadata;
mod summary;
pub mod view;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};
use std::sync::LazyLock;
use unkai_model::volume::Volume;
use unkai_openstack::Routes;
use unkai_openstack::web::schema::{Object, Schema, as_bool, object};
use unkai_openstack::web::{Body, Fault, Query};
use unkai_store::Tx;

use crate::cx::Cx;
use crate::verbs::{self, Going};
pub use filter::dict;
use view::Shown;

pub fn routes() -> Routes {
    Routes::new()
        .get("/volumes", list::brief)
        .post("/volumes", create::create)
        .get("/volumes/detail", list::detail)
        .get("/volumes/summary", summary::summary)
        .get("/volumes/{id}", show)
        .put("/volumes/{id}", update)
        .delete("/volumes/{id}", delete)
        .merge(metadata::routes("/volumes", "volume", metadata::of_volume()))
}

async fn show(cx: Cx) -> Result<Json<Value>, Fault> {
    let view = cx.view().await?;
    let volume = cx.find::<Volume>(&view, "volume:get")?;
    Ok(Json(json!({ "volume": Shown { cx: &cx, view: &view }.full(&volume) })))
}

/// What may be said of a volume, or a snapshot, at any time.
pub fn description() -> Object {
    let text = || Schema::string(0, 255).or_null();
    object()
        .optional("name", text())
        .optional("description", text())
        .optional("display_name", text())
        .optional("display_description", text())
}

/// `name`, or the older word for it.
pub fn said<'a>(body: &'a Value, name: &str) -> Option<&'a str> {
    let older = format!("display_{name}");
    body.get(name).filter(|value| !value.is_null()).or_else(|| body.get(&older))?.as_str()
}

static UPDATE: LazyLock<Schema> =
    LazyLock::new(|| Schema::wrapped("volume", description().optional("metadata", metadata::schema().or_null())));

async fn update(cx: Cx, body: Body) -> Result<Json<Value>, Fault> {
    let body = body.validated(&UPDATE, cx.version)?;
    let said_of = body["volume"].clone();
    if said_of.as_object().is_none_or(|object| object.is_empty()) {
        return Err(Fault::bad_request("Invalid input received: Must specify at least one of name, description or metadata."));
    }
    let call = cx.clone();
    let volume = cx
        .store()
        .transact(move |tx: &mut Tx| {
            let found = call.find_to_change::<Volume>(tx, "volume:update")?;
            tx.update(&found.meta.id, |volume: &mut Volume| {
                if let Some(name) = said(&said_of, "name") {
                    volume.meta.name = name.trim().to_owned();
                }
                if let Some(description) = said(&said_of, "description") {
                    volume.spec.description = Some(description.to_owned());
                }
                if said_of["metadata"].is_object() {
                    volume.spec.metadata = metadata::read(&said_of["metadata"]);
                }
                Ok::<_, Fault>(())
            })
        })
        .await?;
    Ok(Json(json!({ "volume": Shown { cx: &cx, view: &cx.store().view() }.changed(&volume) })))
}

async fn delete(cx: Cx, query: Query) -> Result<Response, Fault> {
    let is = |name: &str| query.get(name).is_some_and(|text| as_bool(&json!(text)));
    let going = Going { cascade: is("cascade"), force: is("force") };
    if going.force {
        cx.version.require(23..)?;
        cx.require_admin("volume:force_delete")?;
    }
    let call = cx.clone();
    cx.store()
        .transact(move |tx: &mut Tx| {
            let volume = call.find_to_change::<Volume>(tx, "volume:delete")?;
            Ok::<_, Fault>(verbs::delete(tx, &volume.meta.id, going)?)
        })
        .await?;
    Ok(StatusCode::ACCEPTED.into_response())
}
