//! Images as compute showed them until 2.35 (their metadata until 2.38): the image service's documents in an old form.

mod filter;
mod view;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};
use unkai_model::Id;
use unkai_model::image::{Image, Visibility};
use unkai_store::View;

use super::create::{check_metadata, strings};
use super::cx::Cx;
use super::schemas;
use crate::Fault;
use crate::body::Body;
use crate::query::{MAX_PAGE, Query};
use filter::Filter;

fn absent() -> Fault {
    Fault::not_found("Image not found.")
}

fn sees(cx: &Cx, image: &Image) -> bool {
    cx.sees(image.meta.project.as_ref()) || image.is_visible_to(cx.caller.project.as_ref())
}

fn find(cx: &Cx, view: &View, id: &str) -> Result<Arc<Image>, Fault> {
    view.get(&Id::<Image>::new(id)).filter(|image| sees(cx, image)).ok_or_else(absent)
}

pub async fn index(cx: Cx, query: Query) -> Result<Response, Fault> {
    list(cx, query, false).await
}

pub async fn detail(cx: Cx, query: Query) -> Result<Response, Fault> {
    list(cx, query, true).await
}

async fn list(cx: Cx, query: Query, detailed: bool) -> Result<Response, Fault> {
    cx.version.require(..=35)?;
    let filter = Filter::parse(&query)?;
    let limit = query.limit()?;
    let view = cx.view().await?;
    // Lists hold what is one's own, public, or shared and accepted; images of the community are found by id only.
    let listed =
        |image: &Image| cx.sees(image.meta.project.as_ref()) || (image.spec.visibility != Visibility::Community && sees(&cx, image));
    let mut found: Vec<Arc<Image>> =
        view.all::<Image>().filter(|image| listed(image) && !image.spec.hidden && filter.accepts(image)).collect();
    found.sort_by(|a, b| (b.meta.created, &b.meta.id).cmp(&(a.meta.created, &a.meta.id)));
    let start = match query.get("marker") {
        None => 0,
        Some(marker) => {
            let place = found.iter().position(|image| image.meta.id.as_str() == marker);
            place.ok_or_else(|| Fault::bad_request(format!("marker [{marker}] not found")))? + 1
        }
    };
    let page: Vec<_> = found.into_iter().skip(start).take(limit).collect();
    let bodies: Vec<Value> = page.iter().map(|image| if detailed { view::full(&cx, image) } else { view::brief(&cx, image) }).collect();
    let mut answer = json!({ "images": bodies });
    let full = limit > 0 && page.len() == limit && (query.has("limit") || limit == MAX_PAGE);
    if let Some(last) = page.last().filter(|_| full) {
        let collection = if detailed { "images/detail" } else { "images" };
        let link = format!("{}/compute/v2.1/{collection}?{}", cx.cloud.url, query.with_marker(last.meta.id.as_str()));
        answer["images_links"] = json!([{ "rel": "next", "href": link }]);
    }
    Ok(Json(answer).into_response())
}

pub async fn show(cx: Cx, Path(id): Path<String>) -> Result<Response, Fault> {
    cx.version.require(..=35)?;
    let image = find(&cx, &cx.view().await?, &id)?;
    Ok(Json(json!({ "image": view::full(&cx, &image) })).into_response())
}

/// Changes an image, or deletes it, if the caller may.
async fn change<T: Send + 'static>(
    cx: &Cx,
    id: &str,
    change: impl Fn(&mut unkai_store::Tx, &Image) -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    let (caller, id) = (cx.clone(), id.to_owned());
    cx.cloud
        .store
        .transact(move |tx| {
            let image = find(&caller, &tx.view(), &id)?;
            if !caller.caller.may_write(image.meta.project.as_ref()) {
                return Err(Fault::forbidden("You are not allowed to change the image."));
            }
            change(tx, &image)
        })
        .await
}

pub async fn delete(cx: Cx, Path(id): Path<String>) -> Result<StatusCode, Fault> {
    cx.version.require(..=35)?;
    change(&cx, &id, |tx, image| {
        if image.spec.protected {
            return Err(Fault::forbidden("You are not allowed to delete the image."));
        }
        Ok(tx.delete(&image.meta.id).map(drop)?)
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

pub async fn metadata(cx: Cx, Path(id): Path<String>) -> Result<Response, Fault> {
    cx.version.require(..=38)?;
    let image = find(&cx, &cx.view().await?, &id)?;
    Ok(Json(json!({ "metadata": image.spec.properties })).into_response())
}

pub async fn metadata_item(cx: Cx, Path((id, key)): Path<(String, String)>) -> Result<Response, Fault> {
    cx.version.require(..=38)?;
    let image = find(&cx, &cx.view().await?, &id)?;
    let value = image.spec.properties.get(&key).ok_or_else(no_item)?;
    Ok(Json(json!({ "meta": { key: value } })).into_response())
}

fn no_item() -> Fault {
    Fault::not_found("Metadata item was not found")
}

/// Writes properties; the answer holds all that the image has then.
async fn write(cx: &Cx, id: &str, said: BTreeMap<String, String>, afresh: bool) -> Result<BTreeMap<String, String>, Fault> {
    let caller = cx.clone();
    change(cx, id, move |tx, image| {
        let mut properties = if afresh { BTreeMap::new() } else { image.spec.properties.clone() };
        properties.extend(said.clone());
        check_metadata(&tx.view(), &caller, properties.len())?;
        let stored = properties.clone();
        tx.update(&image.meta.id, |image: &mut Image| {
            image.spec.properties = stored;
            Ok::<_, Fault>(())
        })?;
        Ok(properties)
    })
    .await
}

pub async fn replace_metadata(cx: Cx, Path(id): Path<String>, body: Body) -> Result<Response, Fault> {
    cx.version.require(..=38)?;
    let body = body.validated(&schemas::METADATA, cx.version)?;
    let all = write(&cx, &id, strings(&body, "metadata"), true).await?;
    Ok(Json(json!({ "metadata": all })).into_response())
}

pub async fn merge_metadata(cx: Cx, Path(id): Path<String>, body: Body) -> Result<Response, Fault> {
    cx.version.require(..=38)?;
    let body = body.validated(&schemas::METADATA, cx.version)?;
    let all = write(&cx, &id, strings(&body, "metadata"), false).await?;
    Ok(Json(json!({ "metadata": all })).into_response())
}

pub async fn set_metadata_item(cx: Cx, Path((id, key)): Path<(String, String)>, body: Body) -> Result<Response, Fault> {
    cx.version.require(..=38)?;
    let body = body.validated(&schemas::METADATA_ITEM, cx.version)?;
    let said = strings(&body, "meta");
    if !said.contains_key(&key) {
        return Err(Fault::bad_request("Request body and URI mismatch"));
    }
    write(&cx, &id, said.clone(), false).await?;
    Ok(Json(json!({ "meta": said })).into_response())
}

pub async fn delete_metadata_item(cx: Cx, Path((id, key)): Path<(String, String)>) -> Result<StatusCode, Fault> {
    cx.version.require(..=38)?;
    change(&cx, &id, move |tx, image| {
        if !image.spec.properties.contains_key(&key) {
            return Err(no_item());
        }
        let key = key.clone();
        tx.update(&image.meta.id, |image: &mut Image| {
            image.spec.properties.remove(&key);
            Ok::<_, Fault>(())
        })?;
        Ok(())
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}
