//! /v3/OS-EP-FILTER: which endpoints a project's catalog shows.

use std::sync::Arc;

use axum::extract::{Path, State};
use http::StatusCode;
use serde_json::{Value, json};
use unkai_model::identity::{Endpoint, EndpointAssociation, EndpointGroup, Filtered, Project};
use unkai_model::{Id, Meta};
use unkai_openstack::{Cloud, Routes};
use unkai_store::{Tx, View};

use super::{endpoints, projects};
use crate::catalog;
use crate::web::body::{Extra, Field, may, must};
use crate::web::{Answer, Is, Json, Params, Part, Refusal, Who, created, no_content, ok};

pub fn routes() -> Routes {
    Routes::new()
        .get("/v3/OS-EP-FILTER/endpoints/{endpoint_id}/projects", projects_of_endpoint)
        .get("/v3/OS-EP-FILTER/projects/{project_id}/endpoints", endpoints_of_project)
        .get("/v3/OS-EP-FILTER/projects/{project_id}/endpoints/{endpoint_id}", check_endpoint)
        .put("/v3/OS-EP-FILTER/projects/{project_id}/endpoints/{endpoint_id}", add_endpoint)
        .delete("/v3/OS-EP-FILTER/projects/{project_id}/endpoints/{endpoint_id}", remove_endpoint)
        .get("/v3/OS-EP-FILTER/projects/{project_id}/endpoint_groups", groups_of_project)
        .get("/v3/OS-EP-FILTER/endpoint_groups", list)
        .post("/v3/OS-EP-FILTER/endpoint_groups", create)
        .get("/v3/OS-EP-FILTER/endpoint_groups/{group_id}", get)
        .patch("/v3/OS-EP-FILTER/endpoint_groups/{group_id}", update)
        .delete("/v3/OS-EP-FILTER/endpoint_groups/{group_id}", delete)
        .get("/v3/OS-EP-FILTER/endpoint_groups/{group_id}/endpoints", endpoints_of_group)
        .get("/v3/OS-EP-FILTER/endpoint_groups/{group_id}/projects", projects_of_group)
        .get("/v3/OS-EP-FILTER/endpoint_groups/{group_id}/projects/{project_id}", check_group)
        .put("/v3/OS-EP-FILTER/endpoint_groups/{group_id}/projects/{project_id}", add_group)
        .delete("/v3/OS-EP-FILTER/endpoint_groups/{group_id}/projects/{project_id}", remove_group)
}

const CREATE: &[Field] = &[must("name", Is::Name(255)), must("filters", Is::Object), may("description", Is::NullText)];
const UPDATE: &[Field] = &[may("name", Is::Name(255)), may("filters", Is::Object), may("description", Is::NullText)];
const FILTERS: &[&str] = &["service_id", "region_id", "interface", "enabled"];

fn render(cloud: &Cloud, group: &EndpointGroup) -> Value {
    let own = format!("{}/v3/OS-EP-FILTER/endpoint_groups/{}", crate::base(cloud), group.meta.id);
    json!({
        "id": group.meta.id, "name": group.meta.name, "description": group.description, "filters": group.filters,
        "links": {"self": own},
    })
}

fn missing(id: &Id<EndpointGroup>) -> Refusal {
    Refusal::not_found("Endpoint Group", id)
}

fn listed(cloud: &Cloud, path: &str, name: &str, items: Vec<Value>) -> Value {
    let mut body = json!({"links": super::grants::links(cloud, path)});
    body[name] = items.into();
    body
}

async fn list(State(cloud): State<Cloud>, who: Who, params: Params) -> Answer {
    who.allow("list_endpoint_groups", who.reads_all())?;
    let view = cloud.store.read().await?;
    let items = view.all::<EndpointGroup>().map(|group| render(&cloud, &group)).collect();
    let path = "/v3/OS-EP-FILTER/endpoint_groups";
    Ok(ok(&params.collection(&crate::base(&cloud), path, "endpoint_groups", items, &["name"])))
}

fn fill(group: &mut EndpointGroup, part: &Part) -> Answer<()> {
    if let Some(name) = part.text("name") {
        group.meta.name = name.to_owned();
    }
    if part.has("description") {
        group.description = part.text("description").map(str::to_owned);
    }
    if let Some(filters) = part.object("filters") {
        if let Some(name) = filters.keys().find(|name| !FILTERS.contains(&name.as_str())) {
            return Err(Refusal::invalid(format!("Expecting to find one of {FILTERS:?} in filters, not {name}.")));
        }
        group.filters = filters.clone().into_iter().collect();
    }
    Ok(())
}

async fn create(State(cloud): State<Cloud>, who: Who, body: Json) -> Answer {
    who.allow("create_endpoint_group", who.is_admin())?;
    let part = body.part("endpoint_group", CREATE, Extra::Allowed)?;
    let insert = move |tx: &mut Tx| -> Answer<Arc<EndpointGroup>> {
        let meta = Meta::new(tx.new_hex_id::<EndpointGroup>());
        let mut group = EndpointGroup { meta, description: None, filters: Default::default() };
        fill(&mut group, &part)?;
        Ok(tx.insert(group)?)
    };
    let group = cloud.store.transact(insert).await?;
    Ok(created(&json!({"endpoint_group": render(&cloud, &group)})))
}

