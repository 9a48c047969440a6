//! /v3/regions.

use std::sync::Arc;

use axum::extract::{Path, State};
use serde_json::{Value, json};
use unkai_model::identity::{Endpoint, Region};
use unkai_model::{Id, Meta};
use unkai_openstack::{Cloud, Routes};
use unkai_store::{Tx, View};

use crate::web::body::{Extra, Field, may};
use crate::web::{Answer, Is, Json, Params, Part, Refusal, Who, created, no_content, ok, shown};

pub fn routes() -> Routes {
    Routes::new()
        .get("/v3/regions", list)
        .post("/v3/regions", create)
        .get("/v3/regions/{region_id}", get)
        .put("/v3/regions/{region_id}", create_as)
        .patch("/v3/regions/{region_id}", update)
        .delete("/v3/regions/{region_id}", delete)
}

const FIELDS: &[Field] = &[may("id", Is::Text), may("description", Is::NullText), may("parent_region_id", Is::NullText)];
const LONGEST_ID: usize = 255;

fn render(cloud: &Cloud, region: &Region) -> Value {
    let known = json!({
        "id": region.meta.id,
        "description": region.description,
        "parent_region_id": region.parent,
        "links": {"self": format!("{}/v3/regions/{}", crate::base(cloud), region.meta.id)},
    });
    shown(&region.extra, known)
}

fn missing(id: &Id<Region>) -> Refusal {
    Refusal::not_found("region", id)
}

async fn list(State(cloud): State<Cloud>, _: Who, params: Params) -> Answer {
    let view = cloud.store.read().await?;
    let items = view.all::<Region>().map(|region| render(&cloud, &region)).collect();
    Ok(ok(&params.collection(&crate::base(&cloud), "/v3/regions", "regions", items, &["parent_region_id"])))
}

async fn get(State(cloud): State<Cloud>, _: Who, Path(id): Path<String>) -> Answer {
    let id = Id::<Region>::from(id);
    let region = cloud.store.read().await?.get(&id).ok_or_else(|| missing(&id))?;
    Ok(ok(&json!({"region": render(&cloud, &region)})))
}

async fn create(State(cloud): State<Cloud>, who: Who, body: Json) -> Answer {
    who.allow("create_region", who.is_admin())?;
    let part = body.part("region", FIELDS, Extra::Allowed)?;
    let id = part.text("id").filter(|id| !id.is_empty()).map(str::to_owned);
    insert(cloud, part, id).await
}

async fn create_as(State(cloud): State<Cloud>, who: Who, Path(id): Path<String>, body: Json) -> Answer {
    who.allow("create_region", who.is_admin())?;
    let part = body.part("region", FIELDS, Extra::Allowed)?;
    if part.text("id").is_some_and(|said| said != id) {
        return Err(Refusal::invalid("Conflicting region IDs specified"));
    }
    insert(cloud, part, Some(id)).await
}

async fn insert(cloud: Cloud, part: Part, id: Option<String>) -> Answer {
    if id.as_ref().is_some_and(|id| id.chars().count() > LONGEST_ID) {
        return Err(Refusal::invalid("Invalid input for field 'id': too long"));
    }
    let insert = move |tx: &mut Tx| -> Answer<Arc<Region>> {
        let id = id.as_deref().map_or_else(|| tx.new_hex_id::<Region>(), Id::from);
        if tx.get(&id).is_some() {
            return Err(Refusal::conflict("region", format!("Duplicate ID, {id}")));
        }
        let mut region = Region { meta: Meta::new(id), parent: None, description: String::new(), extra: Default::default() };
        fill(&tx.view(), &mut region, &part)?;
        Ok(tx.insert(region)?)
    };
    let region = cloud.store.transact(insert).await?;
    Ok(created(&json!({"region": render(&cloud, &region)})))
}

fn fill(view: &View, region: &mut Region, part: &Part) -> Answer<()> {
    if part.has("parent_region_id") {
        region.parent = part.text("parent_region_id").map(Id::from);
        not_circular(view, region)?;
    }
    if part.has("description") {
        region.description = part.text("description").unwrap_or_default().into();
    }
    region.extra.extend(part.rest());
    Ok(())
}

fn not_circular(view: &View, region: &Region) -> Answer<()> {
    let mut next = region.parent.clone();
    while let Some(id) = next {
        if id == region.meta.id {
            return Err(Refusal::invalid(format!("The specified parent region {id} would create a circular region hierarchy.")));
        }
        next = view.get(&id).ok_or_else(|| missing(&id))?.parent.clone();
    }
    Ok(())
}

async fn update(State(cloud): State<Cloud>, who: Who, Path(id): Path<String>, body: Json) -> Answer {
    who.allow("update_region", who.is_admin())?;
    let id = Id::<Region>::from(id);
    let part = body.part("region", FIELDS, Extra::Allowed)?;
    part.is_about("region", id.as_str())?;
    let change = move |tx: &mut Tx| {
        let view = tx.view();
        view.get(&id).ok_or_else(|| missing(&id))?;
        tx.update(&id, |region: &mut Region| fill(&view, region, &part))
    };
    let region = cloud.store.transact(change).await?;
    Ok(ok(&json!({"region": render(&cloud, &region)})))
}

async fn delete(State(cloud): State<Cloud>, who: Who, Path(id): Path<String>) -> Answer {
    who.allow("delete_region", who.is_admin())?;
    let id = Id::<Region>::from(id);
    let remove = move |tx: &mut Tx| -> Answer<()> {
        let region = tx.get(&id).ok_or_else(|| missing(&id))?;
        let mut todo = vec![region];
        // Children go with it, unless endpoints stand in one of them.
        while let Some(region) = todo.pop() {
            let id = region.meta.id.clone();
            if tx.by_index::<Endpoint>("region", id.as_str()).next().is_some() {
                let text = format!("Unable to delete region {id} because it or its child regions have associated endpoints.");
                return Err(Refusal::denied(text));
            }
            todo.extend(tx.by_index::<Region>("parent", id.as_str()));
            tx.delete(&id)?;
        }
        Ok(())
    };
    cloud.store.transact(remove).await?;
    Ok(no_content())
}
