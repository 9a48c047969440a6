//! What administrators ask, and what this cloud refuses in the original's words.

use axum::response::Response;
use unkai_model::compute::{Host, Reset, Server, VmState};
use unkai_store::View;

use super::super::delete::remove;
use super::super::perform::{Rule, Tasks, perform};
use super::super::schemas;
use super::{Action, accepted};
use crate::Fault;

static FORCE_DELETE: Rule = Rule {
    tasks: Tasks::Any,
    hosted: false,
    ..Rule::verb("forceDelete", "os_compute_api:os-deferred-delete:force", &[], "compute_terminate_instance")
};
static RESTORE: Rule =
    Rule { tasks: Tasks::Any, hosted: false, ..Rule::verb("restore", "os_compute_api:os-deferred-delete:restore", &[], "") };
static RESET: Rule = Rule { admin: true, lock: false, ..Rule::note("os-resetState", "os_compute_api:os-admin-actions:reset_state", &[]) };
static INJECT: Rule = Rule {
    admin: true,
    ..Rule::note(
        "inject_network_info",
        "os_compute_api:os-admin-actions:inject_network_info",
        &[VmState::Active, VmState::Paused, VmState::Suspended, VmState::Stopped],
    )
};
static PASSWORD: Rule = Rule::verb("changePassword", "os_compute_api:os-admin-password", &[VmState::Active], "compute_set_admin_password");
static CRASH_DUMP: Rule = Rule {
    ..Rule::verb(
        "trigger_crash_dump",
        "os_compute_api:servers:trigger_crash_dump",
        &[VmState::Active, VmState::Paused, VmState::Rescued, VmState::Resized, VmState::Error],
        "",
    )
};

pub async fn force_delete(request: Action) -> Result<Response, Fault> {
    request.check_bare("forceDelete")?;
    perform(&request.cx, &request.id, &FORCE_DELETE, remove).await?;
    Ok(accepted())
}

/// Deleted servers are not kept for a while here, so none is ever in the state to be restored from.
pub async fn restore(request: Action) -> Result<Response, Fault> {
    request.check_bare("restore")?;
    perform(&request.cx, &request.id, &RESTORE, |_, server, state| Err(RESTORE.illegal(server, "vm_state", state.vm_name())))
        .await
        .map(|()| accepted())
}

pub async fn reset_state(request: Action) -> Result<Response, Fault> {
    request.check(&schemas::RESET_STATE)?;
    let to = if request.body["os-resetState"]["state"] == "active" { VmState::Active } else { VmState::Error };
    perform(&request.cx, &request.id, &RESET, move |_, server, _| {
        server.spec.reset = Some(Reset { to, generation: server.meta.generation });
        Ok(())
    })
    .await?;
    Ok(accepted())
}

/// Guests read what they need to know of the network whenever they ask for it: there is nothing to put into them.
pub async fn inject_network_info(request: Action) -> Result<Response, Fault> {
    request.check_bare("injectNetworkInfo")?;
    perform(&request.cx, &request.id, &INJECT, |_, _, _| Ok(())).await?;
    Ok(accepted())
}

/// There is no way into the guest to do it by.
pub async fn change_password(request: Action) -> Result<Response, Fault> {
    request.check(&schemas::CHANGE_PASSWORD)?;
    let refuse = |_: &mut unkai_store::Tx, _: &mut Server, _: &_| Err(Fault::not_implemented("Unable to set password on instance"));
    perform(&request.cx, &request.id, &PASSWORD, refuse).await.map(|()| accepted())
}

pub async fn crash_dump(request: Action) -> Result<Response, Fault> {
    request.cx.version.require(17..)?;
    request.check(&schemas::bare("trigger_crash_dump"))?;
    let refuse = |_: &mut unkai_store::Tx, _: &mut Server, _: &_| {
        Err(Fault::bad_request("Unable to trigger crash dump: the driver does not support it."))
    };
    perform(&request.cx, &request.id, &CRASH_DUMP, refuse).await.map(|()| accepted())
}

/// A host of this name must be there before anything else is looked at.
pub(super) fn known_host(view: &View, name: Option<&str>, missing: fn(String) -> Fault) -> Result<(), Fault> {
    match name {
        Some(name) if view.holder::<Host>("host-name", name).is_none() => Err(missing(format!("Compute host {name} could not be found."))),
        _ => Ok(()),
    }
}
