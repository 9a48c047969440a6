//! Tags of projects: their own routes, and the filters of the list of projects.

use std::collections::BTreeSet;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde_json::{Value, json};
use unkai_model::Id;
use unkai_model::identity::Project;
use unkai_openstack::{Cloud, Routes};

use super::projects::{may_see, missing};
use crate::web::{Answer, Json, Params, Refusal, Who, no_content, ok};

const MOST: usize = 80;
const LONGEST: usize = 255;

pub fn routes() -> Routes {
    Routes::new()
        .get("/v3/projects/{project_id}/tags", list)
        .put("/v3/projects/{project_id}/tags", replace)
        .delete("/v3/projects/{project_id}/tags", clear)
        .get("/v3/projects/{project_id}/tags/{tag}", check)
        .put("/v3/projects/{project_id}/tags/{tag}", add)
        .delete("/v3/projects/{project_id}/tags/{tag}", remove)
}

/// Tags of a request: texts, each once, none with `/` or `,`.
pub fn parse(value: Option<&Value>) -> Answer<BTreeSet<String>> {
    let list = value.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut tags = BTreeSet::new();
    for tag in list {
        let tag = tag.as_str().ok_or_else(|| Refusal::invalid(format!("{tag} is not of type 'string'")))?;
        well_formed(tag)?;
        if !tags.insert(tag.to_owned()) {
            return Err(Refusal::invalid("tags has non-unique elements"));
        }
    }
    few_enough(&tags)?;
    Ok(tags)
}

fn well_formed(tag: &str) -> Answer<()> {
    let good = !tag.is_empty() && tag.chars().count() <= LONGEST && !tag.contains(['/', ',']);
    if good { Ok(()) } else { Err(Refusal::invalid(format!("Invalid input for field 'tags': '{tag}' is not a tag"))) }
}

fn few_enough(tags: &BTreeSet<String>) -> Answer<()> {
    if tags.len() <= MOST { Ok(()) } else { Err(Refusal::invalid(format!("there are more than {MOST} tags"))) }
}

/// `tags`, `tags-any`, `not-tags`, `not-tags-any`.
pub fn matches(params: &Params, tags: &BTreeSet<String>) -> bool {
    let said = |name: &str| params.get(name).map(|text| text.split(',').map(|tag| tags.contains(tag)).collect::<Vec<bool>>());
    said("tags").is_none_or(|has| has.iter().all(|has| *has))
        && said("tags-any").is_none_or(|has| has.iter().any(|has| *has))
        && said("not-tags").is_none_or(|has| !has.iter().all(|has| *has))
        && said("not-tags-any").is_none_or(|has| !has.iter().any(|has| *has))
}

fn shown(cloud: &Cloud, project: &Project) -> Value {
    let own = format!("{}/v3/projects/{}/tags", crate::base(cloud), project.meta.id);
    json!({"tags": project.tags, "links": {"self": own, "next": null, "previous": null}})
}

async fn seen(cloud: &Cloud, who: &Who, id: &Id<Project>, action: &str) -> Answer<std::sync::Arc<Project>> {
    let project = cloud.store.read().await?.get(id);
    who.allow(action, may_see(who, id, project.as_deref()))?;
    project.ok_or_else(|| missing(id))
}

/// Changes the tags of a project that the caller manages.
async fn change(
    cloud: &Cloud,
    who: &Who,
    id: &Id<Project>,
    action: &str,
    change: impl Fn(&mut BTreeSet<String>) -> Answer<()> + Send + 'static,
) -> Answer<std::sync::Arc<Project>> {
    let project = cloud.store.read().await?.get(id);
    who.allow(action, who.manages(project.as_ref().and_then(|project| project.domain.as_ref())))?;
    project.ok_or_else(|| missing(id))?;
    let id = id.clone();
    cloud
        .store
        .transact(move |tx| {
            tx.update(&id, |project: &mut Project| {
                change(&mut project.tags)?;
                few_enough(&project.tags)
            })
        })
        .await
}

async fn list(State(cloud): State<Cloud>, who: Who, Path(id): Path<String>) -> Answer {
    let project = seen(&cloud, &who, &id.into(), "list_project_tags").await?;
    Ok(ok(&shown(&cloud, &project)))
}

async fn replace(State(cloud): State<Cloud>, who: Who, Path(id): Path<String>, Json(body): Json) -> Answer {
    let list = body.get("tags").filter(|tags| tags.is_array()).ok_or_else(|| Refusal::missing("tags", "request body"));
    let tags = list.and_then(|list| parse(Some(list)));
    // Who may not change them does not learn what is wrong with the request.
    let id = Id::from(id);
    let project = change(&cloud, &who, &id, "update_project_tags", move |old| {
        *old = tags.clone()?;
        Ok(())
    });
    Ok(ok(&shown(&cloud, &*project.await?)))
}

async fn clear(State(cloud): State<Cloud>, who: Who, Path(id): Path<String>) -> Answer {
    change(&cloud, &who, &id.into(), "delete_project_tags", |tags| {
        tags.clear();
        Ok(())
    })
    .await?;
    Ok(no_content())
}

async fn check(State(cloud): State<Cloud>, who: Who, Path((id, tag)): Path<(String, String)>) -> Answer {
    let project = seen(&cloud, &who, &id.into(), "get_project_tag").await?;
    if project.tags.contains(&tag) { Ok(no_content()) } else { Err(Refusal::not_found("project tag", tag)) }
}

async fn add(State(cloud): State<Cloud>, who: Who, Path((id, tag)): Path<(String, String)>) -> Answer<Response> {
    let location = format!("{}/v3/projects/{id}/tags/{tag}", crate::base(&cloud));
    change(&cloud, &who, &id.into(), "create_project_tag", move |tags| {
        well_formed(&tag)?;
        tags.insert(tag.clone());
        Ok(())
    })
    .await?;
    Ok((StatusCode::CREATED, [(header::LOCATION, location)]).into_response())
}

async fn remove(State(cloud): State<Cloud>, who: Who, Path((id, tag)): Path<(String, String)>) -> Answer {
    change(&cloud, &who, &id.into(), "delete_project_tag", move |tags| {
        if tags.remove(&tag) { Ok(()) } else { Err(Refusal::not_found("project tag", &tag)) }
    })
    .await?;
    Ok(no_content())
}
