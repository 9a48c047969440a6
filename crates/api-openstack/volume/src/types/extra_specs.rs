//! Extra specs of types: what pools must have, and properties of the volumes.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};
use unkai_model::Error;
use unkai_model::volume::{Volume, VolumeType};
use unkai_openstack::Routes;
use unkai_openstack::web::schema::{Schema, object};
use unkai_openstack::web::{Body, Fault};
use unkai_store::Tx;

use super::find;
use crate::cx::Cx;

pub fn routes() -> Routes {
    Routes::new()
        .get("/types/{id}/extra_specs", list)
        .post("/types/{id}/extra_specs", create)
        .get("/types/{id}/extra_specs/{key}", show)
        .put("/types/{id}/extra_specs/{key}", update)
        .delete("/types/{id}/extra_specs/{key}", delete)
}

fn is_key(name: &str) -> bool {
    (1..=255).contains(&name.len()) && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_:. ".contains(c))
}

pub fn schema() -> Schema {
    let value = Schema::Union(vec![Schema::string(0, 255), Schema::Boolean, Schema::Integer { min: i64::MIN, max: i64::MAX }]);
    object().others(is_key, value).into()
}

static CREATE: LazyLock<Schema> = LazyLock::new(|| Schema::wrapped("extra_specs", schema()));
static ONE: LazyLock<Schema> = LazyLock::new(schema);

/// What was said; `multiattach` is written as the field writes it.
pub fn read(value: &Value) -> Result<BTreeMap<String, String>, Fault> {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        other => other.to_string(),
    };
    let specs: BTreeMap<_, _> = value.as_object().into_iter().flatten().map(|(key, value)| (key.clone(), text(value))).collect();
    match specs.get("multiattach").filter(|word| !["<is> True", "<is> False"].contains(&word.as_str())) {
        Some(word) => {
            Err(Fault::bad_request(format!("Invalid input received: multiattach is \"<is> True\" or \"<is> False\", not {word}")))
        }
        None => Ok(specs),
    }
}

async fn list(cx: Cx) -> Result<Json<Value>, Fault> {
    cx.require_admin("volume_extension:types_extra_specs:index")?;
    let kind = find(&cx.view().await?, &cx)?;
    Ok(Json(json!({ "extra_specs": kind.extra_specs })))
}

async fn show(cx: Cx) -> Result<Json<Value>, Fault> {
    cx.require_admin("volume_extension:types_extra_specs:show")?;
    let kind = find(&cx.view().await?, &cx)?;
    let key = cx.param("key");
    let value = kind.extra_specs.get(key).ok_or_else(|| missing(&cx))?;
    Ok(Json(json!({ key: value })))
}

fn missing(cx: &Cx) -> Fault {
    Fault::not_found(format!("Volume Type {} has no extra specs with key {}.", cx.param("id"), cx.param("key")))
}

async fn create(cx: Cx, body: Body) -> Result<Json<Value>, Fault> {
    let body = body.validated(&CREATE, cx.version)?;
    cx.require_admin("volume_extension:types_extra_specs:create")?;
    let specs = read(&body["extra_specs"])?;
    set(&cx, specs).await?;
    Ok(Json(body))
}

async fn update(cx: Cx, body: Body) -> Result<Json<Value>, Fault> {
    let body = body.validated(&ONE, cx.version)?;
    cx.require_admin("volume_extension:types_extra_specs:update")?;
    let specs = read(&body)?;
    if !specs.contains_key(cx.param("key")) {
        return Err(Fault::bad_request("Request body and URI mismatch."));
    }
    if specs.len() > 1 {
        return Err(Fault::bad_request("Request body contains too many items."));
    }
    set(&cx, specs).await?;
    Ok(Json(body))
}

async fn set(cx: &Cx, specs: BTreeMap<String, String>) -> Result<(), Fault> {
    let id = cx.id::<VolumeType>();
    cx.store()
        .transact(move |tx: &mut Tx| {
            let kind = tx.require(&id)?;
            let changed = specs.get("multiattach").is_some_and(|word| kind.extra_specs.get("multiattach") != Some(word));
            in_use(tx, &kind, changed.then_some("multiattach"))?;
            tx.update(&id, |kind: &mut VolumeType| {
                kind.extra_specs.extend(specs.clone());
                Ok::<_, Fault>(())
            })
        })
        .await
        .map(drop)
}

/// What volumes were made with cannot change under them.
fn in_use(tx: &Tx, kind: &VolumeType, changes: Option<&str>) -> Result<(), Fault> {
    match changes {
        Some(key) if tx.all::<Volume>().any(|volume| volume.spec.volume_type == kind.meta.id) => {
            Err(Fault::bad_request(format!("Volume Type is currently in use: {key} cannot be changed.")))
        }
        _ => Ok(()),
    }
}

async fn delete(cx: Cx) -> Result<Response, Fault> {
    cx.require_admin("volume_extension:types_extra_specs:delete")?;
    let (id, key, gone) = (cx.id::<VolumeType>(), cx.param("key").to_owned(), missing(&cx));
    cx.store()
        .transact(move |tx: &mut Tx| {
            let kind = tx.get(&id).ok_or_else(|| Error::not_found::<VolumeType>(&id))?;
            in_use(tx, &kind, (key == "multiattach").then_some("multiattach"))?;
            tx.update(&id, |kind: &mut VolumeType| kind.extra_specs.remove(&key).map(drop).ok_or_else(|| gone.clone()))
        })
        .await?;
    Ok(StatusCode::ACCEPTED.into_response())
}
