//! `/servers/{id}/migrations`: live migrations that are under way, and what can be done about them.

use std::sync::Arc;

use axum::Json;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};
use unkai_model::compute::{Migration, MigrationKind, MigrationState, VmState};
use unkai_openstack::iso;
use unkai_store::View;

use super::actions::accepted;
use super::cx::Cx;
use super::perform::{Rule, Tasks, find, look};
use super::schemas;
use crate::admin::migrations::{host_name, status};
use crate::body::Body;
use crate::{Fault, Microversion};

static FORCE_COMPLETE: Rule = Rule {
    admin: true,
    tasks: Tasks::Or(&["migrating"]),
    ..Rule::verb("force_complete", "os_compute_api:servers:migrations:force_complete", &[VmState::Active], "")
};
static ABORT: Rule = Rule {
    admin: true,
    tasks: Tasks::Or(&["migrating"]),
    ..Rule::verb("abort live migration", "os_compute_api:servers:migrations:delete", &[VmState::Active, VmState::Paused], "")
};

/// From here on also what has not begun to be copied can be given up.
const ABORT_QUEUED: u16 = 65;

pub async fn index(cx: Cx, Path(id): Path<String>) -> Result<Response, Fault> {
    cx.version.require(23..)?;
    cx.require_admin("os_compute_api:servers:migrations:index")?;
    let (view, server, _) = look(&cx, &id).await?;
    let mut open: Vec<_> = view.by_index::<Migration>("server", server.meta.id.as_str()).filter(|found| is_shown(found)).collect();
    open.sort_by_key(|migration| migration.number);
    let list: Vec<Value> = open.iter().map(|migration| render(&view, migration, cx.version)).collect();
    Ok(Json(json!({ "migrations": list })).into_response())
}

pub async fn show(cx: Cx, Path((id, migration)): Path<(String, String)>) -> Result<Response, Fault> {
    cx.version.require(23..)?;
    cx.require_admin("os_compute_api:servers:migrations:show")?;
    let (view, _, _) = look(&cx, &id).await?;
    let found = of_server(&view, &id, &migration)?;
    if found.kind != MigrationKind::Live {
        return Err(Fault::not_found(format!("Migration {migration} for server {id} is not live-migration.")));
    }
    if !found.is_open() {
        return Err(Fault::not_found(format!("Migration {migration} for server {id} is not in progress.")));
    }
    Ok(Json(json!({ "migration": render(&view, &found, cx.version) })).into_response())
}

/// `DELETE`: the server stays.
pub async fn abort(cx: Cx, Path((id, migration)): Path<(String, String)>) -> Result<Response, Fault> {
    cx.version.require(24..)?;
    let states: &[MigrationState] = if cx.version.at_least(ABORT_QUEUED) {
        &[MigrationState::Waiting, MigrationState::Preparing, MigrationState::Running]
    } else {
        &[MigrationState::Running]
    };
    change(&cx, &id, &migration, &ABORT, "abort live migration", states, |found| found.abort("It was aborted.")).await
}

/// `POST .../action`: the server stands still, so that it comes to an end.
pub async fn action(cx: Cx, Path((id, migration)): Path<(String, String)>, body: Body) -> Result<Response, Fault> {
    cx.version.require(22..)?;
    schemas::bare("force_complete").check_body(&body.unchecked(), cx.version)?;
    change(&cx, &id, &migration, &FORCE_COMPLETE, "force complete", &[MigrationState::Running], |found| found.finish = true).await
}

async fn change(
    cx: &Cx,
    id: &str,
    migration: &str,
    rule: &'static Rule,
    method: &'static str,
    states: &'static [MigrationState],
    change: fn(&mut Migration),
) -> Result<Response, Fault> {
    let (cx, id, migration, store) = (cx.clone(), id.to_owned(), migration.to_owned(), cx.cloud.store.clone());
    store
        .transact(move |tx| {
            let view = tx.view();
            let (server, state) = find(&view, &id)?;
            rule.check(&cx, &server, &state)?;
            if state.task != Some("migrating") {
                return Err(rule.illegal(&server, "task_state", state.task.unwrap_or("None")));
            }
            let found = of_server(&view, &id, &migration)?;
            let legal = found.kind == MigrationKind::Live && states.contains(&found.state) && !found.handed_over;
            if !legal {
                let state = status(&found);
                return Err(Fault::bad_request(format!(
                    "Migration {migration} state of instance {id} is {state}. Cannot {method} while the migration is in this state."
                )));
            }
            tx.update(&found.meta.id, |found: &mut Migration| {
                change(found);
                Ok::<_, Fault>(())
            })
        })
        .await?;
    Ok(accepted())
}

/// By the number in the path; from 2.59 on clients know the other id as well, but ask by this one.
fn of_server(view: &View, server: &str, migration: &str) -> Result<Arc<Migration>, Fault> {
    let mut migrations = view.by_index::<Migration>("server", server);
    let found = migrations.find(|found| found.number.to_string() == migration || found.meta.id.as_str() == migration);
    found.ok_or_else(|| Fault::new(StatusCode::NOT_FOUND, format!("Migration {migration} for server {server} could not be found.")))
}

fn is_shown(migration: &Migration) -> bool {
    migration.kind == MigrationKind::Live && migration.is_open()
}

fn render(view: &View, migration: &Migration, version: Microversion) -> Value {
    let (source, target) = (host_name(view, Some(&migration.source)), host_name(view, migration.destination.as_ref()));
    let address = migration.destination.as_ref().and_then(|host| view.get(host)?.status.address);
    let progress = &migration.progress;
    let mut shown = json!({
        "id": migration.number,
        "server_uuid": migration.server,
        "status": status(migration),
        "source_compute": source,
        "source_node": source,
        "dest_compute": target,
        "dest_node": target,
        "dest_host": address,
        "memory_total_bytes": progress.memory_total,
        "memory_processed_bytes": progress.memory_sent,
        "memory_remaining_bytes": progress.memory_left,
        "disk_total_bytes": progress.disk_total,
        "disk_processed_bytes": progress.disk_sent,
        "disk_remaining_bytes": progress.disk_left(),
        "created_at": iso(migration.meta.created),
        "updated_at": iso(migration.meta.updated),
    });
    if version.at_least(59) {
        shown["uuid"] = json!(migration.meta.id);
    }
    if version.at_least(80) {
        shown["user_id"] = json!(migration.user);
        shown["project_id"] = json!(migration.meta.project);
    }
    shown
}
