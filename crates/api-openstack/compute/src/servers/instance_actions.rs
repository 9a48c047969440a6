//! What was asked of a server, newest first.

use axum::Json;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use sha2::{Digest, Sha224};
use std::sync::Arc;
use unkai_model::Id;
use unkai_model::compute::{ActionEvent, Outcome, Server, ServerAction};
use unkai_openstack::iso;
use unkai_store::View;

use super::cx::{Cx, no_server};
use super::schemas;
use crate::Fault;
use crate::query::{self, MAX_PAGE, Query};

/// From 2.21 on the actions of deleted servers are shown as well.
async fn server(cx: &Cx, id: &str) -> Result<(View, Arc<Server>), Fault> {
    let view = cx.view().await?;
    let found = view.get(&Id::<Server>::new(id)).filter(|server| server.is_live() || cx.version.at_least(21));
    let server = found.ok_or_else(|| no_server(id))?;
    cx.may_read(&server)?;
    Ok((view, server))
}

pub async fn index(cx: Cx, Path(id): Path<String>, query: Query) -> Result<Response, Fault> {
    let (view, server) = server(&cx, &id).await?;
    let mut actions: Vec<Arc<ServerAction>> = view.by_index("server", server.meta.id.as_str()).collect();
    actions.sort_by(|a, b| (b.started, &b.meta.id).cmp(&(a.started, &a.meta.id)));
    if !cx.version.at_least(58) {
        let list: Vec<Value> = actions.iter().map(|action| body(&cx, action)).collect();
        return Ok(Json(json!({ "instanceActions": list })).into_response());
    }
    query.check(&schemas::ACTIONS, cx.version)?;
    let (since, before) = period(&cx, &query)?;
    actions.retain(|action| since.is_none_or(|at| action.meta.updated >= at) && before.is_none_or(|at| action.meta.updated <= at));
    let start = match query.get("marker") {
        None => 0,
        Some(marker) => {
            let place = actions.iter().position(|action| action.request == marker);
            place.ok_or_else(|| Fault::bad_request(format!("Marker {marker} could not be found.")))? + 1
        }
    };
    let limit = query.limit()?;
    let page: Vec<_> = actions.into_iter().skip(start).take(limit).collect();
    let mut answer = json!({ "instanceActions": page.iter().map(|action| body(&cx, action)).collect::<Vec<_>>() });
    let full = limit > 0 && page.len() == limit && (query.has("limit") || limit == MAX_PAGE);
    if let Some(last) = page.last().filter(|_| full) {
        let link = format!("{}/compute/v2.1/servers/{id}/os-instance-actions?{}", cx.cloud.url, query.with_marker(&last.request));
        answer["links"] = json!([{ "rel": "next", "href": link }]);
    }
    Ok(Json(answer).into_response())
}

type Moment = Option<unkai_model::Timestamp>;

fn period(cx: &Cx, query: &Query) -> Result<(Moment, Moment), Fault> {
    let at = |name: &str| query.get(name).and_then(query::time);
    let (since, before) = (at("changes-since"), at("changes-before").filter(|_| cx.version.at_least(66)));
    match (since, before) {
        (Some(since), Some(before)) if before < since => {
            Err(Fault::bad_request("The value of changes-since must be less than or equal to changes-before."))
        }
        both => Ok(both),
    }
}

pub async fn show(cx: Cx, Path((id, request)): Path<(String, String)>) -> Result<Response, Fault> {
    let (view, server) = server(&cx, &id).await?;
    let found = view.get(&ServerAction::id(&server.meta.id, &request));
    let action = found.ok_or_else(|| Fault::not_found(format!("Action {request} not found")))?;
    let mut answer = body(&cx, &action);
    if cx.is_admin() || cx.version.at_least(51) {
        answer["events"] = action.events.iter().map(|one| event(&cx, &view, &server, one)).collect();
    }
    Ok(Json(json!({ "instanceAction": answer })).into_response())
}

fn body(cx: &Cx, action: &ServerAction) -> Value {
    let mut body = json!({
        "action": action.meta.name,
        "instance_uuid": action.server,
        "request_id": action.request,
        "user_id": action.user,
        "project_id": action.project.as_ref().map_or("", |p| p.as_str()),
        "start_time": iso(action.started),
        "message": action.message.as_ref().map(|_| "Error"),
    });
    if cx.version.at_least(58) {
        body["updated_at"] = json!(iso(action.meta.updated));
    }
    body
}

fn event(cx: &Cx, view: &View, server: &Server, event: &ActionEvent) -> Value {
    let (result, why) = match &event.outcome {
        None => (None, None),
        Some(Outcome::Success) => (Some("Success"), None),
        Some(Outcome::Error(why)) => (Some("Error"), Some(why)),
    };
    let mut body = json!({
        "event": event.name,
        "start_time": iso(event.started),
        "finish_time": event.finished.map(iso),
        "result": result,
    });
    if cx.is_admin() {
        body["traceback"] = json!(why);
    }
    if cx.version.at_least(62) {
        let mut hash = Sha224::new();
        hash.update(server.meta.project.as_ref().map_or("", |p| p.as_str()));
        let id = event.host.as_ref().map(|host| {
            hash.update(host.as_str());
            hex::encode(hash.finalize())
        });
        body["hostId"] = json!(id.unwrap_or_default());
        if cx.is_admin() {
            body["host"] = json!(event.host.as_ref().and_then(|host| view.get(host)).map(|host| host.meta.name.clone()));
        }
    }
    if cx.version.at_least(84) {
        body["details"] = json!(why);
    }
    body
}
