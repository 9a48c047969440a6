//! `POST /v2/images`: an image without bytes.

use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::{HeaderName, StatusCode, header};
use serde_json::{Map, Value};
use unkai_model::image::{Image, ImageSpec};
use unkai_model::{Id, Meta};
use unkai_openstack::{Caller, CallerName, Cloud};

use super::fields;
use super::view::ImageView;
use crate::error::{ApiError, Result};
use crate::settings::Settings;
use crate::{access, json, quota};

/// What was asked for, checked.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub id: Option<Id<Image>>,
    pub name: String,
    pub owner: Option<String>,
    pub spec: ImageSpec,
}

pub async fn create(caller: Caller, State(cloud): State<Cloud>, Extension(settings): Extension<Settings>, body: Bytes) -> Result<Response> {
    let wanted = read(&caller, &json::object(&body, "image")?)?;
    access::add(&caller, wanted.owner.as_deref())?;
    access::set_visibility(&caller, wanted.spec.visibility)?;
    let image = cloud
        .store
        .transact(move |tx| {
            let wanted = wanted.clone();
            let mut meta = Meta::new(wanted.id.unwrap_or_else(|| tx.new_id())).named(wanted.name);
            meta.project = wanted.owner.map(Id::from);
            quota::limit_count(tx, meta.project.as_ref());
            tx.insert(Image::new(meta, wanted.spec)).map_err(ApiError::from)
        })
        .await?;
    let headers = [
        (header::LOCATION, format!("{}/image/v2/images/{}", cloud.url, image.meta.id)),
        (HeaderName::from_static("openstack-image-import-methods"), settings.import_methods().join(",")),
    ];
    Ok((StatusCode::CREATED, headers, Json(ImageView(&image))).into_response())
}

/// Everything is checked before anything is set, in the order of the original: names, then values.
pub fn read(caller: &CallerName, body: &Map<String, Value>) -> Result<Wanted> {
    for (name, value) in body {
        if !fields::is_base(name) && name.chars().count() > 255 {
            return Err(ApiError::bad_request("Custom property should not be greater than 255 characters."));
        }
        fields::check_settable(name, true)?;
        fields::check_value(name, value)?;
    }
    let text = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned);
    let mut wanted = Wanted {
        id: text("id").map(|id| Id::new(id.to_ascii_lowercase())),
        name: text("name").unwrap_or_default(),
        owner: match body.contains_key("owner") {
            true => text("owner"),
            false => caller.project.as_ref().map(|project| project.to_string()),
        },
        spec: ImageSpec::default(),
    };
    for (name, value) in body.iter().filter(|(name, _)| !matches!(name.as_str(), "id" | "name" | "owner")) {
        fields::set(&mut wanted.spec, name, value)?;
    }
    fields::check_counts(&wanted.spec)?;
    Ok(wanted)
}
