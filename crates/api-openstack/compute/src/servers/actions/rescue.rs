//! Rescue: the server runs from another disk, with its own beside it.

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use unkai_model::compute::{Rescue, Run, Verb, VmState};

use super::super::create::{self, text};
use super::super::password::password;
use super::super::perform::{Rule, perform};
use super::super::schemas;
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
        let image =
            text(&wanted, "rescue_image_ref").map(|id| create::image(&tx.view(), &cx, &id, &server.spec.launch.flavor)).transpose()?;
        server.ask(Verb::Rescue, state.vm);
        let image = image.map(|image| image.meta.id.clone());
        server.spec.rescue = Some(Rescue { image, admin_password: admin_password.clone() });
        server.spec.run = Run::Running;
        Ok(admin_password)
    })
    .await?;
    Ok(Json(json!({ "adminPass": password })).into_response())
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
