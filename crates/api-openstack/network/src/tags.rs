//! `/<collection>/{id}/tags`, the same for every resource that carries them.

use std::collections::BTreeSet;

use axum::extract::{Path, State};
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};
use unkai_model::Id;
use unkai_model::network::{FloatingIp, Network, Port, Router, SecurityGroup, SecurityGroupRule, Standard, Subnet, SubnetPool};
use unkai_openstack::{Caller, Cloud, Routes};

use crate::Refusal;
use crate::fields::{invalid, shown};
use crate::resource::{Cx, Resource, answer, body, visible, visible_in};

const LONGEST: usize = 255;

pub trait Tagged: Resource {
    fn standard(&self) -> &Standard;
    fn standard_mut(&mut self) -> &mut Standard;
}

macro_rules! tagged {
    ($($kind:ty),*) => { $(
        impl Tagged for $kind {
            fn standard(&self) -> &Standard {
                &self.standard
            }
            fn standard_mut(&mut self) -> &mut Standard {
                &mut self.standard
            }
        }
    )* };
}
tagged!(Network, Subnet, Port, Router, FloatingIp, SecurityGroup, SecurityGroupRule, SubnetPool);

pub fn routes() -> Routes {
    of::<Network>("networks")
        .merge(of::<Subnet>("subnets"))
        .merge(of::<Port>("ports"))
        .merge(of::<Router>("routers"))
        .merge(of::<FloatingIp>("floatingips"))
        .merge(of::<SubnetPool>("subnetpools"))
        .merge(of::<SecurityGroup>("security-groups"))
        .merge(of::<SecurityGroup>("security_groups"))
        .merge(of::<SecurityGroupRule>("security-group-rules"))
}

fn of<R: Tagged>(path: &str) -> Routes {
    let (all, one) = (format!("/v2.0/{path}/{{id}}/tags"), format!("/v2.0/{path}/{{id}}/tags/{{tag}}"));
    Routes::new()
        .get(&all, list::<R>)
        .put(&all, replace::<R>)
        .post(&all, extend::<R>)
        .delete(&all, clear::<R>)
        .get(&one, check::<R>)
        .put(&one, add::<R>)
        .delete(&one, remove::<R>)
}

fn no_tag(tag: &str) -> Refusal {
    Refusal::missing("TagNotFound", format!("Tag {tag} could not be found."))
}

fn checked(tag: &str) -> Result<String, Refusal> {
    match tag.chars().count() {
        0 => Err(invalid("tags", "'' Blank strings are not permitted")),
        n if n > LONGEST => Err(invalid("tags", format!("'{tag}' exceeds maximum length of {LONGEST}"))),
        _ => Ok(tag.to_owned()),
    }
}

fn read(bytes: &Bytes) -> Result<BTreeSet<String>, Refusal> {
    let map = body(bytes)?;
    let items = match map.get("tags") {
        Some(Value::Array(items)) if map.len() == 1 => items,
        _ => return Err(Refusal::request("Invalid tags body")),
    };
    let tag = |item: &Value| match item.as_str() {
        Some(text) => checked(text),
        None => Err(invalid("tags", format!("'{}' is not a valid string", shown(item)))),
    };
    items.iter().map(tag).collect()
}

/// Changes the tags and returns what they are then.
async fn change<R: Tagged>(
    cloud: &Cloud,
    Caller(who): Caller,
    id: String,
    change: impl Fn(&mut BTreeSet<String>) -> Result<(), Refusal> + Send + 'static,
) -> Result<BTreeSet<String>, Refusal> {
    let id = Id::<R>::new(id);
    let changed = cloud.store.transact(move |tx| {
        let resource = visible_in::<R>(tx, &who, &id)?;
        if !resource.may_change(&Cx { view: &tx.view(), who: &who }) {
            return Err(Refusal::policy(format!("update_{}:tags", R::PATH)));
        }
        let mut tags = resource.standard().tags.clone();
        change(&mut tags)?;
        if tags != resource.standard().tags {
            tx.update(&id, |resource: &mut R| {
                resource.standard_mut().tags = tags.clone();
                Ok::<_, Refusal>(())
            })?;
        }
        Ok(tags)
    });
    changed.await
}

async fn tags_of<R: Tagged>(cloud: &Cloud, Caller(who): Caller, id: String) -> Result<BTreeSet<String>, Refusal> {
    let view = cloud.store.read().await?;
    Ok(visible::<R>(&Cx { view: &view, who: &who }, &Id::new(id))?.standard().tags.clone())
}

async fn list<R: Tagged>(State(cloud): State<Cloud>, caller: Caller, Path(id): Path<String>) -> Result<Response, Refusal> {
    let tags = tags_of::<R>(&cloud, caller, id).await?;
    Ok(answer(StatusCode::OK, &json!({"tags": tags})))
}

async fn replace<R: Tagged>(State(cloud): State<Cloud>, caller: Caller, Path(id): Path<String>, bytes: Bytes) -> Result<Response, Refusal> {
    let wanted = read(&bytes)?;
    let set = move |tags: &mut BTreeSet<String>| {
        *tags = wanted.clone();
        Ok(())
    };
    Ok(answer(StatusCode::OK, &json!({"tags": change::<R>(&cloud, caller, id, set).await?})))
}

async fn extend<R: Tagged>(State(cloud): State<Cloud>, caller: Caller, Path(id): Path<String>, bytes: Bytes) -> Result<Response, Refusal> {
    let wanted = read(&bytes)?;
    let set = move |tags: &mut BTreeSet<String>| {
        tags.extend(wanted.iter().cloned());
        Ok(())
    };
    Ok(answer(StatusCode::CREATED, &json!({"tags": change::<R>(&cloud, caller, id, set).await?})))
}

async fn clear<R: Tagged>(State(cloud): State<Cloud>, caller: Caller, Path(id): Path<String>) -> Result<StatusCode, Refusal> {
    let set = |tags: &mut BTreeSet<String>| {
        tags.clear();
        Ok(())
    };
    change::<R>(&cloud, caller, id, set).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn check<R: Tagged>(
    State(cloud): State<Cloud>,
    caller: Caller,
    Path((id, tag)): Path<(String, String)>,
) -> Result<StatusCode, Refusal> {
    match tags_of::<R>(&cloud, caller, id).await?.contains(&tag) {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(no_tag(&tag)),
    }
}

async fn add<R: Tagged>(
    State(cloud): State<Cloud>,
    caller: Caller,
    Path((id, tag)): Path<(String, String)>,
) -> Result<StatusCode, Refusal> {
    let tag = checked(&tag)?;
    let set = move |tags: &mut BTreeSet<String>| {
        tags.insert(tag.clone());
        Ok(())
    };
    change::<R>(&cloud, caller, id, set).await?;
    Ok(StatusCode::CREATED)
}

async fn remove<R: Tagged>(
    State(cloud): State<Cloud>,
    caller: Caller,
    Path((id, tag)): Path<(String, String)>,
) -> Result<StatusCode, Refusal> {
    let set = move |tags: &mut BTreeSet<String>| match tags.remove(&tag) {
        true => Ok(()),
        false => Err(no_tag(&tag)),
    };
    change::<R>(&cloud, caller, id, set).await?;
    Ok(StatusCode::NO_CONTENT)
}
