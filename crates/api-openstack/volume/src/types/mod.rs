//! Volume types: `/types`. Operators make them; what they say of pools and encryption, only operators see.

mod access;
mod default;
mod encryption;
mod extra_specs;

use std::sync::{Arc, LazyLock};

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};
use unkai_model::identity::Project;
use unkai_model::volume::{DefaultType, Volume, VolumeType};
use unkai_model::{Error, Id, Meta};
use unkai_openstack::Routes;
use unkai_openstack::web::query::truth;
use unkai_openstack::web::schema::{Object, Schema, as_bool, object};
use unkai_openstack::web::{Body, Fault, Query};
use unkai_store::{Tx, View};

use crate::cx::Cx;
use crate::page::{self, Key};
use crate::verbs;

pub fn routes() -> Routes {
    Routes::new()
        .get("/types", list)
        .post("/types", create)
        .get("/types/{id}", show)
        .put("/types/{id}", update)
        .delete("/types/{id}", delete)
        .merge(extra_specs::routes())
        .merge(encryption::routes())
        .merge(access::routes())
        .merge(default::routes())
}

/// A type by its id or name, when the caller may use it.
pub fn named(view: &View, cx: &Cx, name: &str) -> Result<Arc<VolumeType>, Fault> {
    let by_name = || view.holder::<VolumeType>("volume-type-name", name).and_then(|id| view.get(&id));
    let found = view.get(&Id::new(name)).or_else(by_name).filter(|kind| sees(cx, kind));
    found.ok_or_else(|| Error::not_found::<VolumeType>(name).into())
}

fn sees(cx: &Cx, kind: &VolumeType) -> bool {
    cx.is_admin() || kind.is_visible_to(cx.caller.project.as_ref())
}

/// The type of the path.
fn find(view: &View, cx: &Cx) -> Result<Arc<VolumeType>, Fault> {
    let id = cx.id::<VolumeType>();
    Ok(view.get(&id).filter(|kind| sees(cx, kind)).ok_or_else(|| Error::not_found::<VolumeType>(&id))?)
}

/// Of the extra specs, those that callers other than administrators need to know.
const FOR_ALL: [&str; 3] = ["multiattach", "replication_enabled", "RESKEY:availability_zones"];

pub fn render(cx: &Cx, kind: &VolumeType) -> Value {
    let specs = kind.extra_specs.iter().filter(|(key, _)| cx.is_admin() || FOR_ALL.contains(&key.as_str()));
    let specs: serde_json::Map<String, Value> = specs.map(|(key, value)| (key.clone(), json!(value))).collect();
    json!({
        "id": kind.meta.id,
        "name": kind.meta.name,
        "description": kind.description,
        "is_public": kind.public,
        "extra_specs": specs,
    })
}

/// The same for those who look at it.
fn full(cx: &Cx, kind: &VolumeType) -> Value {
    let mut body = render(cx, kind);
    body["os-volume-type-access:is_public"] = json!(kind.public);
    if cx.is_admin() {
        body["qos_specs_id"] = Value::Null;
    }
    body
}

/// For everybody the public ones and those given to their project; administrators may ask for others.
async fn list(cx: Cx, query: Query) -> Result<Json<Value>, Fault> {
    let view = cx.view().await?;
    let wanted = match query.get("is_public") {
        _ if !cx.is_admin() => Some(true),
        None => Some(true),
        Some(text) if text.eq_ignore_ascii_case("none") => None,
        Some(text) => Some(truth(text).ok_or_else(|| Fault::bad_request(format!("Invalid is_public filter [{text}]")))?),
    };
    let own = |kind: &VolumeType| kind.is_visible_to(cx.caller.project.as_ref());
    let mut types: Vec<_> =
        view.all::<VolumeType>().filter(|kind| wanted.is_none_or(|wanted| kind.public == wanted || wanted && own(kind))).collect();
    if let Some(text) = query.get("extra_specs").filter(|_| cx.version.at_least(52)) {
        for (key, value) in crate::volumes::dict(text)? {
            types.retain(|kind| kind.extra_specs.get(&key) == Some(&value));
        }
    }
    page::sort(&view, &mut types, &query, key)?;
    let page = page::cut(types, &query)?;
    Ok(Json(page.body(&cx, "volume_types", "types", |kind| full(&cx, kind))))
}

fn key(name: &str) -> Option<Key<VolumeType>> {
    Some(match name {
        "id" => |_, kind| json!(kind.meta.id),
        "name" => |_, kind| json!(kind.meta.name),
        "is_public" => |_, kind| json!(kind.public),
        "created_at" => |_, kind| json!(kind.meta.created.as_nanosecond().to_string()),
        "updated_at" => |_, kind| json!(kind.meta.updated.as_nanosecond().to_string()),
        _ => return None,
    })
}

