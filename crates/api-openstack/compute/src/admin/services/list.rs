//! Listing and removing services.

use std::sync::LazyLock;

use axum::Json;
use axum::extract::{Path, State};
use http::StatusCode;
use serde_json::{Value, json};
use unkai_model::Id;
use unkai_model::compute::{Aggregate, Host, Server};
use unkai_openstack::{Caller, Cloud, Routes, iso};
use unkai_store::{Tx, View};

use super::{Service, is_connected, services, update};
use crate::admin::page::QuerySchema;
use crate::admin::policy;
use crate::query::Query;
use crate::schema::{Schema, is_uuid, object};
use crate::{Fault, Microversion};

pub fn routes() -> Routes {
    Routes::new().get("/v2.1/os-services", index).put("/v2.1/os-services/{id}", update::update).delete("/v2.1/os-services/{id}", delete)
}

static QUERY: LazyLock<QuerySchema> = LazyLock::new(|| {
    let text = || Schema::string(0, usize::MAX).many();
    QuerySchema::new(object().optional("host", text()).optional("binary", text()))
});

async fn index(State(cloud): State<Cloud>, caller: Caller, version: Microversion, query: Query) -> Result<Json<Value>, Fault> {
    QUERY.check(&query, version)?;
    policy::admin(&caller, "os_compute_api:os-services:list")?;
    let view = cloud.store.read().await?;
    let is = |name: &str, value: &str| query.get(name).is_none_or(|wanted| wanted.is_empty() || wanted == value);
    let found = services(&view).into_iter().filter(|service| is("host", &service.host) && is("binary", service.binary));
    Ok(Json(json!({ "services": found.map(|service| render(&service, version)).collect::<Vec<_>>() })))
}

pub fn render(service: &Service, version: Microversion) -> Value {
    let mut shown = json!({
        "id": if version.at_least(53) { json!(service.id) } else { json!(service.number) },
        "binary": service.binary,
        "host": service.host,
        "zone": service.zone,
        "status": service.status(),
        "state": service.state(),
        "updated_at": iso(service.updated),
        "disabled_reason": service.reason(),
    });
    if version.at_least(11) {
        shown["forced_down"] = json!(service.forced_down);
    }
    shown
}

/// The service that a version names so: by number before 2.53, by UUID since.
pub fn find(view: &View, id: &str, version: Microversion) -> Result<Service, Fault> {
    let by_uuid = version.at_least(53);
    if by_uuid && !is_uuid(id) {
        return Err(Fault::bad_request(format!("Invalid uuid {id}")));
    }
    if !by_uuid && id.parse::<i64>().is_err() {
        return Err(Fault::bad_request("Invalid input received: id must be an integer"));
    }
    let is = |service: &Service| if by_uuid { service.id.eq_ignore_ascii_case(id) } else { service.number.to_string() == id };
    services(view).into_iter().find(is).ok_or_else(|| Fault::not_found(format!("Service {id} could not be found.")))
}

/// Forgets a host: none of its own servers may be left, and its agent must be gone or it would be back at once.
async fn delete(State(cloud): State<Cloud>, caller: Caller, version: Microversion, Path(id): Path<String>) -> Result<StatusCode, Fault> {
    policy::admin(&caller, "os_compute_api:os-services:delete")?;
    let transaction = move |tx: &mut Tx| {
        let service = find(&tx.view(), &id, version)?;
        let Some(host) = &service.of else {
            return Err(Fault::conflict(format!("The {} service is a part of this controller.", service.binary)));
        };
        forget(tx, host)
    };
    cloud.store.transact(transaction).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn forget(tx: &mut Tx, id: &Id<Host>) -> Result<(), Fault> {
    if tx.by_index::<Server>("host", id.as_str()).next().is_some() {
        let text = "Unable to delete compute service that is hosting instances. Migrate or delete the instances first.";
        return Err(Fault::conflict(text));
    }
    let host = tx.require(id)?;
    if is_connected(&host) {
        return Err(Fault::conflict(format!("The agent of host {} is connected. Stop it first.", host.meta.name)));
    }
    let aggregates: Vec<Id<Aggregate>> = tx.by_index::<Aggregate>("host", id.as_str()).map(|a| a.meta.id.clone()).collect();
    for aggregate in aggregates {
        tx.update(&aggregate, |aggregate: &mut Aggregate| {
            aggregate.hosts.remove(id);
            Ok::<_, Fault>(())
        })?;
    }
    tx.delete(id)?;
    Ok(())
}
