//! Servers on their way between hosts.
//!
//! [`plan`] says what is due for the open migrations of a view; [`act`] does it, looking again at the newest state. The rest follows from what
//! the two hosts say ([`reports`]). What each is told is rendered by [`items`].
//!
//! A server that moves never runs twice, whatever dies: its destination starts it only when its source has let go of it, and runs it under the
//! lease until the store says that it is there. The source takes it back only when the destination has said that it never started it,
//! or is fenced, so that it can run there no more.

mod choose;
pub mod drain;
mod end;
pub mod items;
pub mod reports;

use std::sync::Arc;

use unkai_model::compute::{Host, Migration, MigrationKind, MigrationState, Run, Server};
use unkai_model::{Error, Id};
use unkai_store::{Tx, View};

use crate::placement::Order;

pub use end::{forget, go_back, may_go_back};

#[derive(Debug, Clone, PartialEq)]
enum Step {
    /// A destination is to be chosen.
    Choose,
    /// Both are to be asked to give up, if there is time.
    Abort(String),
    End(MigrationState, String),
}

/// Open migrations that something is due for.
pub fn due(view: &View) -> Vec<Id<Migration>> {
    let open = view.by_index::<Migration>("open", "yes");
    open.filter(|migration| judge(view, migration).is_some()).map(|migration| migration.meta.id.clone()).collect()
}

fn judge(view: &View, migration: &Migration) -> Option<Step> {
    let failed = |reason: String| Some(Step::End(MigrationState::Failed, reason));
    let server = match view.get(&migration.server) {
        Some(server) if server.is_live() => server,
        _ => return failed("The server is gone.".into()),
    };
    if server.status.host.as_ref() != Some(&migration.source) {
        return failed("The server is not on the host any more that it was to leave.".into());
    }
    let host = |id: &Id<Host>| view.get(id);
    let destination = migration.destination.as_ref().and_then(host);
    match migration.state {
        MigrationState::Waiting if migration.kind == MigrationKind::Evacuate => return evacuation(view, migration, &server),
        MigrationState::Waiting => return Some(waiting(migration, &server)),
        _ if destination.as_ref().is_none_or(|host| host.is_fenced()) => {
            let name = destination.map_or_else(|| "the destination".into(), |host| host.meta.name.clone());
            return failed(format!("Host {name} was lost on the way."));
        }
        // The source was never told.
        MigrationState::Preparing if migration.abort.is_some() => {
            return Some(Step::End(MigrationState::Cancelled, migration.abort.clone().unwrap_or_default()));
        }
        _ => {}
    }
    if migration.abort.is_some() {
        return None;
    }
    let source = host(&migration.source);
    if server.spec.run == Run::Deleted {
        return Some(Step::Abort("The server is being deleted.".into()));
    }
    source.filter(|host| host.fence.is_some()).map(|host| Step::Abort(format!("Host {} was lost on the way.", host.meta.name)))
}

/// It begins anew only when what is left of it can run no more: by the lease, or by the word of an operator.
fn evacuation(view: &View, migration: &Migration, server: &Server) -> Option<Step> {
    let source = view.get(&migration.source)?;
    match waiting(migration, server) {
        Step::Choose if source.is_up() => {
            Some(Step::End(MigrationState::Failed, format!("Compute service of {} is still in use.", source.meta.name)))
        }
        Step::Choose if source.is_fenced() && (source.forced_down || server.is_protected()) => Some(Step::Choose),
        Step::Choose => None,
        other => Some(other),
    }
}

fn waiting(migration: &Migration, server: &Server) -> Step {
    match &migration.abort {
        Some(reason) => Step::End(MigrationState::Cancelled, reason.clone()),
        None if server.spec.run == Run::Deleted => Step::End(MigrationState::Cancelled, "The server is being deleted.".into()),
        None => Step::Choose,
    }
}

pub fn act(tx: &mut Tx, order: &Order, migrations: &[Id<Migration>]) -> Result<(), Error> {
    let mut ranking = order.lock();
    ranking.refresh(&tx.view(), false);
    for id in migrations {
        let view = tx.view();
        let Some(migration) = view.get(id).filter(|migration| migration.is_open()) else { continue };
        match judge(&view, &migration) {
            Some(Step::Choose) => {
                if let Some(host) = choose::settle(tx, &migration)? {
                    ranking.update(&tx.view(), &host);
                }
            }
            Some(Step::Abort(reason)) => change(tx, id, |migration| migration.abort(reason))?,
            Some(Step::End(state, reason)) => end::without_success(tx, &migration, state, &reason)?,
            None => {}
        }
    }
    Ok(())
}

fn change(tx: &mut Tx, id: &Id<Migration>, change: impl FnOnce(&mut Migration)) -> Result<(), Error> {
    tx.update(id, |migration: &mut Migration| {
        change(migration);
        Ok::<_, Error>(())
    })
    .map(drop)
}

/// The open migration of a server.
pub fn of(view: &View, server: &Server) -> Option<Arc<Migration>> {
    view.get(server.status.migration.as_ref()?).filter(|migration| migration.is_open())
}
