//! Locks: while one is held, only administrators change the server.

use axum::response::Response;
use unkai_model::compute::Lock;

use super::super::create::text;
use super::super::perform::{Rule, Tasks, perform};
use super::super::schemas;
use super::{Action, accepted};
use crate::Fault;

const fn rule(name: &'static str, policy: &'static str) -> Rule {
    Rule { name, policy, states: &[], tasks: Tasks::Any, lock: false, event: "", noted: true, admin: false, hosted: false, lasting: false }
}
static LOCK: Rule = rule("lock", "os_compute_api:os-lock-server:lock");
static UNLOCK: Rule = rule("unlock", "os_compute_api:os-lock-server:unlock");

pub async fn lock(request: Action) -> Result<Response, Fault> {
    if request.cx.version.at_least(73) {
        request.check(&schemas::LOCK)?;
    } else {
        request.check_bare("lock")?;
    }
    let reason = text(&request.body["lock"], "locked_reason");
    let caller = request.cx.caller.clone();
    perform(&request.cx, &request.id, &LOCK, move |_, server, _| {
        let by_admin = !caller.owns(server.meta.project.as_ref());
        // What its owner locked stays the owner's to open.
        if server.spec.lock.is_none() || by_admin {
            server.spec.lock = Some(Lock { by_admin, reason: reason.clone() });
        }
        Ok(())
    })
    .await?;
    Ok(accepted())
}

pub async fn unlock(request: Action) -> Result<Response, Fault> {
    request.check_bare("unlock")?;
    let admin = request.cx.is_admin();
    perform(&request.cx, &request.id, &UNLOCK, move |_, server, _| {
        if server.spec.lock.as_ref().is_some_and(|lock| lock.by_admin) && !admin {
            return Err(Fault::policy("os_compute_api:os-lock-server:unlock:unlock_override"));
        }
        server.spec.lock = None;
        Ok(())
    })
    .await?;
    Ok(accepted())
}
