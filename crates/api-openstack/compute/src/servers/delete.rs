//! Deleting servers.
//!
//! A server on a host is deleted when its agent says that nothing is left; one that is on no host goes in this transaction.

use axum::extract::Path;
use http::StatusCode;
use unkai_model::Id;
use unkai_model::compute::{Run, Server, Verb};
use unkai_model::network::Port;
use unkai_store::Tx;

use super::cx::Cx;
use super::perform::{Rule, Tasks, perform};
use super::ports;
use super::state::State;
use crate::Fault;

static DELETE: Rule = Rule {
    name: "delete",
    policy: "os_compute_api:servers:delete",
    states: &[],
    tasks: Tasks::Any,
    lock: true,
    event: "compute_terminate_instance",
    noted: true,
    admin: false,
    hosted: false,
    lasting: false,
};

pub async fn delete(cx: Cx, Path(id): Path<String>) -> Result<StatusCode, Fault> {
    perform(&cx, &id, &DELETE, remove).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The image that a shelved server was to come back from is of no use to anybody, except when somebody protected it.
fn discard_shelved_image(tx: &mut Tx, server: &mut Server) -> Result<(), Fault> {
    let image = server.spec.launch.shelved_image.take().and_then(|image| tx.get(&image));
    if let Some(image) = image.filter(|image| !image.spec.protected) {
        tx.delete(&image.meta.id)?;
    }
    Ok(())
}

pub fn remove(tx: &mut Tx, server: &mut Server, state: &State) -> Result<(), Fault> {
    if server.spec.run == Run::Deleted {
        return Ok(());
    }
    server.ask(Verb::Delete, state.vm);
    server.spec.run = Run::Deleted;
    server.spec.reset = None;
    discard_shelved_image(tx, server)?;
    if server.status.host.is_none() {
        let ports: Vec<Id<Port>> = server.spec.ports.clone();
        for port in &ports {
            ports::release(tx, server, port)?;
        }
        unkai_volume::verbs::release(tx, &server.meta.id)?;
        server.status.deleted = Some(tx.now());
    }
    Ok(())
}