fn find(view: &View, id: &Id<EndpointGroup>) -> Answer<Arc<EndpointGroup>> {
    view.get(id).ok_or_else(|| missing(id))
}

async fn get(State(cloud): State<Cloud>, who: Who, Path(id): Path<String>) -> Answer {
    who.allow("get_endpoint_group", who.reads_all())?;
    let group = find(&cloud.store.read().await?, &id.into())?;
    Ok(ok(&json!({"endpoint_group": render(&cloud, &group)})))
}

async fn update(State(cloud): State<Cloud>, who: Who, Path(id): Path<String>, body: Json) -> Answer {
    who.allow("update_endpoint_group", who.is_admin())?;
    let id = Id::<EndpointGroup>::from(id);
    let part = body.part("endpoint_group", UPDATE, Extra::Allowed)?;
    part.is_about("endpoint group", id.as_str())?;
    let change = move |tx: &mut Tx| {
        find(&tx.view(), &id)?;
        tx.update(&id, |group: &mut EndpointGroup| fill(group, &part))
    };
    let group = cloud.store.transact(change).await?;
    Ok(ok(&json!({"endpoint_group": render(&cloud, &group)})))
}

async fn delete(State(cloud): State<Cloud>, who: Who, Path(id): Path<String>) -> Answer {
    who.allow("delete_endpoint_group", who.is_admin())?;
    let id = Id::<EndpointGroup>::from(id);
    let remove = move |tx: &mut Tx| -> Answer<()> {
        find(&tx.view(), &id)?;
        let shown: Vec<Arc<EndpointAssociation>> = tx.by_index("what", &Filtered::Group(id.clone()).key()).collect();
        for association in shown {
            tx.delete(&association.meta.id)?;
        }
        tx.delete(&id)?;
        Ok(())
    };
    cloud.store.transact(remove).await?;
    Ok(no_content())
}

/// Everything that an association names must be there.
fn exists(view: &View, project: &Id<Project>, what: &Filtered) -> Answer<()> {
    view.get(project).ok_or_else(|| projects::missing(project))?;
    match what {
        Filtered::Endpoint(id) => drop(view.get(id).ok_or_else(|| endpoints::missing(id))?),
        Filtered::Group(id) => drop(find(view, id)?),
    }
    Ok(())
}

fn no_association(what: &Filtered, project: &Id<Project>) -> Refusal {
    let text = match what {
        Filtered::Endpoint(id) => format!("Endpoint {id} not found in project {project}"),
        Filtered::Group(_) => "Endpoint Group Project Association not found".to_owned(),
    };
    Refusal::new(StatusCode::NOT_FOUND, text)
}

async fn associated(cloud: &Cloud, project: &Id<Project>, what: &Filtered) -> Answer<()> {
    let view = cloud.store.read().await?;
    exists(&view, project, what)?;
    let found = view.get(&EndpointAssociation::id(project, what));
    found.map(drop).ok_or_else(|| no_association(what, project))
}

async fn associate(cloud: &Cloud, project: Id<Project>, what: Filtered) -> Answer {
    let insert = move |tx: &mut Tx| -> Answer<()> {
        exists(&tx.view(), &project, &what)?;
        let association = EndpointAssociation::new(&project, what.clone());
        match tx.get(&association.meta.id) {
            Some(_) => Err(Refusal::conflict("endpoint association", "Duplicate entry")),
            None => {
                tx.insert(association)?;
                Ok(())
            }
        }
    };
    cloud.store.transact(insert).await?;
    Ok(no_content())
}

async fn dissociate(cloud: &Cloud, project: Id<Project>, what: Filtered) -> Answer {
    let remove = move |tx: &mut Tx| -> Answer<()> {
        let id = EndpointAssociation::id(&project, &what);
        exists(&tx.view(), &project, &what)?;
        tx.get(&id).ok_or_else(|| no_association(&what, &project))?;
        tx.delete(&id)?;
        Ok(())
    };
    cloud.store.transact(remove).await?;
    Ok(no_content())
}

fn projects_seeing(cloud: &Cloud, view: &View, what: &Filtered) -> Vec<Value> {
    let found = view.by_index::<EndpointAssociation>("what", &what.key()).filter_map(|association| view.get(&association.to));
    found.map(|project| projects::render(cloud, &project)).collect()
}

type Two = Path<(String, String)>;

async fn projects_of_endpoint(State(cloud): State<Cloud>, who: Who, Path(id): Path<String>) -> Answer {
    who.allow("list_projects_for_endpoint", who.reads_all())?;
    let (view, id) = (cloud.store.read().await?, Id::<Endpoint>::from(id));
    view.get(&id).ok_or_else(|| endpoints::missing(&id))?;
    let items = projects_seeing(&cloud, &view, &Filtered::Endpoint(id.clone()));
    Ok(ok(&listed(&cloud, &format!("/v3/OS-EP-FILTER/endpoints/{id}/projects"), "projects", items)))
}

