//! `POST /v2/tasks`: the older way to import, for administrators. Makes an image and fills it from the web.

use axum::body::Bytes;
use axum::extract::State;
use axum::{Extension, Json};
use http::StatusCode;
use serde_json::{Map, Value};
use std::sync::Arc;
use unkai_model::Meta;
use unkai_model::image::{Image, ImageState, ImageTask};
use unkai_openstack::{Caller, CallerName, Cloud, RequestId};
use unkai_store::Tx;

use super::start::{TaskOf, insert_task};
use super::{download, request, tasks};
use crate::bytes::Images;
use crate::error::{ApiError, Result};
use crate::image::create::{Wanted, read};
use crate::settings::Settings;
use crate::{json, quota};

pub async fn create(
    caller: Caller,
    State(cloud): State<Cloud>,
    Extension(images): Extension<Images>,
    Extension(settings): Extension<Settings>,
    request: Option<Extension<RequestId>>,
    body: Bytes,
) -> Result<(StatusCode, Json<Value>)> {
    tasks::require_admin(&caller)?;
    let body = json::object(&body, "task")?;
    let input = read_input(&body)?;
    let url = request::source(input.get("import_from"), &settings)?;
    let properties = input.get("image_properties").and_then(Value::as_object).ok_or_else(|| missing("image_properties"))?;
    let wanted = read(&caller, properties)?;
    let format = input.get("import_from_format").ok_or_else(|| missing("import_from_format"))?;
    if wanted.spec.disk_format.is_none_or(|declared| *format != declared.as_str()) {
        return Err(ApiError::bad_request("import_from_format must be the disk_format of image_properties: nothing is converted"));
    }
    let request = request.map_or_else(String::new, |Extension(RequestId(id))| id);
    let input = Value::Object(input.clone());
    let make = move |tx: &mut Tx| make(tx, &caller, &wanted, &request, &input);
    let (image, task) = cloud.store.transact(make).await?;
    tokio::spawn(download::run(images, settings, image, task.meta.id.clone(), url));
    Ok((StatusCode::CREATED, Json(tasks::detail(&task))))
}

fn read_input(body: &Map<String, Value>) -> Result<&Map<String, Value>> {
    match body.get("type").and_then(Value::as_str) {
        Some("import") => {}
        Some(other) => return Err(json::mismatch("task", format!("'{other}' is not one of ['import']"))),
        None => return Err(json::mismatch("task", "'type' is a required property")),
    }
    body.get("input").and_then(Value::as_object).ok_or_else(|| json::mismatch("task", "'input' is a required property"))
}

fn missing(field: &str) -> ApiError {
    ApiError::bad_request(format!("Input does not contain '{field}' field"))
}

fn make(tx: &mut Tx, caller: &CallerName, wanted: &Wanted, request: &str, input: &Value) -> Result<(Arc<Image>, Arc<ImageTask>)> {
    let wanted = wanted.clone();
    let mut meta = Meta::new(wanted.id.unwrap_or_else(|| tx.new_id())).named(wanted.name);
    meta.project = wanted.owner.map(Into::into);
    quota::limit_count(tx, meta.project.as_ref());
    let mut image = Image::new(meta, wanted.spec);
    crate::data::upload::require_formats(&image)?;
    image.begin(ImageState::Importing)?;
    let image = tx.insert(image)?;
    let task = TaskOf { caller, image: &image, request, action: "import" };
    let task = insert_task(tx, task, input.clone())?;
    Ok((image, task))
}
