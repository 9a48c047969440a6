//! Enabling, disabling and declaring down: by host and binary before 2.53, by the service's id since.

use std::sync::LazyLock;

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};
use unkai_model::compute::Host;
use unkai_openstack::{Caller, Cloud};
use unkai_store::Tx;

use super::list::{find, render};
use super::{COMPUTE, Service, services};
use crate::admin::policy;
use crate::body::Body;
use crate::schema::{Format, Schema, as_bool, object};
use crate::{Fault, Microversion};

const HOSTNAME: Format = Format {
    name: "hostname",
    accepts: |text| text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_')),
    message: None,
};

fn target() -> crate::schema::Object {
    let host = Schema::String { min: 1, max: 255, format: Some(HOSTNAME) };
    object().required("host", host).required("binary", Schema::string(1, 255))
}
static SWITCH: LazyLock<Schema> = LazyLock::new(|| target().into());
static REASON: LazyLock<Schema> = LazyLock::new(|| target().required("disabled_reason", Schema::string(1, 255)).into());
static FORCE: LazyLock<Schema> = LazyLock::new(|| target().required("forced_down", Schema::Boolean).into());
static UPDATE: LazyLock<Schema> = LazyLock::new(|| {
    object()
        .optional("status", Schema::one_of(["enabled", "disabled"]))
        .optional("disabled_reason", Schema::string(1, 255))
        .optional("forced_down", Schema::Boolean)
        .into()
});

/// What is to become of a host; what is none stays.
#[derive(Debug, Clone, Default, PartialEq)]
struct Change {
    disabled: Option<Option<String>>,
    forced_down: Option<bool>,
}

impl Change {
    fn apply(&self, host: &mut Host) {
        if let Some(disabled) = &self.disabled {
            host.disabled = disabled.clone();
        }
        if let Some(down) = self.forced_down {
            host.forced_down = down;
        }
    }
}

pub async fn update(
    State(cloud): State<Cloud>,
    caller: Caller,
    version: Microversion,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<Value>, Fault> {
    if version.at_least(53) { by_id(&cloud, &caller, version, id, body).await } else { by_name(&cloud, &caller, version, &id, body).await }
}

async fn by_id(cloud: &Cloud, caller: &Caller, version: Microversion, id: String, body: Body) -> Result<Json<Value>, Fault> {
    let body = body.validated(&UPDATE, version)?;
    policy::admin(caller, "os_compute_api:os-services:update")?;
    let transaction = move |tx: &mut Tx| {
        let service = find(&tx.view(), &id, version)?;
        let Some(host) = &service.of else {
            let binary = service.binary;
            let text = format!("Updating a {binary} service is not supported. Only {COMPUTE} services can be updated.");
            return Err(Fault::bad_request(text));
        };
        let change = wanted(&body)?;
        let host = tx.update(host, |host| {
            change.apply(host);
            Ok::<_, Fault>(())
        })?;
        Ok(Service::compute(&tx.view(), &host))
    };
    let service = cloud.store.transact(transaction).await?;
    Ok(Json(json!({ "service": render(&service, version) })))
}

fn wanted(body: &Value) -> Result<Change, Fault> {
    let reason = body["disabled_reason"].as_str();
    let disabled = match (body["status"].as_str(), reason) {
        (Some("disabled"), reason) => Some(Some(reason.unwrap_or("").to_owned())),
        (_, Some(_)) => return Err(Fault::bad_request("Specifying 'disabled_reason' requires that status is 'disabled'.")),
        (status, None) => status.map(|_| None),
    };
    let change = Change { disabled, forced_down: body.get("forced_down").map(as_bool) };
    if change == Change::default() {
        return Err(Fault::bad_request("No updates were requested. Fields 'status' or 'forced_down' should be specified."));
    }
    Ok(change)
}

async fn by_name(cloud: &Cloud, caller: &Caller, version: Microversion, action: &str, body: Body) -> Result<Json<Value>, Fault> {
    let schema = match action {
        "enable" | "disable" => &SWITCH,
        "disable-log-reason" => &REASON,
        "force-down" if version.at_least(11) => &FORCE,
        _ => return Err(Fault::not_found("Unknown action")),
    };
    let body = body.validated(schema, version)?;
    policy::admin(caller, "os_compute_api:os-services:update")?;
    let reason = body["disabled_reason"].as_str().unwrap_or("").to_owned();
    let mut shown = json!({ "host": body["host"], "binary": body["binary"] });
    let change = match action {
        "enable" => Change { disabled: Some(None), forced_down: None },
        "force-down" => Change { disabled: None, forced_down: Some(as_bool(&body["forced_down"])) },
        _ => Change { disabled: Some(Some(reason.clone())), forced_down: None },
    };
    match action {
        "force-down" => shown["forced_down"] = json!(change.forced_down),
        "enable" => shown["status"] = json!("enabled"),
        _ => shown["status"] = json!("disabled"),
    }
    if action == "disable-log-reason" {
        shown["disabled_reason"] = json!(reason);
    }
    let (host, binary) = (body["host"].as_str().unwrap_or("").to_owned(), body["binary"].as_str().unwrap_or("").to_owned());
    cloud.store.transact(move |tx: &mut Tx| change_named(tx, &host, &binary, &change)).await?;
    Ok(Json(json!({ "service": shown })))
}

fn change_named(tx: &mut Tx, host: &str, binary: &str, change: &Change) -> Result<(), Fault> {
    let service = services(&tx.view()).into_iter().find(|service| service.host == host && service.binary == binary);
    let Some(service) = service else {
        return Err(Fault::not_found(format!("Could not find binary {binary} on host {host}.")));
    };
    let Some(id) = service.of else {
        return Err(Fault::bad_request(format!("Updating a {binary} service is not supported. Only {COMPUTE} services can be updated.")));
    };
    tx.update(&id, |host| {
        change.apply(host);
        Ok::<_, Fault>(())
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_need_a_disabled_service() {
        let change = |body: Value| wanted(&body).ok();
        let disabled = |reason: &str| Some(Change { disabled: Some(Some(reason.into())), forced_down: None });
        assert_eq!(change(json!({"status": "disabled"})), disabled(""));
        assert_eq!(change(json!({"status": "disabled", "disabled_reason": "r"})), disabled("r"));
        assert_eq!(change(json!({"status": "enabled"})), Some(Change { disabled: Some(None), forced_down: None }));
        assert_eq!(change(json!({"forced_down": true})), Some(Change { disabled: None, forced_down: Some(true) }));
        for body in [json!({}), json!({"disabled_reason": "r"}), json!({"status": "enabled", "disabled_reason": "r"})] {
            assert_eq!(change(body), None);
        }
    }
}
