//! `/os-server-groups`: servers that should or should not share a host.

use std::sync::{Arc, LazyLock};

use axum::Json;
use axum::extract::{Path, State};
use http::StatusCode;
use serde_json::{Value, json};
use unkai_model::compute::{GroupPolicy, Server, ServerGroup};
use unkai_model::{Error, Id, Meta};
use unkai_openstack::{Caller, Cloud, Routes};
use unkai_store::{Tx, View};

use super::page::QuerySchema;
use super::{policy, quotas};
use crate::body::Body;
use crate::query::{MAX_PAGE, Query};
use crate::schema::{Schema, as_int, object};
use crate::{Fault, Microversion};

pub fn routes() -> Routes {
    Routes::new()
        .get("/v2.1/os-server-groups", index)
        .post("/v2.1/os-server-groups", create)
        .get("/v2.1/os-server-groups/{id}", show)
        .delete("/v2.1/os-server-groups/{id}", delete)
}

static CREATE: LazyLock<Schema> = LazyLock::new(|| {
    let hard = || Schema::one_of(["anti-affinity", "affinity"]);
    let all = || Schema::one_of(["anti-affinity", "affinity", "soft-anti-affinity", "soft-affinity"]);
    let single = |items: Schema| Schema::Array { items: Box::new(items), min: 1, max: 1, unique: false };
    let rules = object().optional("max_server_per_host", Schema::positive());
    Schema::wrapped(
        "server_group",
        object()
            .required("name", Schema::name())
            .required_in(..=14, "policies", single(hard()))
            .required_in(15..=63, "policies", single(all()))
            .required_in(64.., "policy", all())
            .optional_in(64.., "rules", rules),
    )
});
static QUERY: LazyLock<QuerySchema> = LazyLock::new(|| {
    let text = Schema::string(0, usize::MAX).many();
    let object = object().optional("all_projects", text);
    QuerySchema::new(object.optional("limit", Schema::count().many()).optional("offset", Schema::count().many()))
});

fn render(view: &View, group: &ServerGroup, version: Microversion) -> Value {
    let members: Vec<_> = view.by_index::<Server>("group", group.meta.id.as_str()).map(|server| server.meta.id.clone()).collect();
    let mut shown = json!({ "id": group.meta.id, "name": group.meta.name, "members": members });
    if version.at_least(13) {
        shown["project_id"] = json!(group.meta.project);
        shown["user_id"] = json!(group.user);
    }
    if version.at_least(64) {
        shown["policy"] = json!(group.policy.as_str());
        shown["rules"] = match group.policy {
            GroupPolicy::AntiAffinity { most } if most > 1 => json!({ "max_server_per_host": most }),
            _ => json!({}),
        };
    } else {
        shown["policies"] = json!([group.policy.as_str()]);
        shown["metadata"] = json!({});
    }
    shown
}

/// The group, when it is the caller's to see; to others it does not exist, but who may not look at his own is told so.
fn find(view: &View, caller: &Caller, id: &str) -> Result<Arc<ServerGroup>, Fault> {
    let group = view.get::<ServerGroup>(&Id::new(id)).filter(|group| caller.is_admin() || caller.owns(group.meta.project.as_ref()));
    group.ok_or_else(|| Fault::not_found(format!("Instance group {id} could not be found.")))
}

async fn index(State(cloud): State<Cloud>, caller: Caller, version: Microversion, query: Query) -> Result<Json<Value>, Fault> {
    QUERY.check(&query, version)?;
    policy::reader(&caller, caller.project.as_ref(), "os_compute_api:os-server-groups:index")?;
    let view = cloud.store.read().await?;
    let everybodys = query.has("all_projects");
    if everybodys {
        policy::admin(&caller, "os_compute_api:os-server-groups:index:all_projects")?;
    }
    let mut groups: Vec<Arc<ServerGroup>> = match &caller.project {
        Some(project) if !everybodys => view.by_index("project", project.as_str()).collect(),
        _ => view.all().collect(),
    };
    groups.sort_by_key(|group| group.meta.created);
    let offset = query.get("offset").and_then(|text| text.parse().ok()).unwrap_or(0);
    let limit = if query.limit()? == 0 { MAX_PAGE } else { query.limit()? };
    let shown: Vec<_> = groups.iter().skip(offset).take(limit).map(|group| render(&view, group, version)).collect();
    Ok(Json(json!({ "server_groups": shown })))
}

async fn show(State(cloud): State<Cloud>, caller: Caller, version: Microversion, Path(id): Path<String>) -> Result<Json<Value>, Fault> {
    let view = cloud.store.read().await?;
    let group = find(&view, &caller, &id)?;
    policy::reader(&caller, group.meta.project.as_ref(), "os_compute_api:os-server-groups:show")?;
    Ok(Json(json!({ "server_group": render(&view, &group, version) })))
}

async fn create(State(cloud): State<Cloud>, caller: Caller, version: Microversion, body: Body) -> Result<Json<Value>, Fault> {
    let body = body.validated(&CREATE, version)?;
    let project = caller.require_project()?.clone();
    policy::member(&caller, Some(&project), "os_compute_api:os-server-groups:create")?;
    let body = &body["server_group"];
    let policy = parse_policy(body)?;
    let name = body["name"].as_str().unwrap_or("").to_owned();
    let user = caller.user.clone();
    let made = cloud
        .store
        .transact(move |tx: &mut Tx| {
            let most = quotas::limit(&tx.view(), &project, Some(&user), "server_groups");
            tx.limit("server_groups", "server_groups", project.as_str(), most);
            let meta = Meta::new(tx.new_id()).named(name.clone()).owned_by(project.clone());
            tx.insert(ServerGroup { meta, user: user.clone(), policy })
        })
        .await;
    let group = made.map_err(|error| match error {
        Error::Quota { .. } => Fault::forbidden("Quota exceeded, too many server groups."),
        other => other.into(),
    })?;
    Ok(Json(json!({ "server_group": render(&cloud.store.view(), &group, version) })))
}

fn parse_policy(body: &Value) -> Result<GroupPolicy, Fault> {
    let name = body["policy"].as_str().or_else(|| body["policies"][0].as_str()).unwrap_or("");
    let policy = GroupPolicy::parse(name).ok_or_else(|| Fault::bad_request(format!("{name} is not a policy")))?;
    match (policy, body["rules"].get("max_server_per_host").and_then(as_int)) {
        (policy, None) => Ok(policy),
        (GroupPolicy::AntiAffinity { .. }, Some(most)) => Ok(GroupPolicy::AntiAffinity { most: most.try_into().unwrap_or(u32::MAX) }),
        _ => Err(Fault::bad_request("Only anti-affinity policy supports rules.")),
    }
}

async fn delete(State(cloud): State<Cloud>, caller: Caller, Path(id): Path<String>) -> Result<StatusCode, Fault> {
    let transaction = move |tx: &mut Tx| {
        let group = find(&tx.view(), &caller, &id)?;
        policy::member(&caller, group.meta.project.as_ref(), "os_compute_api:os-server-groups:delete")?;
        tx.delete(&group.meta.id)?;
        Ok::<_, Fault>(StatusCode::NO_CONTENT)
    };
    cloud.store.transact(transaction).await
}
