//! `/os-migrations`: servers that were resized or moved.
//!
//! Moves are documents of their own. A resize is told by the action that asked for it, as long as that lasts: where a server came from is
//! known while its resize is not settled; afterwards only where it is.

use std::sync::{Arc, LazyLock};

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use unkai_model::compute::{Host, Migration, MigrationKind, MigrationState, Resize, ResizeState, Server, ServerAction};
use unkai_model::{Id, Timestamp};
use unkai_openstack::{Caller, Cloud, Routes, iso};
use unkai_store::View;

use super::page;
use super::policy;
use super::services::made_up_id;
use crate::query::{Query, time};
use crate::schema::{DATE_TIME, Schema, object};
use crate::{Fault, Microversion};

pub fn routes() -> Routes {
    Routes::new().get("/v2.1/os-migrations", index)
}

/// Unknown parameters are refused from 2.59 on.
static QUERY: LazyLock<[Schema; 2]> = LazyLock::new(|| {
    let text = || Schema::string(0, usize::MAX).many();
    let object = object()
        .optional("hidden", text())
        .optional("host", text())
        .optional("instance_uuid", text())
        .optional("migration_type", text())
        .optional("source_compute", text())
        .optional("status", text())
        .optional_in(59.., "limit", Schema::count().many())
        .optional_in(59.., "marker", text())
        .optional_in(59.., "changes-since", Schema::text(DATE_TIME).single())
        .optional_in(66.., "changes-before", Schema::text(DATE_TIME).single())
        .optional_in(80.., "user_id", text())
        .optional_in(80.., "project_id", text());
    [object.clone().open().into(), object.into()]
});

struct Record {
    uuid: String,
    number: u64,
    server: Id<Server>,
    kind: &'static str,
    status: &'static str,
    source: Option<String>,
    target: Option<String>,
    address: Option<String>,
    project: Option<String>,
    user: String,
    started: Timestamp,
    updated: Timestamp,
    /// It has a resource of its own below its server.
    linked: bool,
}

pub fn host_name(view: &View, host: Option<&Id<Host>>) -> Option<String> {
    host.and_then(|id| view.get(id)).map(|host| host.meta.name.clone())
}

/// How far a move is, in the original's words: one that waits for confirmation is told by what followed it.
fn status_of(view: &View, migration: &Migration) -> &'static str {
    let waits = matches!(migration.kind, MigrationKind::Cold | MigrationKind::Resize) && !migration.settles;
    let action = view.get(&ServerAction::id(&migration.server, &migration.request));
    match action.filter(|_| waits && migration.state == MigrationState::Completed) {
        Some(action) => Followed::by(view, &action).status(&action),
        None if migration.kind == MigrationKind::Evacuate && migration.state == MigrationState::Completed => "done",
        None => status(migration),
    }
}

/// What came after a resize or a move.
struct Followed {
    end: Option<Arc<ServerAction>>,
    resize: Option<Resize>,
}

impl Followed {
    fn by(view: &View, action: &ServerAction) -> Self {
        let mut later: Vec<_> =
            view.by_index::<ServerAction>("server", action.server.as_str()).filter(|other| other.started > action.started).collect();
        later.sort_by_key(|other| other.started);
        let end = later.iter().find(|other| matches!(other.meta.name.as_str(), "confirmResize" | "revertResize")).cloned();
        let is_newest = !later.iter().any(|other| matches!(other.meta.name.as_str(), "resize" | "migrate"));
        let server = view.get::<Server>(&action.server).filter(|_| is_newest);
        Followed { end, resize: server.and_then(|server| server.spec.resize.clone()) }
    }

    fn status(&self, action: &ServerAction) -> &'static str {
        let end = self.end.as_ref().map(|end| end.meta.name.as_str());
        resize_status(action.message.is_some(), action.is_open(), end, self.resize.as_ref().map(|resize| resize.state))
    }
}

/// How far a move is by itself.
pub fn status(migration: &Migration) -> &'static str {
    match migration.state {
        MigrationState::Waiting => "queued",
        MigrationState::Preparing => "preparing",
        MigrationState::Running if migration.handed_over => "post-migrating",
        MigrationState::Running => "running",
        MigrationState::Completed => "completed",
        MigrationState::Failed => "error",
        MigrationState::Cancelled => "cancelled",
    }
}

/// How far a resize is. `next` is the name of the first action after it that ends it.
fn resize_status(failed: bool, open: bool, next: Option<&str>, resize: Option<ResizeState>) -> &'static str {
    match (next, resize) {
        _ if failed => "error",
        (Some("confirmResize"), _) => "confirmed",
        (Some(_), Some(ResizeState::Reverting)) => "reverting",
        (Some(_), _) => "reverted",
        (None, Some(ResizeState::Changing)) => "migrating",
        (None, Some(ResizeState::WaitsForConfirm)) => "finished",
        (None, Some(ResizeState::Reverting)) => "reverting",
        (None, None) if open => "accepted",
        (None, None) => "completed",
    }
}

