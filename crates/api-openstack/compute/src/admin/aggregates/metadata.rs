//! Name, zone and metadata of an aggregate. The zone is one of the metadata.

use std::sync::{Arc, LazyLock};

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Map, Value, json};
use unkai_model::compute::{Aggregate, ZONE_KEY};
use unkai_openstack::{Caller, Cloud};
use unkai_store::Tx;

use super::hosts::may_move;
use super::{answer, find, must_be_free, zone};
use crate::admin::policy;
use crate::body::Body;
use crate::schema::{Schema, object};
use crate::{Fault, Microversion};

static UPDATE: LazyLock<Schema> = LazyLock::new(|| {
    let inner = object().optional("name", Schema::name()).optional("availability_zone", zone()).sizes(1, None);
    Schema::wrapped("aggregate", inner)
});
static SET: LazyLock<Schema> = LazyLock::new(|| {
    let is_key = |key: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | ':' | '.' | ' ');
        (1..=255).contains(&key.len()) && key.chars().all(allowed)
    };
    let metadata = object().others(is_key, Schema::string(0, 255).or_null());
    Schema::wrapped("set_metadata", object().required("metadata", metadata))
});

pub async fn update(
    State(cloud): State<Cloud>,
    caller: Caller,
    version: Microversion,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<Value>, Fault> {
    let body = body.validated(&UPDATE, version)?;
    policy::admin(&caller, "os_compute_api:os-aggregates:update")?;
    let name = body["aggregate"]["name"].as_str().map(|name| name.trim().to_owned());
    let zone = body["aggregate"].get("availability_zone").map(|zone| Map::from_iter([(ZONE_KEY.to_owned(), zone.clone())]));
    let aggregate = cloud.store.transact(move |tx| change(tx, &id, name.as_deref(), zone.as_ref())).await?;
    Ok(answer(&cloud.store.view(), &aggregate, version))
}

pub async fn set(cloud: &Cloud, caller: &Caller, version: Microversion, id: String, body: &Value) -> Result<Arc<Aggregate>, Fault> {
    SET.check_body(body, version)?;
    policy::admin(caller, "os_compute_api:os-aggregates:set_metadata")?;
    let mut metadata = body["set_metadata"]["metadata"].as_object().cloned().unwrap_or_default();
    if metadata.get(ZONE_KEY).is_some_and(|zone| zone == "") {
        metadata.insert(ZONE_KEY.into(), json!(null));
    }
    cloud.store.transact(move |tx| change(tx, &id, None, Some(&metadata))).await
}

/// Sets a name and merges metadata; null removes a key.
fn change(tx: &mut Tx, id: &str, name: Option<&str>, metadata: Option<&Map<String, Value>>) -> Result<Arc<Aggregate>, Fault> {
    let view = tx.view();
    let aggregate = find(&view, id)?;
    if let Some(name) = name.filter(|name| *name != aggregate.meta.name) {
        must_be_free(tx, name)?;
    }
    let mut next = aggregate.metadata.clone();
    for (key, value) in metadata.into_iter().flatten() {
        match value.as_str() {
            Some(text) => next.insert(key.clone(), text.to_owned()),
            None => next.remove(key),
        };
    }
    let updated = tx.update(&aggregate.meta.id, |aggregate: &mut Aggregate| {
        aggregate.metadata = next.clone();
        if let Some(name) = name {
            aggregate.meta.name = name.to_owned();
        }
        Ok::<_, Fault>(())
    })?;
    for host in &updated.hosts {
        let refused = |why| Fault::bad_request(format!("Cannot update aggregate {id}. Reason: {why}."));
        may_move(&view, host, &updated.meta.id, updated.zone()).map_err(refused)?;
    }
    Ok(updated)
}
