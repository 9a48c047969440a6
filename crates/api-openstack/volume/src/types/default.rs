//! `/default-types`: the type of a project's volumes when nobody says one. From 3.62 on.

use std::sync::LazyLock;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};
use unkai_model::identity::Project;
use unkai_model::volume::DefaultType;
use unkai_model::{Id, Meta};
use unkai_openstack::Routes;
use unkai_openstack::web::schema::{Schema, object};
use unkai_openstack::web::{Body, Fault, policy};
use unkai_store::Tx;

use super::named;
use crate::cx::Cx;

pub fn routes() -> Routes {
    Routes::new()
        .get("/default-types", list)
        .get("/default-types/{id}", show)
        .put("/default-types/{id}", set)
        .delete("/default-types/{id}", unset)
}

fn render(found: &DefaultType) -> Value {
    json!({ "project_id": found.meta.id, "volume_type_id": found.volume_type })
}

fn allow(cx: &Cx, verb: &str) -> Result<(), Fault> {
    cx.version.require(62..)?;
    cx.require_admin(&format!("volume_extension:default_{verb}"))
}

async fn list(cx: Cx) -> Result<Json<Value>, Fault> {
    allow(&cx, "get_all")?;
    let view = cx.view().await?;
    let all: Vec<Value> = view.all::<DefaultType>().map(|found| render(&found)).collect();
    Ok(Json(json!({ "default_types": all })))
}

async fn show(cx: Cx) -> Result<Json<Value>, Fault> {
    allow(&cx, "get")?;
    let view = cx.view().await?;
    let missing = || Fault::not_found(format!("Default type for project {} not found.", cx.param("id")));
    let found = view.get(&cx.id::<DefaultType>()).ok_or_else(missing)?;
    Ok(Json(json!({ "default_type": render(&found) })))
}

static SET: LazyLock<Schema> = LazyLock::new(|| Schema::wrapped("default_type", object().required("volume_type", Schema::string(1, 255))));

async fn set(cx: Cx, body: Body) -> Result<Json<Value>, Fault> {
    allow(&cx, "set_or_update")?;
    let body = body.validated(&SET, cx.version)?;
    let call = cx.clone();
    let found = cx
        .store()
        .transact(move |tx: &mut Tx| {
            let view = tx.view();
            policy::known_project(&view, call.param("id"))?;
            let kind = named(&view, &call, body["default_type"]["volume_type"].as_str().unwrap_or_default())?;
            if !kind.is_visible_to(Some(&Id::<Project>::new(call.param("id")))) {
                return Err(Fault::bad_request(format!("Volume type {} is not for that project.", kind.meta.name)));
            }
            let (id, volume_type) = (call.id::<DefaultType>(), kind.meta.id.clone());
            Ok(match tx.get(&id) {
                None => tx.insert(DefaultType { meta: Meta::new(id), volume_type })?,
                Some(_) => tx.update(&id, |found: &mut DefaultType| {
                    found.volume_type = volume_type;
                    Ok::<_, Fault>(())
                })?,
            })
        })
        .await?;
    Ok(Json(json!({ "default_type": render(&found) })))
}

async fn unset(cx: Cx) -> Result<Response, Fault> {
    allow(&cx, "unset")?;
    let id = cx.id::<DefaultType>();
    cx.store()
        .transact(move |tx: &mut Tx| match tx.get(&id) {
            Some(_) => tx.delete(&id).map(drop),
            None => Ok(()),
        })
        .await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
