//! The start of an import: one transaction that takes the image and makes the task. A staged image is active in the same transaction;
//! a download goes on by itself.

use axum::Extension;
use axum::body::Bytes;
use axum::extract::{Path, State};
use http::StatusCode;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use unkai_model::image::{Content, Image, ImageState, ImageTask, TaskState};
use unkai_model::{Id, Meta};
use unkai_openstack::{Caller, CallerName, Cloud, RequestId};
use unkai_store::Tx;

use super::download;
use super::request::{self, Method};
use crate::bytes::Images;
use crate::error::{ApiError, Result};
use crate::settings::Settings;
use crate::{access, json, quota};

pub async fn import(
    caller: Caller,
    State(cloud): State<Cloud>,
    Extension(images): Extension<Images>,
    Extension(settings): Extension<Settings>,
    request: Option<Extension<RequestId>>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<StatusCode> {
    let body = json::object(&body, "import")?;
    let method = request::read(&body, &settings)?;
    let request = request.map_or_else(String::new, |Extension(RequestId(id))| id);
    let wanted = method.clone();
    let start = move |tx: &mut Tx| start(tx, &caller, &id, &wanted, &body, &request);
    let (image, task) = cloud.store.transact(start).await?;
    if let Method::Download(url) = method {
        tokio::spawn(download::run(images, settings, image, task, url));
    }
    Ok(StatusCode::ACCEPTED)
}

fn start(
    tx: &mut Tx,
    caller: &CallerName,
    id: &str,
    method: &Method,
    body: &Map<String, Value>,
    request: &str,
) -> Result<(Arc<Image>, Id<ImageTask>)> {
    let id = Id::<Image>::new(id);
    let image = tx.get(&id).ok_or_else(|| ApiError::no_image(&id))?;
    access::see(caller, &image)?;
    check_state(&image, method)?;
    access::change(caller, &image, "modify_image")?;
    quota::limit_bytes(tx, image.meta.project.as_ref())?;
    let input = json!({ "image_id": id, "import_req": body, "backend": [null] });
    let task = insert_task(tx, TaskOf { caller, image: &image, request, action: "api_image_import" }, input)?.meta.id.clone();
    let image = match method {
        Method::Direct => import_staged(tx, &image, &task)?,
        Method::Download(_) => tx.update(&id, |image| image.begin(ImageState::Importing).map(drop).map_err(ApiError::from))?,
    };
    Ok((image, task))
}

fn check_state(image: &Image, method: &Method) -> Result<()> {
    let conflict = |text: &str| Err(ApiError::conflict(text));
    match (image.status.state, method) {
        (ImageState::Active, _) => return conflict("Image with status active cannot be target for import"),
        (ImageState::Queued, Method::Download(_)) | (ImageState::Uploading, Method::Direct) => {}
        (_, Method::Download(_)) => return conflict("Image needs to be in 'queued' state to use 'web-download' method"),
        (_, Method::Direct) => return conflict("Image needs to be staged before 'glance-direct' method can be used"),
    }
    if image.spec.container_format.is_none() {
        return conflict("'container_format' needs to be set before import");
    }
    if image.spec.disk_format.is_none() {
        return conflict("'disk_format' needs to be set before import");
    }
    Ok(())
}

/// Whose task it is and about what.
pub struct TaskOf<'a> {
    pub caller: &'a CallerName,
    pub image: &'a Image,
    pub request: &'a str,
    pub action: &'a str,
}

/// Makes a task, and forgets those that ended long ago.
pub fn insert_task(tx: &mut Tx, of: TaskOf, input: Value) -> Result<Arc<ImageTask>> {
    let now = tx.now();
    let old: Vec<_> = tx.all::<ImageTask>().filter(|task| task.expires.is_some_and(|end| end < now)).collect();
    for task in old {
        tx.delete(&task.meta.id)?;
    }
    let mut meta = Meta::new(tx.new_id::<ImageTask>());
    meta.project = of.caller.project.clone();
    let task = ImageTask {
        meta,
        image: of.image.meta.id.clone(),
        user: of.caller.user.clone(),
        request: of.request.to_owned(),
        action: of.action.to_owned(),
        input,
        state: TaskState::Processing,
        message: String::new(),
        expires: None,
    };
    Ok(tx.insert(task)?)
}

/// What was judged when it was staged decides: the image is active, or queued again.
fn import_staged(tx: &mut Tx, image: &Image, task: &Id<ImageTask>) -> Result<Arc<Image>> {
    let incoming = image.status.incoming.clone();
    let outcome: Result<Content, String> = match incoming.as_ref().map(|incoming| (&incoming.staged, &incoming.refused)) {
        Some((Some(content), _)) => Ok(content.clone()),
        Some((None, Some(reason))) => Err(reason.clone()),
        _ => return Err(ApiError::conflict("The data of the image is still being staged")),
    };
    let attempt = image.status.attempts;
    let now = tx.now();
    tx.update(task, |task| {
        task.end(now, outcome.as_ref().map(drop).map_err(String::clone));
        Ok::<_, ApiError>(())
    })?;
    tx.update(&image.meta.id, |image| {
        match &outcome {
            Ok(content) => {
                image.go(ImageState::Importing)?;
                image.complete(attempt, content.clone())?;
            }
            Err(reason) => {
                image.give_up(attempt, Some(reason.clone()));
            }
        }
        Ok(())
    })
}
