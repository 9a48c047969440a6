//! Resize, and its confirmation or reversal by the user.

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use unkai_model::Id;
use unkai_model::compute::{BootDisk, FlavorCopy, Host, MigrationKind, Resize, ResizeState, Run, Server, Verb, VmState};
use unkai_store::Tx;

use super::super::availability;
use super::super::create::{self, hold_sizes, reference};
use super::super::cx::Cx;
use super::super::perform::{Rule, perform};
use super::super::schemas;
use super::super::state::State;
use super::{Action, accepted, migrate};
use crate::Fault;

static RESIZE: Rule = Rule {
    lasting: true,
    ..Rule::verb("resize", "os_compute_api:servers:resize", &[VmState::Active, VmState::Stopped], "compute_prep_resize")
};
static CONFIRM: Rule = Rule::verb("confirmResize", "os_compute_api:servers:confirm_resize", &[VmState::Resized], "compute_confirm_resize");
static REVERT: Rule = Rule::verb("revertResize", "os_compute_api:servers:revert_resize", &[VmState::Resized], "compute_revert_resize");

pub async fn resize(request: Action) -> Result<Response, Fault> {
    request.check(&schemas::RESIZE)?;
    let wanted = request.body["resize"].clone();
    let cx = request.cx.clone();
    perform(&request.cx, &request.id, &RESIZE, move |tx, server, state| {
        let flavor = create::flavor(&tx.view(), &cx, &reference(&wanted["flavorRef"]))?;
        if wanted.get("OS-DCF:diskConfig").is_some() {
            server.spec.launch.manual_disk = wanted["OS-DCF:diskConfig"] == "MANUAL";
        }
        change(tx, &cx, server, state, flavor)
    })
    .await?;
    Ok(accepted())
}

fn change(tx: &mut Tx, cx: &Cx, server: &mut Server, state: &State, flavor: FlavorCopy) -> Result<(), Fault> {
    let present = &server.spec.launch.flavor;
    if flavor.id == present.id {
        return Err(Fault::bad_request("When resizing, instances must change flavor!"));
    }
    let why = |reason: &str| Fault::bad_request(format!("Server's disk was unable to be resized because: {reason}"));
    // A root volume keeps its size.
    let local = server.spec.launch.boot == BootDisk::Local;
    if local && flavor.disk_gib == 0 && present.disk_gib > 0 {
        return Err(why("Resize to zero disk flavor is not allowed."));
    }
    if local && flavor.disk_gib < present.disk_gib {
        return Err(why("Resizing to a smaller disk is not supported."));
    }
    let here = server.status.host.as_ref().and_then(|host| tx.get(host));
    if let Some(here) = here.filter(|here| !has_room(tx, here, server.spec.launch.resources_of(&flavor))) {
        return elsewhere(tx, cx, server, state, &here, flavor);
    }
    let from = std::mem::replace(&mut server.spec.launch.flavor, flavor);
    availability::turn(server)?;
    server.ask(Verb::Resize, state.vm);
    let was = if state.vm == VmState::Stopped { Run::Stopped } else { server.spec.run };
    let from_host = server.status.host.clone();
    server.spec.resize = Some(Resize { from, from_host: from_host.clone(), was, state: ResizeState::Changing, since: tx.now() });
    if let Some(project) = &server.meta.project {
        hold_sizes(tx, project, &server.spec.user);
    }
    from_host.iter().for_each(|host| hold_host(tx, host, &server.spec.launch.flavor));
    Ok(())
}

/// For the new size beside the old one.
fn has_room(tx: &Tx, host: &Host, wanted: [(&'static str, i64); 3]) -> bool {
    let view = tx.view();
    wanted.iter().all(|(class, need)| view.tally(class, host.meta.id.as_str()) + need <= host.usable(class))
}

/// Another host that has room takes it, in its new size. When there is none the refusal says what is missing here.
fn elsewhere(tx: &mut Tx, cx: &Cx, server: &mut Server, state: &State, here: &Host, flavor: FlavorCopy) -> Result<(), Fault> {
    if migrate::nobody(&tx.view(), here, None).is_some() || !here.is_up() {
        hold_host(tx, &here.meta.id, &flavor);
        let from = std::mem::replace(&mut server.spec.launch.flavor, flavor);
        server.spec.resize = Some(Resize {
            from,
            from_host: Some(here.meta.id.clone()),
            was: server.spec.run,
            state: ResizeState::Changing,
            since: tx.now(),
        });
        return Ok(());
    }
    let migration = migrate::new(tx, cx, server, here, MigrationKind::Resize).to_size(server, flavor);
    server.status.migration = Some(migration.meta.id.clone());
    server.ask_control(Verb::Resize, state.vm);
    tx.insert(migration)?;
    if let Some(project) = &server.meta.project {
        hold_sizes(tx, project, &server.spec.user);
    }
    Ok(())
}

/// The transaction fails when the host has no room for the new size beside the old one.
fn hold_host(tx: &mut Tx, host: &Id<Host>, flavor: &FlavorCopy) {
    let Some(document) = tx.get(host) else { return };
    for (class, _) in flavor.resources() {
        tx.limit(class, class, host.as_str(), document.usable(class));
    }
}

/// The new size stays. Nothing is left for the host to do.
pub async fn confirm(request: Action) -> Result<Response, Fault> {
    request.check_bare("confirmResize")?;
    perform(&request.cx, &request.id, &CONFIRM, |_, server, _| {
        server.spec.resize = None;
        Ok(())
    })
    .await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub async fn revert(request: Action) -> Result<Response, Fault> {
    request.check_bare("revertResize")?;
    perform(&request.cx, &request.id, &REVERT, |_, server, state| {
        if let Some(resize) = &mut server.spec.resize {
            server.spec.launch.flavor = resize.from.clone();
            server.spec.run = resize.was;
            resize.state = ResizeState::Reverting;
        }
        availability::turn(server)?;
        server.ask(Verb::RevertResize, state.vm);
        Ok(())
    })
    .await?;
    Ok(accepted())
}
