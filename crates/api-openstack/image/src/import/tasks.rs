//! Tasks: `/v2/images/{id}/tasks` for whoever sees the image, `/v2/tasks` for administrators.

use axum::Json;
use axum::extract::{Path, Query, State};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use unkai_model::Id;
use unkai_model::image::{Image, ImageTask, TaskState};
use unkai_openstack::{Caller, Cloud};

use crate::access;
use crate::error::{ApiError, Result};
use crate::image::view::time;

/// Newest first.
pub async fn of_image(caller: Caller, State(cloud): State<Cloud>, Path(id): Path<String>) -> Result<Json<Value>> {
    let view = cloud.store.read().await?;
    let image = view.get::<Image>(&Id::new(id.as_str())).ok_or_else(|| ApiError::no_image(&id))?;
    access::see(&caller, &image)?;
    let mut tasks: Vec<_> = view.by_index::<ImageTask>("image", &id).collect();
    tasks.sort_by_key(|task| std::cmp::Reverse(task.meta.created));
    let tasks: Vec<Value> = tasks.iter().map(|task| whole(task)).collect();
    Ok(Json(json!({ "tasks": tasks })))
}

pub async fn list(caller: Caller, State(cloud): State<Cloud>, Query(query): Query<BTreeMap<String, String>>) -> Result<Json<Value>> {
    require_admin(&caller)?;
    let view = cloud.store.read().await?;
    let wanted = |task: &ImageTask| {
        query.get("status").is_none_or(|status| TaskState::named(status) == Some(task.state))
            && query.get("type").is_none_or(|kind| *kind == task.action)
    };
    let mut tasks: Vec<_> = view.all::<ImageTask>().filter(|task| wanted(task)).collect();
    tasks.sort_by_key(|task| std::cmp::Reverse(task.meta.created));
    let tasks: Vec<Value> = tasks.iter().map(|task| short(task)).collect();
    Ok(Json(json!({ "tasks": tasks, "first": "/v2/tasks", "schema": "/v2/schemas/tasks" })))
}

pub async fn show(caller: Caller, State(cloud): State<Cloud>, Path(id): Path<String>) -> Result<Json<Value>> {
    require_admin(&caller)?;
    let view = cloud.store.read().await?;
    let task = view.get::<ImageTask>(&Id::new(id.as_str()));
    let task = task.ok_or_else(|| ApiError::not_found(format!("Failed to find task {id}")))?;
    Ok(Json(detail(&task)))
}

pub fn detail(task: &ImageTask) -> Value {
    let mut body = short(task);
    body["input"] = task.input.clone();
    body["result"] = result(task);
    body["message"] = json!(task.message);
    body
}

pub fn require_admin(caller: &Caller) -> Result<()> {
    if caller.is_admin() { Ok(()) } else { Err(ApiError::policy("tasks_api_access")) }
}

fn short(task: &ImageTask) -> Value {
    let mut body = json!({
        "id": task.meta.id,
        "type": task.action,
        "status": task.state,
        "owner": task.meta.project,
        "created_at": time(task.meta.created),
        "updated_at": time(task.meta.updated),
        "self": format!("/v2/tasks/{}", task.meta.id),
        "schema": "/v2/schemas/task",
    });
    if let Some(expires) = task.expires {
        body["expires_at"] = json!(time(expires));
    }
    body
}

fn whole(task: &ImageTask) -> Value {
    json!({
        "id": task.meta.id,
        "type": task.action,
        "status": task.state,
        "owner": task.meta.project,
        "expires_at": task.expires.map(time),
        "created_at": time(task.meta.created),
        "updated_at": time(task.meta.updated),
        "deleted_at": null,
        "deleted": false,
        "image_id": task.image,
        "request_id": task.request,
        "user_id": task.user,
        "input": task.input,
        "result": result(task),
        "message": task.message,
    })
}

fn result(task: &ImageTask) -> Value {
    if task.state == TaskState::Success { json!({ "image_id": task.image }) } else { Value::Null }
}
