//! /v3/credentials and the EC2 form of it: secrets of other protocols, sealed at rest.

use std::sync::Arc;

use axum::extract::{Path, State};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use unkai_model::identity::{Credential, KeyPurpose, Project, Scope, User};
use unkai_model::{Error, Id, Meta};
use unkai_openstack::{Cloud, Routes};
use unkai_store::{Tx, View};

use super::{projects, users};
use crate::Identity;
use crate::tokens::grants;
use crate::web::body::{Extra, Field, may, must};
use crate::web::who::Service;
use crate::web::{Answer, Is, Json, Params, Refusal, Who, created, no_content, ok, shown};

pub fn routes() -> Routes {
    Routes::new()
        .get("/v3/credentials", list)
        .post("/v3/credentials", create)
        .get("/v3/credentials/{credential_id}", get)
        .patch("/v3/credentials/{credential_id}", update)
        .delete("/v3/credentials/{credential_id}", delete)
        .get("/v3/users/{user_id}/credentials/OS-EC2", list_ec2)
        .post("/v3/users/{user_id}/credentials/OS-EC2", create_ec2)
        .get("/v3/users/{user_id}/credentials/OS-EC2/{access}", get_ec2)
        .delete("/v3/users/{user_id}/credentials/OS-EC2/{access}", delete_ec2)
}

const EC2: &str = "ec2";
const CREATE: &[Field] = &[must("blob", Is::Any), must("type", Is::Text), must("user_id", Is::Id), may("project_id", Is::NullId)];
const UPDATE: &[Field] = &[may("blob", Is::Any), may("type", Is::Text), may("user_id", Is::Id), may("project_id", Is::NullId)];

fn seal(service: &Identity, view: &View, blob: &str) -> Result<String, Error> {
    Ok(STANDARD.encode(service.ciphers.seal(view, KeyPurpose::Credential, blob.as_bytes())?))
}

fn open(service: &Identity, view: &View, credential: &Credential) -> Result<String, Error> {
    let context = || format!("opening credential {}", credential.meta.id);
    let sealed = STANDARD.decode(&credential.sealed).map_err(|e| Error::caused(context(), e))?;
    let plain = service.ciphers.open(view, KeyPurpose::Credential, &sealed).map_err(|e| Error::caused(context(), e))?;
    String::from_utf8(plain).map_err(|e| Error::caused(context(), e))
}

fn render(cloud: &Cloud, service: &Identity, view: &View, credential: &Credential) -> Answer<Value> {
    let known = json!({
        "id": credential.meta.id,
        "type": credential.r#type,
        "user_id": credential.user,
        "project_id": credential.project,
        "blob": open(service, view, credential)?,
        "links": {"self": format!("{}/v3/credentials/{}", crate::base(cloud), credential.meta.id)},
    });
    Ok(shown(&credential.extra, known))
}

fn missing(id: &Id<Credential>) -> Refusal {
    Refusal::not_found("credential", id)
}

/// The id of an EC2 pair follows from its access key, so that a request signed with it finds it.
fn ec2_id(access: &str) -> Id<Credential> {
    Id::new(hex::encode(Sha256::digest(access)))
}

/// With an application credential one reaches only what belongs to its project.
fn within_project(who: &Who, project: Option<&Id<Project>>) -> bool {
    who.app_credential.is_none() || (project.is_some() && who.project() == project)
}

async fn list(State(cloud): State<Cloud>, who: Who, service: Service, params: Params) -> Answer {
    let view = cloud.store.read().await?;
    let seen =
        |credential: &Credential| (who.reads_all() || who.is_user(&credential.user)) && within_project(&who, credential.project.as_ref());
    let found = view.all::<Credential>().filter(|credential| seen(credential));
    let items = found.map(|credential| render(&cloud, &service, &view, &credential)).collect::<Answer<Vec<_>>>()?;
    Ok(ok(&params.collection(&crate::base(&cloud), "/v3/credentials", "credentials", items, &["user_id", "type"])))
}

