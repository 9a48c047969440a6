//! /v3/endpoints: where the services answer.

use std::sync::Arc;

use axum::extract::{Path, State};
use serde_json::{Value, json};
use unkai_model::identity::{Endpoint, Interface, Region, Service};
use unkai_model::{Id, Meta};
use unkai_openstack::{Cloud, Routes};
use unkai_store::Tx;

use super::services;
use crate::cascade;
use crate::web::body::{Extra, Field, may, must};
use crate::web::{Answer, Is, Json, Params, Part, Refusal, Who, created, no_content, ok, shown};

pub fn routes() -> Routes {
    Routes::new()
        .get("/v3/endpoints", list)
        .post("/v3/endpoints", create)
        .get("/v3/endpoints/{endpoint_id}", get)
        .patch("/v3/endpoints/{endpoint_id}", update)
        .delete("/v3/endpoints/{endpoint_id}", delete)
}

const INTERFACES: Is = Is::OneOf(&["admin", "internal", "public"]);
const COMMON: [Field; 3] = [may("region", Is::NullText), may("region_id", Is::NullText), may("enabled", Is::Bool)];
const CREATE: &[Field] =
    &[must("interface", INTERFACES), must("service_id", Is::Id), must("url", Is::Url), COMMON[0], COMMON[1], COMMON[2]];
const UPDATE: &[Field] = &[may("interface", INTERFACES), may("service_id", Is::Id), may("url", Is::Url), COMMON[0], COMMON[1], COMMON[2]];

pub fn render(cloud: &Cloud, endpoint: &Endpoint) -> Value {
    let known = json!({
        "id": endpoint.meta.id,
        "interface": endpoint.interface,
        "region": endpoint.region,
        "region_id": endpoint.region,
        "service_id": endpoint.service,
        "url": endpoint.url,
        "enabled": endpoint.enabled,
        "links": {"self": format!("{}/v3/endpoints/{}", crate::base(cloud), endpoint.meta.id)},
    });
    shown(&endpoint.extra, known)
}

pub fn missing(id: &Id<Endpoint>) -> Refusal {
    Refusal::not_found("endpoint", id)
}

async fn list(State(cloud): State<Cloud>, who: Who, params: Params) -> Answer {
    who.allow("list_endpoints", who.reads_all())?;
    let view = cloud.store.read().await?;
    let items = view.all::<Endpoint>().map(|endpoint| render(&cloud, &endpoint)).collect();
    let filters = &["interface", "service_id", "region_id"];
    Ok(ok(&params.collection(&crate::base(&cloud), "/v3/endpoints", "endpoints", items, filters)))
}

async fn create(State(cloud): State<Cloud>, who: Who, body: Json) -> Answer {
    who.allow("create_endpoint", who.is_admin())?;
    let part = body.part("endpoint", CREATE, Extra::Allowed)?;
    let insert = move |tx: &mut Tx| -> Answer<Arc<Endpoint>> {
        let meta = Meta::new(tx.new_hex_id::<Endpoint>());
        let (service, url) = (Id::from(""), String::new());
        let mut endpoint =
            Endpoint { meta, service, interface: Interface::Public, region: None, url, enabled: true, extra: Default::default() };
        fill(tx, &mut endpoint, &part)?;
        Ok(tx.insert(endpoint)?)
    };
    let endpoint = cloud.store.transact(insert).await?;
    Ok(created(&json!({"endpoint": render(&cloud, &endpoint)})))
}

fn fill(tx: &mut Tx, endpoint: &mut Endpoint, part: &Part) -> Answer<()> {
    if let Some(id) = part.text("service_id").map(Id::<Service>::from) {
        tx.get(&id).ok_or_else(|| services::missing(&id))?;
        endpoint.service = id;
    }
    if part.has("region_id") || part.has("region") {
        endpoint.region = region(tx, part)?;
    }
    if let Some(interface) = part.text("interface").and_then(Interface::parse) {
        endpoint.interface = interface;
    }
    if let Some(url) = part.text("url") {
        well_formed(url)?;
        endpoint.url = url.to_owned();
    }
    if let Some(enabled) = part.flag("enabled") {
        endpoint.enabled = enabled;
    }
    endpoint.extra.extend(part.rest());
    Ok(())
}

