//! Moving a server to another host: while it runs, or by way of being off.

use std::sync::Arc;

use axum::response::Response;
use serde_json::Value;
use unkai_model::Meta;
use unkai_model::compute::{Host, Migration, MigrationKind, Server, Verb, VmState};
use unkai_store::{Tx, View};

use super::super::create::text;
use super::super::cx::Cx;
use super::super::perform::{Rule, perform};
use super::super::schemas;
use super::super::state::State;
use super::admin::known_host;
use super::{Action, accepted};
use crate::{Fault, Microversion};

static LIVE_MIGRATE: Rule = Rule {
    admin: true,
    lasting: true,
    ..Rule::verb(
        "live-migration",
        "os_compute_api:os-migrate-server:migrate_live",
        &[VmState::Active, VmState::Paused],
        "compute_live_migration",
    )
};

/// From here on only what can be seen at once is refused at once; the rest is told by the migration.
const ASYNCHRONOUS: u16 = 34;

pub async fn live_migrate(request: Action) -> Result<Response, Fault> {
    request.check(&schemas::LIVE_MIGRATE)?;
    let wanted = request.body["os-migrateLive"].clone();
    let cx = request.cx.clone();
    perform(&request.cx, &request.id, &LIVE_MIGRATE, move |tx, server, state| begin(tx, &cx, server, state, &wanted)).await?;
    Ok(accepted())
}

fn begin(tx: &mut Tx, cx: &Cx, server: &mut Server, state: &State, wanted: &Value) -> Result<(), Fault> {
    let host = text(wanted, "host");
    let view = tx.view();
    known_host(&view, host.as_deref(), Fault::bad_request)?;
    let here = server.status.host.as_ref().and_then(|host| view.get(host));
    let Some(here) = here else {
        return Err(Fault::conflict(format!("Instance {} is in an invalid state for 'live-migration'", server.meta.id)));
    };
    if !here.is_up() {
        return Err(Fault::bad_request(format!("Compute service of {} is unavailable at this time.", here.meta.name)));
    }
    if let Some(name) = host.as_ref().filter(|name| **name == here.meta.name) {
        return Err(Fault::bad_request(format!("Unable to migrate instance ({}) to current host ({name}).", server.meta.id)));
    }
    let shared_only = wanted["block_migration"] == Value::Bool(false) && server.has_local_disks();
    let refusal = if shared_only { Some(not_shared(&here)) } else { nobody(&view, &here, host.as_deref()) };
    if let Some(refusal) = refusal.filter(|_| shared_only || cx.version < Microversion(ASYNCHRONOUS)) {
        return Err(Fault::bad_request(refusal));
    }
    let mut migration = new(tx, cx, server, &here, MigrationKind::Live);
    migration.wish.force = host.is_some() && wanted["force"] == Value::Bool(true);
    // With an older client a host that is named is a host that is forced.
    migration.wish.force |= host.is_some() && !cx.version.at_least(30);
    migration.wish.host = host;
    server.status.migration = Some(migration.meta.id.clone());
    server.ask_control(Verb::LiveMigrate, state.vm);
    tx.insert(migration)?;
    Ok(())
}

static MIGRATE: Rule = Rule {
    admin: true,
    lasting: true,
    ..Rule::verb("migrate", "os_compute_api:os-migrate-server:migrate", &[VmState::Active, VmState::Stopped], "cold_migrate")
};

/// It is shut down, moved, started, and waits for confirmation as after a resize.
pub async fn migrate(request: Action) -> Result<Response, Fault> {
    if request.cx.version.at_least(56) {
        request.check(&schemas::MIGRATE)?;
    } else {
        request.check_bare("migrate")?;
    }
    let (cx, host) = (request.cx.clone(), text(&request.body["migrate"], "host"));
    perform(&request.cx, &request.id, &MIGRATE, move |tx, server, state| {
        let view = tx.view();
        known_host(&view, host.as_deref(), Fault::bad_request)?;
        let here = usable_host(&view, server, "migrate")?;
        if host.as_ref() == Some(&here.meta.name) {
            return Err(Fault::bad_request("No valid host was found. Unable to migrate instance to the same host."));
        }
        if nobody(&view, &here, host.as_deref()).is_some() {
            return Err(Fault::bad_request("No valid host was found. No valid host found for cold migrate"));
        }
        let mut migration = new(tx, &cx, server, &here, MigrationKind::Cold);
        migration.wish.host = host.clone();
        server.status.migration = Some(migration.meta.id.clone());
        server.ask_control(Verb::Migrate, state.vm);
        tx.insert(migration)?;
        Ok(())
    })
    .await?;
    Ok(accepted())
}

/// The host of a server that is to do its part.
pub fn usable_host(view: &View, server: &Server, action: &str) -> Result<Arc<Host>, Fault> {
    let here = server.status.host.as_ref().and_then(|host| view.get(host));
    let here = here.ok_or_else(|| Fault::conflict(format!("Instance {} is in an invalid state for '{action}'", server.meta.id)))?;
    if here.is_up() { Ok(here) } else { Err(Fault::conflict(format!("Service is unavailable at this time: host {}", here.meta.name))) }
}

/// One that waits for its destination.
pub fn new(tx: &mut Tx, cx: &Cx, server: &Server, here: &Host, kind: MigrationKind) -> Migration {
    let number = tx.all::<Migration>().map(|migration| migration.number).max().unwrap_or(0) + 1;
    let meta = Meta::new(tx.new_id());
    let mut migration = Migration::new(meta, number, kind, server, here.meta.id.clone());
    migration.request = cx.request.clone();
    migration.user = cx.caller.user.clone();
    migration
}

fn not_shared(here: &Host) -> String {
    format!(
        "{} is not on shared storage: Live migration can not be used without shared storage except a booted from volume VM which does not \
         have a local disk.",
        here.meta.name
    )
}

/// What an older client is told at once: that there is nowhere to go.
pub fn nobody(view: &View, here: &Host, wanted: Option<&str>) -> Option<String> {
    let named = |host: &Host| wanted.is_none_or(|name| host.meta.name == name);
    let others: Vec<_> = view.all::<Host>().filter(|host| host.meta.id != here.meta.id && named(host)).collect();
    match wanted {
        Some(name) if !others.iter().any(|host| host.is_up()) => Some(format!("Compute service of {name} is unavailable at this time.")),
        _ if others.iter().any(|host| host.takes_servers()) => None,
        _ => Some("No valid host was found. There are not enough hosts available.".to_owned()),
    }
}
