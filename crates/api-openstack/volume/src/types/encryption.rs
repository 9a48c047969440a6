//! How volumes of a type are encrypted.

use std::sync::LazyLock;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};
use unkai_model::volume::{Cipher, Volume, VolumeType};
use unkai_openstack::web::schema::{Object, Schema, as_int, object};
use unkai_openstack::web::{Body, Fault};
use unkai_openstack::{Routes, iso};
use unkai_store::Tx;

use super::find;
use crate::cx::Cx;

pub fn routes() -> Routes {
    Routes::new()
        .get("/types/{id}/encryption", show)
        .post("/types/{id}/encryption", create)
        .get("/types/{id}/encryption/{key}", item)
        .put("/types/{id}/encryption/{key}", update)
        .delete("/types/{id}/encryption/{key}", delete)
}

fn render(kind: &VolumeType) -> Value {
    let Some(cipher) = &kind.encryption else { return json!({}) };
    json!({
        "volume_type_id": kind.meta.id,
        "encryption_id": kind.encryption_id,
        "provider": cipher.provider,
        "cipher": cipher.cipher,
        "key_size": cipher.key_size,
        "control_location": cipher.control_location,
    })
}

async fn show(cx: Cx) -> Result<Json<Value>, Fault> {
    cx.require_admin("volume_extension:volume_type_encryption:get")?;
    let kind = find(&cx.view().await?, &cx)?;
    let mut shown = render(&kind);
    if kind.encryption.is_some() {
        shown["deleted"] = json!(false);
        shown["created_at"] = json!(iso(kind.meta.created));
        shown["updated_at"] = json!(iso(kind.meta.updated));
        shown["deleted_at"] = Value::Null;
    }
    Ok(Json(shown))
}

async fn item(cx: Cx) -> Result<Json<Value>, Fault> {
    cx.require_admin("volume_extension:volume_type_encryption:get")?;
    let shown = render(&*find(&cx.view().await?, &cx)?);
    let key = cx.param("key");
    match shown.get(key) {
        Some(value) => Ok(Json(json!({ key: value }))),
        None => Err(Fault::not_found("The resource could not be found.")),
    }
}

fn said() -> Object {
    object()
        .optional("control_location", Schema::one_of(["front-end", "back-end"]))
        .optional("cipher", Schema::string(0, 255).or_null())
        .optional("key_size", Schema::Integer { min: 0, max: i64::from(u32::MAX) }.or_null())
}

static CREATE: LazyLock<Schema> = LazyLock::new(|| Schema::wrapped("encryption", said().required("provider", Schema::string(1, 255))));
static UPDATE: LazyLock<Schema> = LazyLock::new(|| Schema::wrapped("encryption", said().optional("provider", Schema::string(1, 255))));

/// What was said over what there was. Whether volumes can be encrypted so is told to whoever makes one.
fn merge(mut cipher: Cipher, body: &Value) -> Cipher {
    if let Some(provider) = body["provider"].as_str() {
        cipher.provider = provider.to_owned();
    }
    if let Some(name) = body["cipher"].as_str() {
        cipher.cipher = Some(name.to_owned()).filter(|name| !name.is_empty());
    }
    if let Some(bits) = as_int(&body["key_size"]) {
        cipher.key_size = u32::try_from(bits).ok();
    }
    if let Some(place) = body["control_location"].as_str() {
        cipher.control_location = place.to_owned();
    }
    cipher
}

fn unused(tx: &Tx, kind: &VolumeType, verb: &str) -> Result<(), Fault> {
    match tx.all::<Volume>().any(|volume| volume.spec.volume_type == kind.meta.id) {
        true => Err(Fault::bad_request(format!("Cannot {verb} encryption specs. Volume type in use."))),
        false => Ok(()),
    }
}

async fn create(cx: Cx, body: Body) -> Result<Json<Value>, Fault> {
    let body = body.validated(&CREATE, cx.version)?["encryption"].take();
    cx.require_admin("volume_extension:volume_type_encryption:create")?;
    let none = Cipher { provider: String::new(), cipher: None, key_size: None, control_location: "front-end".into() };
    let cipher = merge(none, &body);
    let id = cx.id::<VolumeType>();
    let kind = cx
        .store()
        .transact(move |tx: &mut Tx| {
            let kind = tx.require(&id)?;
            unused(tx, &kind, "create")?;
            if kind.encryption.is_some() {
                return Err(Fault::bad_request(format!("Volume type encryption for type {id} already exists.")));
            }
            let encryption_id = tx.new_id::<VolumeType>().to_string();
            tx.update(&id, |kind: &mut VolumeType| {
                kind.encryption = Some(cipher.clone());
                kind.encryption_id = Some(encryption_id);
                Ok(())
            })
        })
        .await?;
    Ok(Json(json!({ "encryption": render(&kind) })))
}

/// The type of the path, whose encryption has the id of the path.
fn with_id(tx: &Tx, cx: &Cx) -> Result<std::sync::Arc<VolumeType>, Fault> {
    let kind = tx.require(&cx.id::<VolumeType>())?;
    match kind.encryption.is_some() && kind.encryption_id.as_deref() == Some(cx.param("key")) {
        true => Ok(kind),
        false => Err(Fault::not_found(format!("Volume type encryption for type {} does not exist.", kind.meta.id))),
    }
}

async fn update(cx: Cx, body: Body) -> Result<Json<Value>, Fault> {
    let body = body.validated(&UPDATE, cx.version)?["encryption"].take();
    cx.require_admin("volume_extension:volume_type_encryption:update")?;
    let (call, wish) = (cx.clone(), body.clone());
    cx.store()
        .transact(move |tx: &mut Tx| {
            let kind = with_id(tx, &call)?;
            unused(tx, &kind, "update")?;
            let cipher = kind.encryption.clone().map(|cipher| merge(cipher, &wish));
            tx.update(&kind.meta.id, |kind: &mut VolumeType| {
                kind.encryption = cipher;
                Ok::<_, Fault>(())
            })
        })
        .await?;
    Ok(Json(json!({ "encryption": body })))
}

async fn delete(cx: Cx) -> Result<Response, Fault> {
    cx.require_admin("volume_extension:volume_type_encryption:delete")?;
    let call = cx.clone();
    cx.store()
        .transact(move |tx: &mut Tx| {
            let kind = with_id(tx, &call)?;
            unused(tx, &kind, "delete")?;
            tx.update(&kind.meta.id, |kind: &mut VolumeType| {
                (kind.encryption, kind.encryption_id) = (None, None);
                Ok::<_, Fault>(())
            })
        })
        .await?;
    Ok(StatusCode::ACCEPTED.into_response())
}
