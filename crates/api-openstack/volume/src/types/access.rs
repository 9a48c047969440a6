//! Who may use a type that is not public.

use std::sync::LazyLock;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};
use unkai_model::Id;
use unkai_model::identity::Project;
use unkai_model::volume::VolumeType;
use unkai_openstack::Routes;
use unkai_openstack::web::schema::{Schema, object};
use unkai_openstack::web::{Body, Fault};
use unkai_store::Tx;

use super::find;
use crate::cx::Cx;

pub fn routes() -> Routes {
    Routes::new().get("/types/{id}/os-volume-type-access", list).post("/types/{id}/action", action)
}

async fn list(cx: Cx) -> Result<Json<Value>, Fault> {
    cx.require_admin("volume_extension:volume_type_access:get_all_for_type")?;
    let kind = find(&cx.view().await?, &cx)?;
    if kind.public {
        return Err(Fault::not_found("Access list not available for public volume types."));
    }
    let access = kind.access.iter().map(|project| json!({ "volume_type_id": kind.meta.id, "project_id": project }));
    Ok(Json(json!({ "volume_type_access": access.collect::<Vec<_>>() })))
}

static ADD: LazyLock<Schema> = LazyLock::new(|| one("addProjectAccess"));
static REMOVE: LazyLock<Schema> = LazyLock::new(|| one("removeProjectAccess"));

fn one(verb: &'static str) -> Schema {
    Schema::wrapped(verb, object().required("project", Schema::string(1, 255)))
}

async fn action(cx: Cx, body: Body) -> Result<Response, Fault> {
    let body = body.unchecked();
    let verb = body.as_object().filter(|body| body.len() == 1).and_then(|body| body.keys().next()).cloned();
    let adds = match verb.as_deref() {
        Some("addProjectAccess") => true,
        Some("removeProjectAccess") => false,
        Some(other) => return Err(Fault::bad_request(format!("There is no such action: {other}"))),
        None => return Err(Fault::bad_request("Malformed request body")),
    };
    if adds { &ADD } else { &REMOVE }.check_body(&body, cx.version)?;
    cx.require_admin(if adds {
        "volume_extension:volume_type_access:addProjectAccess"
    } else {
        "volume_extension:volume_type_access:removeProjectAccess"
    })?;
    let project = Id::<Project>::new(body[verb.unwrap_or_default()]["project"].as_str().unwrap_or_default());
    let id = cx.id::<VolumeType>();
    cx.store()
        .transact(move |tx: &mut Tx| {
            let kind = tx.require(&id)?;
            if kind.public {
                return Err(Fault::conflict("Type access modification is not applicable to public volume type."));
            }
            match (adds, kind.access.contains(&project)) {
                (true, true) => {
                    return Err(Fault::conflict(format!("Volume type access for {id} / {project} combination already exists.")));
                }
                (false, false) => {
                    return Err(Fault::not_found(format!("Volume type access not found for {id} / {project} combination.")));
                }
                _ => {}
            }
            tx.update(&id, |kind: &mut VolumeType| {
                if adds {
                    kind.access.insert(project.clone())
                } else {
                    kind.access.remove(&project)
                };
                Ok(())
            })
            .map(drop)
        })
        .await?;
    Ok(StatusCode::ACCEPTED.into_response())
}