/// `region_id` must exist; the older `region` makes the region.
fn region(tx: &mut Tx, part: &Part) -> Answer<Option<Id<Region>>> {
    if let Some(id) = part.text("region_id").map(Id::<Region>::from) {
        return match tx.get(&id) {
            Some(_) => Ok(Some(id)),
            None => Err(Refusal::missing("endpoint region_id", "region table")),
        };
    }
    let Some(id) = part.text("region").map(Id::<Region>::from) else { return Ok(None) };
    if tx.get(&id).is_none() {
        tx.insert(Region { meta: Meta::new(id.clone()), parent: None, description: String::new(), extra: Default::default() })?;
    }
    Ok(Some(id))
}

/// Only names that the catalog fills may stand in a URL.
fn well_formed(url: &str) -> Answer<()> {
    let mut rest = url;
    while let Some(at) = rest.find(['$', '%']) {
        let tail = &rest[at + 1..];
        let name = tail.strip_prefix('(').and_then(|tail| tail.split_once(")s")).map(|(name, _)| name);
        let escape = tail.as_bytes().get(..2).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit));
        match name {
            Some("project_id" | "tenant_id" | "user_id") => {}
            None if rest[at..].starts_with('%') && escape => {}
            _ => return Err(Refusal::invalid(format!("Cannot create an endpoint with an invalid URL: {url}."))),
        }
        rest = tail;
    }
    Ok(())
}

async fn get(State(cloud): State<Cloud>, who: Who, Path(id): Path<String>) -> Answer {
    who.allow("get_endpoint", who.reads_all())?;
    let id = Id::<Endpoint>::from(id);
    let endpoint = cloud.store.read().await?.get(&id).ok_or_else(|| missing(&id))?;
    Ok(ok(&json!({"endpoint": render(&cloud, &endpoint)})))
}

async fn update(State(cloud): State<Cloud>, who: Who, Path(id): Path<String>, body: Json) -> Answer {
    who.allow("update_endpoint", who.is_admin())?;
    let id = Id::<Endpoint>::from(id);
    let part = body.part("endpoint", UPDATE, Extra::Allowed)?;
    part.is_about("endpoint", id.as_str())?;
    let change = move |tx: &mut Tx| -> Answer<Arc<Endpoint>> {
        let mut endpoint = Endpoint::clone(&*tx.get(&id).ok_or_else(|| missing(&id))?);
        fill(tx, &mut endpoint, &part)?;
        tx.update(&id, |old: &mut Endpoint| {
            *old = endpoint;
            Ok(())
        })
    };
    let endpoint = cloud.store.transact(change).await?;
    Ok(ok(&json!({"endpoint": render(&cloud, &endpoint)})))
}

async fn delete(State(cloud): State<Cloud>, who: Who, Path(id): Path<String>) -> Answer {
    who.allow("delete_endpoint", who.is_admin())?;
    let id = Id::<Endpoint>::from(id);
    let remove = move |tx: &mut Tx| -> Answer<()> {
        tx.get(&id).ok_or_else(|| missing(&id))?;
        Ok(cascade::endpoint(tx, &id)?)
    };
    cloud.store.transact(remove).await?;
    Ok(no_content())
}

#[cfg(test)]
mod tests {
    use super::well_formed;

    #[test]
    fn urls_hold_only_what_the_catalog_fills() {
        for url in ["http://x/$(project_id)s", "http://x/%(tenant_id)s/%20", "http://x"] {
            assert!(well_formed(url).is_ok(), "{url}");
        }
        for url in ["http://x/$(password)s", "http://x/$(project_id", "http://x/%(x)d", "http://x/100%"] {
            assert!(well_formed(url).is_err(), "{url}");
        }
    }
}