async fn create(State(cloud): State<Cloud>, who: Who, service: Service, body: Json) -> Answer {
    let part = body.part("credential", CREATE, Extra::Allowed)?;
    let user = Id::<User>::from(part.text("user_id").unwrap_or_default());
    let project = part.text("project_id").map(Id::<Project>::from);
    who.allow("create_credential", (who.is_admin() || who.is_user(&user)) && within_project(&who, project.as_ref()))?;
    let r#type = part.text("type").unwrap_or_default().to_owned();
    let blob = text_of(part.get("blob"));
    let access = if r#type == EC2 { Some(ec2_access(&blob, project.is_some())?) } else { None };
    let view = cloud.store.read().await?;
    let credential = Credential {
        meta: Meta::new(access.as_deref().map(ec2_id).unwrap_or_else(|| Id::from(""))),
        user,
        project,
        r#type,
        sealed: seal(&service, &view, &blob)?,
        extra: part.rest().collect(),
    };
    let credential = insert(&cloud, credential).await?;
    Ok(created(&json!({"credential": render(&cloud, &service, &view, &credential)?})))
}

/// Blobs are text; an object is taken as its JSON.
fn text_of(blob: Option<&Value>) -> String {
    match blob {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    }
}

/// The access key in the blob of an EC2 pair.
fn ec2_access(blob: &str, has_project: bool) -> Answer<String> {
    let blob: Value = serde_json::from_str(blob).map_err(|_| Refusal::invalid("Invalid blob in credential"))?;
    let access = blob.get("access").and_then(Value::as_str).ok_or_else(|| Refusal::invalid("Invalid blob in credential"))?;
    if !has_project {
        return Err(Refusal::missing("project_id", "credential"));
    }
    Ok(access.to_owned())
}

/// An empty id asks for a new one.
async fn insert(cloud: &Cloud, credential: Credential) -> Answer<Arc<Credential>> {
    let insert = move |tx: &mut Tx| -> Answer<Arc<Credential>> {
        let mut credential = credential.clone();
        tx.get(&credential.user).ok_or_else(|| users::missing(&credential.user))?;
        if let Some(project) = &credential.project {
            tx.get(project).ok_or_else(|| projects::missing(project))?;
        }
        if credential.meta.id.as_str().is_empty() {
            credential.meta.id = tx.new_hex_id();
        }
        Ok(tx.insert(credential)?)
    };
    cloud.store.transact(insert).await
}

async fn seen(cloud: &Cloud, who: &Who, id: &Id<Credential>, action: &str, allowed: bool) -> Answer<Arc<Credential>> {
    let credential = cloud.store.read().await?.get(id);
    let Some(credential) = credential else {
        who.allow(action, allowed)?;
        return Err(missing(id));
    };
    let own = who.is_user(&credential.user);
    who.allow(action, (allowed || own) && within_project(who, credential.project.as_ref()))?;
    Ok(credential)
}

async fn get(State(cloud): State<Cloud>, who: Who, service: Service, Path(id): Path<String>) -> Answer {
    let credential = seen(&cloud, &who, &id.into(), "get_credential", who.reads_all()).await?;
    Ok(ok(&json!({"credential": render(&cloud, &service, &cloud.store.view(), &credential)?})))
}

