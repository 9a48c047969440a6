//! /v3/policies: documents that the API keeps for others. Nothing here is enforced; it never was.

use std::sync::Arc;

use axum::extract::{Path, State};
use serde_json::{Value, json};
use unkai_model::identity::Policy;
use unkai_model::{Id, Meta};
use unkai_openstack::{Cloud, Routes};
use unkai_store::Tx;

use crate::web::body::{Extra, Field, may, must};
use crate::web::{Answer, Is, Json, Params, Refusal, Who, created, no_content, ok, shown};

pub fn routes() -> Routes {
    Routes::new()
        .get("/v3/policies", list)
        .post("/v3/policies", create)
        .get("/v3/policies/{policy_id}", get)
        .patch("/v3/policies/{policy_id}", update)
        .delete("/v3/policies/{policy_id}", delete)
}

const CREATE: &[Field] = &[must("blob", Is::Text), must("type", Is::Name(255))];
const UPDATE: &[Field] = &[may("blob", Is::Text), may("type", Is::Name(255))];

fn render(cloud: &Cloud, policy: &Policy) -> Value {
    let known = json!({
        "id": policy.meta.id,
        "blob": policy.blob,
        "type": policy.r#type,
        "links": {"self": format!("{}/v3/policies/{}", crate::base(cloud), policy.meta.id)},
    });
    shown(&policy.extra, known)
}

fn missing(id: &Id<Policy>) -> Refusal {
    Refusal::not_found("policy", id)
}

async fn list(State(cloud): State<Cloud>, who: Who, params: Params) -> Answer {
    who.allow("list_policies", who.reads_all())?;
    let view = cloud.store.read().await?;
    let items = view.all::<Policy>().map(|policy| render(&cloud, &policy)).collect();
    Ok(ok(&params.collection(&crate::base(&cloud), "/v3/policies", "policies", items, &["type"])))
}

async fn create(State(cloud): State<Cloud>, who: Who, body: Json) -> Answer {
    who.allow("create_policy", who.is_admin())?;
    let part = body.part("policy", CREATE, Extra::Allowed)?;
    let insert = move |tx: &mut Tx| -> Answer<Arc<Policy>> {
        let meta = Meta::new(tx.new_hex_id::<Policy>());
        let blob = part.get("blob").cloned().unwrap_or_default();
        let r#type = part.text("type").unwrap_or_default().to_owned();
        Ok(tx.insert(Policy { meta, blob, r#type, extra: part.rest().collect() })?)
    };
    let policy = cloud.store.transact(insert).await?;
    Ok(created(&json!({"policy": render(&cloud, &policy)})))
}

async fn get(State(cloud): State<Cloud>, who: Who, Path(id): Path<String>) -> Answer {
    who.allow("get_policy", who.reads_all())?;
    let id = Id::<Policy>::from(id);
    let policy = cloud.store.read().await?.get(&id).ok_or_else(|| missing(&id))?;
    Ok(ok(&json!({"policy": render(&cloud, &policy)})))
}

async fn update(State(cloud): State<Cloud>, who: Who, Path(id): Path<String>, body: Json) -> Answer {
    who.allow("update_policy", who.is_admin())?;
    let id = Id::<Policy>::from(id);
    let part = body.part("policy", UPDATE, Extra::Allowed)?;
    part.is_about("policy", id.as_str())?;
    let change = move |tx: &mut Tx| {
        tx.get(&id).ok_or_else(|| missing(&id))?;
        tx.update(&id, |policy: &mut Policy| -> Answer<()> {
            if let Some(blob) = part.get("blob") {
                policy.blob = blob.clone();
            }
            if let Some(text) = part.text("type") {
                policy.r#type = text.to_owned();
            }
            policy.extra.extend(part.rest());
            Ok(())
        })
    };
    let policy = cloud.store.transact(change).await?;
    Ok(ok(&json!({"policy": render(&cloud, &policy)})))
}

async fn delete(State(cloud): State<Cloud>, who: Who, Path(id): Path<String>) -> Answer {
    who.allow("delete_policy", who.is_admin())?;
    let id = Id::<Policy>::from(id);
    let remove = move |tx: &mut Tx| -> Answer<()> {
        tx.get(&id).ok_or_else(|| missing(&id))?;
        tx.delete(&id)?;
        Ok(())
    };
    cloud.store.transact(remove).await?;
    Ok(no_content())
}
