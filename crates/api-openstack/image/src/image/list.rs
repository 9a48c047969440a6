//! `GET /v2/images`.

use axum::Json;
use axum::extract::{Query as Pairs, State};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::ser::{SerializeSeq, Serializer};
use std::sync::Arc;
use unkai_model::Id;
use unkai_model::image::Image;
use unkai_openstack::{Caller, CallerName, Cloud};
use unkai_store::View;

use super::query::{self, Query};
use super::select;
use super::view::ImageView;
use crate::access;
use crate::error::{ApiError, Result};

const DEFAULT_PAGE: usize = 25;
const LARGEST_PAGE: usize = 1000;

#[derive(Serialize)]
struct Page<'a> {
    #[serde(serialize_with = "views")]
    images: &'a [Arc<Image>],
    first: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    schema: &'static str,
}

fn views<S: Serializer>(images: &&[Arc<Image>], serializer: S) -> std::result::Result<S::Ok, S::Error> {
    let mut list = serializer.serialize_seq(Some(images.len()))?;
    for image in images.iter() {
        list.serialize_element(&ImageView(image))?;
    }
    list.end()
}

pub async fn list(caller: Caller, State(cloud): State<Cloud>, Pairs(mut pairs): Pairs<Vec<(String, String)>>) -> Result<Response> {
    access::list(&caller)?;
    let query = query::parse(&pairs)?;
    let view = cloud.store.read().await?;
    let limit = query.limit.unwrap_or(DEFAULT_PAGE).min(LARGEST_PAGE);
    let marker = query.marker.as_ref().map(|id| find_marker(&view, &caller, id)).transpose()?;
    let mut images: Vec<_> = candidates(&view, &caller).filter(|image| is_wanted(&caller, &query, image)).collect();
    images.sort_unstable_by(|a, b| select::order(&query.sort, a, b));
    let (images, more) = select::page(images, marker.as_deref().map(|marker| (marker, query.sort.as_slice())), limit);
    pairs.retain(|(name, _)| name != "marker");
    let first = link(&pairs);
    let next = images.last().filter(|_| more).map(|last| {
        pairs.push(("marker".into(), last.meta.id.to_string()));
        link(&pairs)
    });
    Ok(Json(Page { images: &images, first, next, schema: "/v2/schemas/images" }).into_response())
}

fn find_marker(view: &View, caller: &CallerName, id: &str) -> Result<Arc<Image>> {
    let found = view.get::<Image>(&Id::new(id)).filter(|image| access::is_visible(caller, image));
    found.ok_or_else(|| ApiError::bad_request(format!("No image found with ID {id}")))
}

fn is_wanted(caller: &CallerName, query: &Query, image: &Image) -> bool {
    select::is_listed(caller, query, image) && select::matches(&query.filters, image)
}

/// All images that can be in the caller's list, each once: through the indexes, so that other projects' private images cost nothing.
fn candidates<'a>(view: &'a View, caller: &CallerName) -> Box<dyn Iterator<Item = Arc<Image>> + 'a> {
    if caller.is_admin() {
        return Box::new(view.all());
    }
    let project = caller.project.clone();
    let open = |visibility: &'static str| view.by_index::<Image>("visibility", visibility);
    let Some(project) = project else {
        return Box::new(open("public").chain(open("community")));
    };
    let own = view.by_index::<Image>("project", project.as_str());
    let member = view.by_index::<Image>("member", project.as_str()).filter(|image| !is_open(image));
    let others = open("public").chain(open("community")).chain(member);
    Box::new(own.chain(others.filter(move |image| image.meta.project.as_ref() != Some(&project))))
}

fn is_open(image: &Image) -> bool {
    use unkai_model::image::Visibility;
    matches!(image.spec.visibility, Visibility::Public | Visibility::Community)
}

fn link(pairs: &[(String, String)]) -> String {
    let mut url = reqwest::Url::parse("http://local/v2/images").expect("a constant URL parses");
    if !pairs.is_empty() {
        url.query_pairs_mut().extend_pairs(pairs);
    }
    match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_keep_the_query() {
        assert_eq!(link(&[]), "/v2/images");
        assert_eq!(link(&[("name".into(), "a b".into()), ("tag".into(), "x&y".into())]), "/v2/images?name=a+b&tag=x%26y");
    }
}