async fn update(State(cloud): State<Cloud>, who: Who, service: Service, Path(id): Path<String>, body: Json) -> Answer {
    let id = Id::<Credential>::from(id);
    let credential = seen(&cloud, &who, &id, "update_credential", who.is_admin()).await?;
    let part = body.part("credential", UPDATE, Extra::Allowed)?;
    part.is_about("credential", id.as_str())?;
    let project = credential.project.as_ref().map(Id::as_str);
    let fixed = [("type", Some(credential.r#type.as_str())), ("user_id", Some(credential.user.as_str())), ("project_id", project)];
    if let Some((name, _)) = fixed.into_iter().find(|(name, is)| part.has(name) && part.text(name) != *is) {
        return Err(Refusal::invalid(format!("Updating the {name} of a credential is not allowed.")));
    }
    let view = cloud.store.read().await?;
    let blob = part.has("blob").then(|| text_of(part.get("blob")));
    if let Some(blob) = blob.as_ref().filter(|_| credential.r#type == EC2) {
        ec2_access(blob, true)?;
    }
    let sealed = blob.map(|blob| seal(&service, &view, &blob)).transpose()?;
    let change = move |tx: &mut Tx| {
        tx.update(&id, |credential: &mut Credential| -> Answer<()> {
            if let Some(sealed) = &sealed {
                credential.sealed = sealed.clone();
            }
            credential.extra.extend(part.rest());
            Ok(())
        })
    };
    let credential = cloud.store.transact(change).await?;
    Ok(ok(&json!({"credential": render(&cloud, &service, &view, &credential)?})))
}

async fn delete(State(cloud): State<Cloud>, who: Who, Path(id): Path<String>) -> Answer {
    let id = Id::<Credential>::from(id);
    seen(&cloud, &who, &id, "delete_credential", who.is_admin()).await?;
    cloud.store.transact(move |tx| tx.delete(&id).map(drop).map_err(|_: Error| missing(&id))).await?;
    Ok(no_content())
}

fn render_ec2(cloud: &Cloud, service: &Identity, view: &View, credential: &Credential) -> Answer<Value> {
    let blob: Value = serde_json::from_str(&open(service, view, credential)?).unwrap_or_default();
    let access = blob.get("access").and_then(Value::as_str).unwrap_or_default();
    let own = format!("{}/v3/users/{}/credentials/OS-EC2/{access}", crate::base(cloud), credential.user);
    Ok(json!({
        "access": access,
        "secret": blob.get("secret"),
        "user_id": credential.user,
        "tenant_id": credential.project,
        "trust_id": null,
        "links": {"self": own},
    }))
}

async fn list_ec2(State(cloud): State<Cloud>, who: Who, service: Service, Path(user): Path<String>) -> Answer {
    let user = Id::<User>::from(user);
    who.allow("ec2_list_credentials", who.reads_all() || who.is_user(&user))?;
    let view = cloud.store.read().await?;
    view.get(&user).ok_or_else(|| users::missing(&user))?;
    let found = view.by_index::<Credential>("user", user.as_str());
    let found = found.filter(|credential| credential.r#type == EC2 && within_project(&who, credential.project.as_ref()));
    let items = found.map(|credential| render_ec2(&cloud, &service, &view, &credential)).collect::<Answer<Vec<_>>>()?;
    let links = super::grants::links(&cloud, &format!("/v3/users/{user}/credentials/OS-EC2"));
    Ok(ok(&json!({"credentials": items, "links": links})))
}

async fn create_ec2(State(cloud): State<Cloud>, who: Who, service: Service, Path(user): Path<String>, Json(body): Json) -> Answer {
    let user = Id::<User>::from(user);
    who.allow("ec2_create_credential", who.is_admin() || (who.has("member") && who.is_user(&user)))?;
    let tenant = body.get("tenant_id").and_then(Value::as_str).ok_or_else(|| Refusal::missing("tenant_id", "request body"))?;
    let project = Id::<Project>::from(tenant);
    let view = cloud.store.read().await?;
    view.get(&project).ok_or_else(|| projects::missing(&project))?;
    let has_role = !grants::effective(&view, &user, &Scope::Project(project.clone())).is_empty();
    who.allow("ec2_create_credential", has_role && within_project(&who, Some(&project)))?;
    let (access, secret) = (random_hex()?, random_hex()?);
    let blob = json!({"access": access, "secret": secret, "trust_id": null}).to_string();
    let meta = Meta::new(ec2_id(&access));
    let sealed = seal(&service, &view, &blob)?;
    let credential = Credential { meta, user, project: Some(project), r#type: EC2.into(), sealed, extra: Default::default() };
    let credential = insert(&cloud, credential).await?;
    Ok(created(&json!({"credential": render_ec2(&cloud, &service, &view, &credential)?})))
}

fn random_hex() -> Answer<String> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|e| Error::caused("asking for random bytes", e))?;
    Ok(hex::encode(bytes))
}

type Two = Path<(String, String)>;

/// The pair under the user that the path names.
async fn ec2(cloud: &Cloud, who: &Who, user: &Id<User>, access: &str, action: &str, allowed: bool) -> Answer<Arc<Credential>> {
    let credential = seen(cloud, who, &ec2_id(access), action, allowed || who.is_user(user)).await;
    let credential =
        credential.map_err(|refusal| if refusal.status == 404 { Refusal::not_found("credential", access) } else { refusal })?;
    if credential.user == *user && credential.r#type == EC2 { Ok(credential) } else { Err(Refusal::not_found("credential", access)) }
}

async fn get_ec2(State(cloud): State<Cloud>, who: Who, service: Service, Path((user, access)): Two) -> Answer {
    let credential = ec2(&cloud, &who, &user.into(), &access, "ec2_get_credential", who.reads_all()).await?;
    Ok(ok(&json!({"credential": render_ec2(&cloud, &service, &cloud.store.view(), &credential)?})))
}

async fn delete_ec2(State(cloud): State<Cloud>, who: Who, Path((user, access)): Two) -> Answer {
    let credential = ec2(&cloud, &who, &user.into(), &access, "ec2_delete_credential", who.is_admin()).await?;
    let id = credential.meta.id.clone();
    cloud.store.transact(move |tx| tx.delete(&id).map(drop).map_err(|_: Error| missing(&id))).await?;
    Ok(no_content())
}