async fn endpoints_of_project(State(cloud): State<Cloud>, who: Who, Path(id): Path<String>) -> Answer {
    who.allow("list_endpoints_for_project", who.reads_all())?;
    let (view, id) = (cloud.store.read().await?, Id::<Project>::from(id));
    view.get(&id).ok_or_else(|| projects::missing(&id))?;
    let shown = catalog::chosen(&view, &id).unwrap_or_default();
    let items = shown.iter().filter_map(|id| view.get(id)).map(|endpoint| endpoints::render(&cloud, &endpoint)).collect();
    Ok(ok(&listed(&cloud, &format!("/v3/OS-EP-FILTER/projects/{id}/endpoints"), "endpoints", items)))
}

async fn check_endpoint(State(cloud): State<Cloud>, who: Who, Path((project, endpoint)): Two) -> Answer {
    who.allow("check_endpoint_in_project", who.reads_all())?;
    associated(&cloud, &project.into(), &Filtered::Endpoint(endpoint.into())).await?;
    Ok(no_content())
}

async fn add_endpoint(State(cloud): State<Cloud>, who: Who, Path((project, endpoint)): Two) -> Answer {
    who.allow("add_endpoint_to_project", who.is_admin())?;
    associate(&cloud, project.into(), Filtered::Endpoint(endpoint.into())).await
}

async fn remove_endpoint(State(cloud): State<Cloud>, who: Who, Path((project, endpoint)): Two) -> Answer {
    who.allow("remove_endpoint_from_project", who.is_admin())?;
    dissociate(&cloud, project.into(), Filtered::Endpoint(endpoint.into())).await
}

async fn groups_of_project(State(cloud): State<Cloud>, who: Who, Path(id): Path<String>) -> Answer {
    who.allow("list_endpoint_groups_for_project", who.reads_all())?;
    let (view, id) = (cloud.store.read().await?, Id::<Project>::from(id));
    view.get(&id).ok_or_else(|| projects::missing(&id))?;
    let groups = view.by_index::<EndpointAssociation>("project", id.as_str()).filter_map(|association| match &association.what {
        Filtered::Group(group) => view.get(group),
        Filtered::Endpoint(_) => None,
    });
    let items = groups.map(|group| render(&cloud, &group)).collect();
    Ok(ok(&listed(&cloud, &format!("/v3/OS-EP-FILTER/projects/{id}/endpoint_groups"), "endpoint_groups", items)))
}

async fn endpoints_of_group(State(cloud): State<Cloud>, who: Who, Path(id): Path<String>) -> Answer {
    who.allow("list_endpoints_associated_with_endpoint_group", who.reads_all())?;
    let view = cloud.store.read().await?;
    let group = find(&view, &id.into())?;
    let items = catalog::members(&view, &group).iter().map(|endpoint| endpoints::render(&cloud, endpoint)).collect();
    let path = format!("/v3/OS-EP-FILTER/endpoint_groups/{}/endpoints", group.meta.id);
    Ok(ok(&listed(&cloud, &path, "endpoints", items)))
}

async fn projects_of_group(State(cloud): State<Cloud>, who: Who, Path(id): Path<String>) -> Answer {
    who.allow("list_projects_associated_with_endpoint_group", who.reads_all())?;
    let view = cloud.store.read().await?;
    let id = find(&view, &id.into())?.meta.id.clone();
    let items = projects_seeing(&cloud, &view, &Filtered::Group(id.clone()));
    Ok(ok(&listed(&cloud, &format!("/v3/OS-EP-FILTER/endpoint_groups/{id}/projects"), "projects", items)))
}

async fn check_group(State(cloud): State<Cloud>, who: Who, Path((group, project)): Two) -> Answer {
    who.allow("get_endpoint_group_in_project", who.reads_all())?;
    associated(&cloud, &Id::from(project.as_str()), &Filtered::Group(Id::from(group.as_str()))).await?;
    let own = format!("{}/v3/OS-EP-FILTER/endpoint_groups/{group}/projects/{project}", crate::base(&cloud));
    Ok(ok(&json!({"endpoint_group_project": {"endpoint_group_id": group, "project_id": project, "links": {"self": own}}})))
}

async fn add_group(State(cloud): State<Cloud>, who: Who, Path((group, project)): Two) -> Answer {
    who.allow("add_endpoint_group_to_project", who.is_admin())?;
    associate(&cloud, project.into(), Filtered::Group(group.into())).await
}

async fn remove_group(State(cloud): State<Cloud>, who: Who, Path((group, project)): Two) -> Answer {
    who.allow("remove_endpoint_group_from_project", who.is_admin())?;
    dissociate(&cloud, project.into(), Filtered::Group(group.into())).await
}
