//! `POST /volumes/{id}/action`: the body's only key says what is to be done.

pub mod attach;
mod change;
mod image;
mod state;

use std::sync::Arc;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::Value;
use unkai_model::volume::Volume;
use unkai_openstack::Routes;
use unkai_openstack::web::schema::Schema;
use unkai_openstack::web::{Body, Fault, policy};
use unkai_store::Tx;

use crate::cx::Cx;

pub fn routes() -> Routes {
    Routes::new().post("/volumes/{id}/action", act)
}

/// What is done in the transaction. `body` is what the action's key holds; the answer is a body of its own, or null.
type Do = fn(&mut Tx, &Cx, &Arc<Volume>, &Value) -> Result<Value, Fault>;

struct Action {
    name: &'static str,
    /// The name of its policy rule.
    rule: &'static str,
    admin: bool,
    /// The first minor version that has it.
    since: u16,
    schema: fn() -> Schema,
    act: Do,
    answer: StatusCode,
}

const fn action(name: &'static str, rule: &'static str, schema: fn() -> Schema, act: Do) -> Action {
    Action { name, rule, admin: false, since: 0, schema, act, answer: StatusCode::ACCEPTED }
}

static ACTIONS: [Action; 24] = [
    action("os-attach", "volume_extension:volume_actions:attach", attach::attach_schema, attach::attach),
    action("os-detach", "volume_extension:volume_actions:detach", attach::detach_schema, attach::detach),
    action("os-reserve", "volume_extension:volume_actions:reserve", anything, attach::reserve),
    action("os-unreserve", "volume_extension:volume_actions:unreserve", anything, attach::unreserve),
    action("os-begin_detaching", "volume_extension:volume_actions:begin_detaching", anything, attach::begin_detaching),
    action("os-roll_detaching", "volume_extension:volume_actions:roll_detaching", anything, attach::roll_detaching),
    Action {
        answer: StatusCode::OK,
        ..action("os-initialize_connection", "volume_extension:volume_actions:initialize_connection", attach::connector, attach::connect)
    },
    action("os-terminate_connection", "volume_extension:volume_actions:terminate_connection", attach::connector, attach::disconnect),
    action("os-extend", "volume:extend", change::extend_schema, change::extend),
    action("os-update_readonly_flag", "volume:update_readonly_flag", change::read_only_schema, change::read_only),
    Action {
        answer: StatusCode::OK,
        ..action("os-set_bootable", "volume_extension:volume_actions:set_bootable", change::bootable_schema, change::bootable)
    },
    action("os-retype", "volume:retype", change::retype_schema, change::retype),
    Action { since: 40, ..action("revert", "volume:revert_to_snapshot", change::revert_schema, change::revert) },
    Action { since: 68, ..action("os-reimage", "volume:reimage", image::reimage_schema, image::reimage) },
    action("os-volume_upload_image", "volume_extension:volume_actions:upload_image", image::upload_schema, image::upload),
    Action {
        answer: StatusCode::OK,
        ..action("os-set_image_metadata", "volume_extension:volume_image_metadata:set", image::set_schema, image::set)
    },
    Action {
        answer: StatusCode::OK,
        ..action("os-unset_image_metadata", "volume_extension:volume_image_metadata:remove", image::unset_schema, image::unset)
    },
    Action {
        answer: StatusCode::OK,
        ..action("os-show_image_metadata", "volume_extension:volume_image_metadata:show", anything, image::show)
    },
    Action {
        admin: true,
        ..action("os-reset_status", "volume_extension:volume_admin_actions:reset_status", state::reset_schema, state::reset)
    },
    Action {
        admin: true,
        ..action("os-force_delete", "volume_extension:volume_admin_actions:force_delete", anything, state::force_delete)
    },
    Action {
        admin: true,
        ..action("os-force_detach", "volume_extension:volume_admin_actions:force_detach", attach::force_detach_schema, attach::detach)
    },
    Action { admin: true, ..action("os-migrate_volume", "volume_extension:volume_admin_actions:migrate_volume", anything, state::migrate) },
    Action {
        admin: true,
        ..action(
            "os-migrate_volume_completion",
            "volume_extension:volume_admin_actions:migrate_volume_completion",
            anything,
            state::migrate,
        )
    },
    Action { admin: true, ..action("os-unmanage", "volume_extension:volume_unmanage", anything, state::unmanage) },
];

fn anything() -> Schema {
    Schema::Any
}

async fn act(cx: Cx, body: Body) -> Result<Response, Fault> {
    let body = body.unchecked();
    let only = body.as_object().filter(|body| body.len() == 1).and_then(|body| body.iter().next());
    let (name, content) = only.ok_or_else(|| Fault::bad_request("Malformed request body"))?;
    let found = ACTIONS.iter().find(|action| action.name == name && cx.version.at_least(action.since));
    let action = found.ok_or_else(|| Fault::bad_request(format!("There is no such action: {name}")))?;
    (action.schema)().check_body(content, cx.version)?;
    if action.admin {
        cx.require_admin(action.rule)?;
    }
    let (call, content) = (cx.clone(), content.clone());
    let answer = cx
        .store()
        .transact(move |tx: &mut Tx| {
            let volume = call.find_to_change::<Volume>(tx, action.rule)?;
            policy::member(&call.caller, volume.meta.project.as_ref(), action.rule)?;
            (action.act)(tx, &call, &volume, &content)
        })
        .await?;
    Ok(match answer {
        Value::Null => action.answer.into_response(),
        body => (action.answer, Json(body)).into_response(),
    })
}

/// Writes a volume's document; `work` counts a new generation, for its carrier to act on.
fn change(tx: &mut Tx, volume: &Volume, work: bool, change: impl FnOnce(&mut Volume)) -> Result<Arc<Volume>, Fault> {
    tx.update(&volume.meta.id, |volume: &mut Volume| {
        volume.meta.generation += u64::from(work);
        change(volume);
        Ok(())
    })
}
