//! A server whose host is down begins anew on another one.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};
use unkai_model::compute::{MigrationKind, Verb, VmState};

use super::super::create::text;
use super::super::perform::{Rule, Tasks, perform};
use super::super::schemas;
use super::Action;
use super::admin::known_host;
use super::migrate::{new, nobody};
use crate::Fault;

static EVACUATE: Rule = Rule {
    admin: true,
    tasks: Tasks::Any,
    lasting: true,
    ..Rule::verb("evacuate", "os_compute_api:os-evacuate", &[VmState::Active, VmState::Stopped, VmState::Error], "compute_rebuild_instance")
};

/// What is left of it must not run any more. Of a host that is only silent nobody knows, unless it ran the server under a lease: an operator
/// says that the machine is off.
pub async fn evacuate(request: Action) -> Result<Response, Fault> {
    request.check(&schemas::EVACUATE)?;
    let wanted = request.body["evacuate"].clone();
    let (cx, host) = (request.cx.clone(), text(&wanted, "host"));
    let password = perform(&request.cx, &request.id, &EVACUATE, move |tx, server, state| {
        let view = tx.view();
        known_host(&view, host.as_deref(), Fault::not_found)?;
        let here = server.status.host.as_ref().and_then(|host| view.get(host));
        let Some(here) = here else {
            return Err(Fault::conflict(format!("Instance {} is in an invalid state for 'evacuate'", server.meta.id)));
        };
        let name = &here.meta.name;
        if host.as_ref() == Some(name) {
            return Err(Fault::bad_request("The target host can't be the same one."));
        }
        if here.is_up() {
            return Err(Fault::bad_request(format!("Compute service of {name} is still in use.")));
        }
        if !here.forced_down && !server.is_protected() {
            return Err(Fault::bad_request(format!(
                "Compute service of {name} is still in use: it is silent, and may run the server all the same. When the machine is off, say so: \
                 `openstack compute service set --down {name} nova-compute`."
            )));
        }
        if server.status.migration.is_some() {
            return Err(EVACUATE.illegal(server, "task_state", state.task.unwrap_or("None")));
        }
        if let Some(refusal) = nobody(&view, &here, host.as_deref()) {
            return Err(Fault::bad_request(refusal));
        }
        let mut migration = new(tx, &cx, server, &here, MigrationKind::Evacuate);
        migration.wish.force = host.is_some() && (!cx.version.at_least(29) || wanted["force"] == Value::Bool(true));
        migration.wish.host = host.clone();
        server.status.migration = Some(migration.meta.id.clone());
        server.ask_control(Verb::Evacuate, state.vm);
        if let Some(password) = text(&wanted, "adminPass") {
            server.spec.launch.admin_password = Some(password);
        }
        tx.insert(migration)?;
        Ok(server.spec.launch.admin_password.clone())
    })
    .await?;
    if request.cx.version.at_least(14) {
        return Ok(StatusCode::OK.into_response());
    }
    Ok(Json(json!({ "adminPass": password.unwrap_or_default() })).into_response())
}
