//! Shelving: the server is switched off, its disk becomes an image, and its host forgets it.
//!
//! The API asks for `Shelved` and makes the image's document; the agent switches off and uploads. Once the image is there, control
//! asks for `Offloaded`; where the root disk is a volume there is no image to wait for. Unshelving asks for a host again; the disk is then made from the image, which control removes.

use axum::response::Response;
use serde_json::Value;
use unkai_model::compute::{BootDisk, Run, Server, Verb, VmState};
use unkai_store::Tx;

use super::super::create::check_host;
use super::super::create::check_zone;
use super::super::create::text;
use super::super::cx::Cx;
use super::super::perform::{Rule, perform};
use super::super::schemas;
use super::super::snapshot;
use super::super::state::State;
use super::{Action, accepted};
use crate::Fault;

static SHELVE: Rule = Rule::verb(
    "shelve",
    "os_compute_api:os-shelve:shelve",
    &[VmState::Active, VmState::Stopped, VmState::Paused, VmState::Suspended],
    "compute_shelve_instance",
);
static OFFLOAD: Rule =
    Rule::verb("shelveOffload", "os_compute_api:os-shelve:shelve_offload", &[VmState::Shelved], "compute_shelve_offload_instance");
static UNSHELVE: Rule = Rule {
    hosted: false,
    ..Rule::verb(
        "unshelve",
        "os_compute_api:os-shelve:unshelve",
        &[VmState::Shelved, VmState::ShelvedOffloaded],
        "compute_unshelve_instance",
    )
};

pub async fn shelve(request: Action) -> Result<Response, Fault> {
    request.check_bare("shelve")?;
    perform(&request.cx, &request.id, &SHELVE, |tx, server, state| {
        if server.spec.launch.boot == BootDisk::Local {
            let name = format!("{}-shelved", server.meta.name);
            let image = snapshot::take(tx, server, &name, [("image_type".to_owned(), "snapshot".to_owned())].into())?;
            server.spec.launch.shelved_image = Some(image);
        }
        server.ask(Verb::Shelve, state.vm);
        server.spec.run = Run::Shelved;
        Ok(())
    })
    .await?;
    Ok(accepted())
}

pub async fn offload(request: Action) -> Result<Response, Fault> {
    request.check_bare("shelveOffload")?;
    perform(&request.cx, &request.id, &OFFLOAD, |_, server, state| {
        server.ask(Verb::Offload, state.vm);
        server.spec.run = Run::Offloaded;
        Ok(())
    })
    .await?;
    Ok(accepted())
}

pub async fn unshelve(request: Action) -> Result<Response, Fault> {
    request.check(&schemas::UNSHELVE)?;
    let wanted = request.body["unshelve"].clone();
    let cx = request.cx.clone();
    perform(&request.cx, &request.id, &UNSHELVE, move |tx, server, state| {
        redirect(tx, &cx, server, state, &wanted)?;
        server.ask(Verb::Unshelve, state.vm);
        server.spec.run = Run::Running;
        Ok(())
    })
    .await?;
    Ok(accepted())
}

/// Another zone or host to come back on; a null zone lets it go anywhere.
fn redirect(tx: &Tx, cx: &Cx, server: &mut Server, state: &State, wanted: &Value) -> Result<(), Fault> {
    if wanted.is_null() {
        return Ok(());
    }
    if state.vm != VmState::ShelvedOffloaded {
        return Err(Fault::conflict(format!(
            "Specifying an availability zone or a host when unshelving server \"{}\" with status \"{}\" is not supported, a server status must be SHELVED_OFFLOADED",
            server.meta.id,
            state.status()
        )));
    }
    let view = tx.view();
    if wanted.get("availability_zone").is_some() {
        let zone = text(wanted, "availability_zone");
        zone.iter().try_for_each(|zone| check_zone(&view, zone))?;
        server.spec.wish.zone = zone;
    }
    if let Some(host) = text(wanted, "host") {
        cx.require_admin("os_compute_api:os-shelve:unshelve_to_host")?;
        check_host(&view, &host)?;
        server.spec.wish.host = Some(host);
    }
    Ok(())
}
