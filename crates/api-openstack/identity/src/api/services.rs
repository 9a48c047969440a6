//! /v3/services: what there is in the catalog.

use std::sync::Arc;

use axum::extract::{Path, State};
use serde_json::{Value, json};
use unkai_model::identity::Service;
use unkai_model::{Id, Meta};
use unkai_openstack::{Cloud, Routes};
use unkai_store::Tx;

use crate::cascade;
use crate::web::body::{Extra, Field, may, must};
use crate::web::{Answer, Is, Json, Params, Part, Refusal, Who, created, no_content, ok, shown};

pub fn routes() -> Routes {
    Routes::new()
        .get("/v3/services", list)
        .post("/v3/services", create)
        .get("/v3/services/{service_id}", get)
        .patch("/v3/services/{service_id}", update)
        .delete("/v3/services/{service_id}", delete)
}

const COMMON: [Field; 3] = [may("name", Is::Text), may("enabled", Is::Bool), may("description", Is::NullText)];
const CREATE: &[Field] = &[must("type", Is::Name(255)), COMMON[0], COMMON[1], COMMON[2]];
const UPDATE: &[Field] = &[may("type", Is::Name(255)), COMMON[0], COMMON[1], COMMON[2]];

pub fn render(cloud: &Cloud, service: &Service) -> Value {
    let mut known = json!({
        "id": service.meta.id,
        "name": service.meta.name,
        "type": service.r#type,
        "enabled": service.enabled,
        "links": {"self": format!("{}/v3/services/{}", crate::base(cloud), service.meta.id)},
    });
    if let Some(description) = &service.description {
        known["description"] = description.as_str().into();
    }
    shown(&service.extra, known)
}

pub fn missing(id: &Id<Service>) -> Refusal {
    Refusal::not_found("service", id)
}

async fn list(State(cloud): State<Cloud>, who: Who, params: Params) -> Answer {
    who.allow("list_services", who.reads_all())?;
    let view = cloud.store.read().await?;
    let items = view.all::<Service>().map(|service| render(&cloud, &service)).collect();
    Ok(ok(&params.collection(&crate::base(&cloud), "/v3/services", "services", items, &["type", "name"])))
}

async fn create(State(cloud): State<Cloud>, who: Who, body: Json) -> Answer {
    who.allow("create_service", who.is_admin())?;
    let part = body.part("service", CREATE, Extra::Allowed)?;
    let insert = move |tx: &mut Tx| -> Answer<Arc<Service>> {
        let meta = Meta::new(tx.new_hex_id::<Service>());
        let mut service = Service { meta, r#type: String::new(), enabled: true, description: None, extra: Default::default() };
        fill(&mut service, &part);
        Ok(tx.insert(service)?)
    };
    let service = cloud.store.transact(insert).await?;
    Ok(created(&json!({"service": render(&cloud, &service)})))
}

fn fill(service: &mut Service, part: &Part) {
    if let Some(text) = part.text("type") {
        service.r#type = text.to_owned();
    }
    if let Some(name) = part.text("name") {
        service.meta.name = name.to_owned();
    }
    if let Some(enabled) = part.flag("enabled") {
        service.enabled = enabled;
    }
    if part.has("description") {
        service.description = part.text("description").map(str::to_owned);
    }
    service.extra.extend(part.rest());
}

async fn get(State(cloud): State<Cloud>, who: Who, Path(id): Path<String>) -> Answer {
    who.allow("get_service", who.reads_all())?;
    let id = Id::<Service>::from(id);
    let service = cloud.store.read().await?.get(&id).ok_or_else(|| missing(&id))?;
    Ok(ok(&json!({"service": render(&cloud, &service)})))
}

async fn update(State(cloud): State<Cloud>, who: Who, Path(id): Path<String>, body: Json) -> Answer {
    who.allow("update_service", who.is_admin())?;
    let id = Id::<Service>::from(id);
    let part = body.part("service", UPDATE, Extra::Allowed)?;
    part.is_about("service", id.as_str())?;
    let change = move |tx: &mut Tx| {
        tx.get(&id).ok_or_else(|| missing(&id))?;
        tx.update(&id, |service: &mut Service| -> Answer<()> {
            fill(service, &part);
            Ok(())
        })
    };
    let service = cloud.store.transact(change).await?;
    Ok(ok(&json!({"service": render(&cloud, &service)})))
}

async fn delete(State(cloud): State<Cloud>, who: Who, Path(id): Path<String>) -> Answer {
    who.allow("delete_service", who.is_admin())?;
    let id = Id::<Service>::from(id);
    let remove = move |tx: &mut Tx| -> Answer<()> {
        tx.get(&id).ok_or_else(|| missing(&id))?;
        Ok(cascade::service(tx, &id)?)
    };
    cloud.store.transact(remove).await?;
    Ok(no_content())
}
