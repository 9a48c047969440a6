//! `/auto-allocated-topology/{project}`: the network of those who do not want to think of networks.

use axum::extract::{Path, Query as Pairs, State};
use axum::response::Response;
use http::StatusCode;
use serde_json::json;
use unkai_model::Id;
use unkai_model::identity::Project;
use unkai_openstack::{Caller, CallerName, Cloud, Routes};

use crate::Refusal;
use crate::query::Query;
use crate::resource::answer;
use crate::verbs;

pub fn routes() -> Routes {
    Routes::new().get("/v2.0/auto-allocated-topology/{project}", show).delete("/v2.0/auto-allocated-topology/{project}", remove)
}

/// `null` in the path means the caller's own.
fn owner(who: &CallerName, project: &str, rule: &str) -> Result<Id<Project>, Refusal> {
    let project = match project {
        "null" | "None" => who.require_project()?.clone(),
        other => Id::new(other),
    };
    if who.may_write(Some(&project)) { Ok(project) } else { Err(Refusal::policy(rule)) }
}

/// Makes the topology when there is none yet; with `fields=dry-run`, only says whether that would work.
async fn show(
    State(cloud): State<Cloud>,
    Caller(who): Caller,
    Path(project): Path<String>,
    Pairs(pairs): Pairs<Vec<(String, String)>>,
) -> Result<Response, Refusal> {
    let project = owner(&who, &project, "get_auto_allocated_topology")?;
    let dry_run = Query::parse(pairs)?.fields.contains("dry-run");
    let owner = project.clone();
    let found = cloud.store.transact(move |tx| match dry_run {
        true => verbs::check_topology(tx).map(|_| "dry-run=pass".to_owned()),
        false => verbs::auto_allocated_topology(tx, &owner).map(|topology| topology.network.to_string()),
    });
    let id = found.await?;
    let body = json!({"auto_allocated_topology": {"id": id, "tenant_id": project.as_str(), "project_id": project.as_str()}});
    Ok(answer(StatusCode::OK, &body))
}

async fn remove(State(cloud): State<Cloud>, Caller(who): Caller, Path(project): Path<String>) -> Result<StatusCode, Refusal> {
    let project = owner(&who, &project, "delete_auto_allocated_topology")?;
    cloud.store.transact(move |tx| verbs::delete_topology(tx, &project)).await?;
    Ok(StatusCode::NO_CONTENT)
}
