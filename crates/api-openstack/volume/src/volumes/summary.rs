//! `/volumes/summary`: how many there are and how large they are.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use serde_json::{Value, json};
use unkai_model::volume::Volume;
use unkai_openstack::web::{Fault, Query};

use super::filter;
use crate::cx::Cx;
use crate::page;

pub async fn summary(cx: Cx, query: Query) -> Result<Json<Value>, Fault> {
    cx.version.require(12..)?;
    let view = cx.view().await?;
    let mut volumes = page::visible::<Volume>(&view, &cx, &query)?;
    filter::keep(&cx, &view, &query, &mut volumes)?;
    let size: u64 = volumes.iter().map(|volume| volume.spec.size_gib).sum();
    let mut body = json!({ "total_count": volumes.len(), "total_size": size });
    if cx.version.at_least(36) {
        let mut metadata: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (key, value) in volumes.iter().flat_map(|volume| &volume.spec.metadata) {
            metadata.entry(key).or_default().insert(value);
        }
        body["metadata"] = json!(metadata);
    }
    Ok(Json(json!({ "volume-summary": body })))
}