impl Record {
    fn of_move(view: &View, migration: &Migration) -> Self {
        Record {
            uuid: migration.meta.id.to_string(),
            number: migration.number,
            server: migration.server.clone(),
            kind: match migration.kind {
                MigrationKind::Live => "live-migration",
                MigrationKind::Cold => "migration",
                MigrationKind::Resize => "resize",
                MigrationKind::Evacuate => "evacuation",
            },
            status: status_of(view, migration),
            source: host_name(view, Some(&migration.source)),
            target: host_name(view, migration.destination.as_ref()),
            address: migration.destination.as_ref().and_then(|host| view.get(host)?.status.address).map(|address| address.to_string()),
            project: migration.meta.project.as_ref().map(|id| id.to_string()),
            user: migration.user.clone(),
            started: migration.meta.created,
            updated: migration.meta.updated,
            linked: migration.is_open() && migration.kind == MigrationKind::Live,
        }
    }

    fn of_resize(view: &View, action: Arc<ServerAction>) -> Option<Self> {
        let moved = || view.by_index::<Migration>("server", action.server.as_str()).any(|migration| migration.request == action.request);
        if action.meta.name != "resize" || moved() {
            return None;
        }
        let server = view.get::<Server>(&action.server);
        let followed = Followed::by(view, &action);
        let (uuid, number) = made_up_id(action.meta.id.as_str());
        Some(Record {
            uuid,
            number,
            server: action.server.clone(),
            kind: "resize",
            status: followed.status(&action),
            source: host_name(view, followed.resize.as_ref().and_then(|resize| resize.from_host.as_ref())),
            target: host_name(view, server.as_ref().and_then(|server| server.status.host.as_ref())),
            address: None,
            project: server.as_ref().and_then(|server| server.meta.project.as_ref()).map(|id| id.to_string()),
            user: action.user.clone(),
            started: action.started,
            updated: followed.end.as_ref().map_or(action.meta.updated, |end| end.meta.updated),
            linked: false,
        })
    }

    fn render(&self, cloud: &Cloud, version: Microversion) -> Value {
        let mut shown = json!({
            "id": self.number,
            "instance_uuid": self.server,
            "status": self.status,
            "source_compute": self.source,
            "source_node": self.source,
            "dest_compute": self.target,
            "dest_node": self.target,
            "dest_host": self.address,
            "old_instance_type_id": null,
            "new_instance_type_id": null,
            "created_at": iso(self.started),
            "updated_at": iso(self.updated),
        });
        if version.at_least(23) {
            shown["migration_type"] = json!(self.kind);
            if self.linked {
                shown["links"] = json!(page::links(cloud, &format!("servers/{}/migrations", self.server), &self.number.to_string()));
            }
        }
        if version.at_least(59) {
            shown["uuid"] = json!(self.uuid);
        }
        if version.at_least(80) {
            shown["user_id"] = json!(self.user);
            shown["project_id"] = json!(self.project);
        }
        shown
    }

    fn matches(&self, query: &Query) -> bool {
        let is = |name: &str, value: Option<&str>| query.get(name).is_none_or(|wanted| value == Some(wanted));
        let on_host = query.get("host").is_none_or(|host| [&self.source, &self.target].contains(&&Some(host.to_owned())));
        let at = |name: &str| query.get(name).and_then(time);
        on_host
            && is("instance_uuid", Some(self.server.as_str()))
            && is("status", Some(self.status))
            && is("migration_type", Some(self.kind))
            && is("source_compute", self.source.as_deref())
            && is("user_id", Some(&self.user))
            && is("project_id", self.project.as_deref())
            && query.get("hidden").and_then(crate::query::truth) != Some(true)
            && at("changes-since").is_none_or(|since| self.updated >= since)
            && at("changes-before").is_none_or(|before| self.updated <= before)
    }
}

async fn index(State(cloud): State<Cloud>, caller: Caller, version: Microversion, query: Query) -> Result<Json<Value>, Fault> {
    query.check(&QUERY[usize::from(version.at_least(59))], version)?;
    policy::admin(&caller, "os_compute_api:os-migrations:index")?;
    let view = cloud.store.read().await?;
    let resizes = view.all::<ServerAction>().filter_map(|action| Record::of_resize(&view, action));
    let mut found: Vec<Record> = view.all::<Migration>().map(|migration| Record::of_move(&view, &migration)).chain(resizes).collect();
    found.retain(|record| record.matches(&query));
    found.sort_by_key(|record| std::cmp::Reverse((record.started, record.number)));
    let mut links = None;
    if version.at_least(59) {
        found = page::cut(found, &query, |record| &record.uuid, |marker| format!("Marker {marker} could not be found."))?;
        links = page::next(&cloud, "os-migrations", &query, found.len(), found.last().map(|record| record.uuid.as_str()));
    }
    let mut body = json!({ "migrations": found.iter().map(|record| record.render(&cloud, version)).collect::<Vec<_>>() });
    if let Some(links) = links {
        body["migrations_links"] = json!(links);
    }
    Ok(Json(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resize_is_finished_then_confirmed_or_reverted() {
        let table = [
            (false, true, None, Some(ResizeState::Changing), "migrating"),
            (false, false, None, Some(ResizeState::WaitsForConfirm), "finished"),
            (false, false, Some("revertResize"), Some(ResizeState::Reverting), "reverting"),
            (false, false, Some("revertResize"), None, "reverted"),
            (false, false, Some("confirmResize"), None, "confirmed"),
            (true, false, None, None, "error"),
            (false, true, None, None, "accepted"),
            (false, false, None, None, "completed"),
        ];
        for (failed, open, next, resize, expected) in table {
            assert_eq!(resize_status(failed, open, next, resize), expected);
        }
    }
}
