//! Rescue: the server runs from another disk, with its own beside it.

use std::sync::Arc;

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use unkai_model::compute::{BootDisk, Rescue, Run, Server, Verb, VmState};
use unkai_model::image::Image;
use unkai_store::View;

use super::super::create::{self, text};
use super::super::cx::Cx;
use super::super::password::password;
use super::super::perform::{Rule, perform};
use super::super::schemas;
use super::super::volumes;
use super::{Action, accepted};
use crate::Fault;

static RESCUE: Rule =
    Rule::verb("rescue", "os_compute_api:os-rescue", &[VmState::Active, VmState::Stopped, VmState::Error], "compute_rescue_instance");
static UNRESCUE: Rule = Rule::verb("unrescue", "os_compute_api:os-unrescue", &[VmState::Rescued], "compute_unrescue_instance");

pub async fn rescue(request: Action) -> Result<Response, Fault> {
    request.check(&schemas::RESCUE)?;
    let wanted = request.body["rescue"].clone();
    let cx = request.cx.clone();
    let password = perform(&request.cx, &request.id, &RESCUE, move |tx, server, state| {
        let admin_password = text(&wanted, "adminPass").unwrap_or_else(|| password(&tx.random()));
        let image = text(&wanted, "rescue_image_ref");
        let view = tx.view();
        let image = match server.spec.launch.boot {
            BootDisk::Local => image.map(|id| create::image(&view, &cx, &id, &server.spec.launch.flavor)).transpose()?,
            BootDisk::Volume => Some(beside_volume(&view, &cx, server, image)?),
        };
        server.ask(Verb::Rescue, state.vm);
        let image = image.map(|image| image.meta.id.clone());
        server.spec.rescue = Some(Rescue { image, admin_password: admin_password.clone() });
        server.spec.run = Run::Running;
        Ok(admin_password)
    })
    .await?;
    Ok(Json(json!({ "adminPass": password })).into_response())
}

/// A server that starts from a volume is rescued, from 2.87 on, by an image that says which disk it is then: the volume stays where it is.
fn beside_volume(view: &View, cx: &Cx, server: &Server, wanted: Option<String>) -> Result<Arc<Image>, Fault> {
    let refuse = || Fault::bad_request(format!("Instance {} cannot be rescued: Cannot rescue a volume-backed instance", server.meta.id));
    let made_from = || volumes::root(view, &server.meta.id)?.spec.image_metadata.get("image_id").cloned();
    let image = match wanted {
        Some(id) => create::active_image(view, cx, &id)?,
        None => made_from().and_then(|id| create::active_image(view, cx, &id).ok()).ok_or_else(refuse)?,
    };
    create::check_ram(image.spec.min_ram_mib, &server.spec.launch.flavor)?;
    create::check_content(&image)?;
    let stable = ["hw_rescue_bus", "hw_rescue_device"].iter().all(|key| image.spec.properties.contains_key(*key));
    if cx.version.at_least(87) && stable { Ok(image) } else { Err(refuse()) }
}

pub async fn unrescue(request: Action) -> Result<Response, Fault> {
    request.check_bare("unrescue")?;
    perform(&request.cx, &request.id, &UNRESCUE, |_, server, state| {
        server.ask(Verb::Unrescue, state.vm);
        server.spec.rescue = None;
        server.spec.run = Run::Running;
        Ok(())
    })
    .await?;
    Ok(accepted())
}