async fn show(cx: Cx) -> Result<Json<Value>, Fault> {
    let view = cx.view().await?;
    let kind = match cx.param("id") {
        "default" => {
            verbs::default_type(&view, cx.caller.project.as_ref()).map_err(|_| Fault::not_found("Default volume type can not be found."))?
        }
        _ => find(&view, &cx)?,
    };
    Ok(Json(json!({ "volume_type": full(&cx, &kind) })))
}

fn said(name: Schema) -> Object {
    object()
        .optional("name", name)
        .optional("description", Schema::string(0, 255).or_null())
        .optional("os-volume-type-access:is_public", Schema::Boolean)
        .optional("is_public", Schema::Boolean)
}

static CREATE: LazyLock<Schema> = LazyLock::new(|| {
    let body = said(Schema::string(1, 255)).optional("extra_specs", extra_specs::schema().or_null());
    Schema::wrapped("volume_type", body)
});
static UPDATE: LazyLock<Schema> = LazyLock::new(|| Schema::wrapped("volume_type", said(Schema::string(0, 255).or_null())));

fn publicity(body: &Value) -> Option<bool> {
    let said = body.get("os-volume-type-access:is_public").or(body.get("is_public"))?;
    Some(as_bool(said))
}

fn taken(name: &str) -> impl Fn(Fault) -> Fault + '_ {
    move |fault| match fault.code {
        StatusCode::CONFLICT => Fault::conflict(format!("Volume Type {name} already exists.")),
        _ => fault,
    }
}

async fn create(cx: Cx, body: Body) -> Result<Json<Value>, Fault> {
    let body = body.validated(&CREATE, cx.version)?["volume_type"].take();
    cx.require_admin("volume_extension:type_create")?;
    let name = body["name"].as_str().unwrap_or_default().trim().to_owned();
    if name.is_empty() {
        return Err(Fault::bad_request("Volume type name can not be empty."));
    }
    let wanted = name.clone();
    let made = cx.store().transact(move |tx: &mut Tx| {
        Ok::<_, Fault>(tx.insert(VolumeType {
            meta: Meta::new(tx.new_id()).named(name.clone()),
            description: body["description"].as_str().map(str::to_owned),
            public: publicity(&body).unwrap_or(true),
            access: Default::default(),
            extra_specs: extra_specs::read(&body["extra_specs"])?,
            encryption: None,
            encryption_id: None,
        })?)
    });
    let kind = made.await.map_err(taken(&wanted))?;
    let mut body = render(&cx, &kind);
    body["os-volume-type-access:is_public"] = json!(kind.public);
    Ok(Json(json!({ "volume_type": body })))
}

async fn update(cx: Cx, body: Body) -> Result<Json<Value>, Fault> {
    let body = body.validated(&UPDATE, cx.version)?["volume_type"].take();
    cx.require_admin("volume_extension:type_update")?;
    let name = body["name"].as_str().map(|name| name.trim().to_owned());
    if name.as_ref().is_some_and(String::is_empty) {
        return Err(Fault::bad_request("Volume type name can not be empty."));
    }
    if body.as_object().is_none_or(|body| body.values().all(Value::is_null)) {
        return Err(Fault::bad_request("Specify volume type name, description, is_public or a combination thereof."));
    }
    let id = cx.id::<VolumeType>();
    let wanted = name.clone().unwrap_or_default();
    let change = cx.store().transact(move |tx: &mut Tx| {
        tx.update(&id, |kind: &mut VolumeType| {
            if let Some(name) = &name {
                kind.meta.name.clone_from(name);
            }
            if let Some(text) = body["description"].as_str() {
                kind.description = Some(text.to_owned());
            }
            kind.public = publicity(&body).unwrap_or(kind.public);
            Ok::<_, Fault>(())
        })
    });
    let kind = change.await.map_err(taken(&wanted))?;
    Ok(Json(json!({ "volume_type": render(&cx, &kind) })))
}

async fn delete(cx: Cx) -> Result<Response, Fault> {
    cx.require_admin("volume_extension:type_delete")?;
    let id = cx.id::<VolumeType>();
    cx.store()
        .transact(move |tx: &mut Tx| {
            tx.require(&id)?;
            if tx.all::<Volume>().any(|volume| volume.spec.volume_type == id) {
                return Err(Fault::bad_request("Target volume type is still in use."));
            }
            if tx.all::<VolumeType>().count() == 1 {
                return Err(Fault::bad_request(format!(
                    "Invalid volume type: Volume Type {id} deletion is not allowed with the only type there is."
                )));
            }
            let defaults: Vec<_> = tx.all::<DefaultType>().filter(|default| default.volume_type == id).collect();
            for default in defaults {
                if tx.get(&Id::<Project>::new(default.meta.id.as_str())).is_some() {
                    return Err(Fault::bad_request(format!("Volume type {id} is the default of project {}.", default.meta.id)));
                }
                tx.delete(&default.meta.id)?;
            }
            Ok(tx.delete(&id).map(drop)?)
        })
        .await?;
    Ok(StatusCode::ACCEPTED.into_response())
}
