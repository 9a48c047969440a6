//! `/os-services`. The scheduler is every controller; there is a service for each pool that holds volumes, and one for each that keeps
//! backups. To disable a pool's service is to disable the pool.

use std::sync::{Arc, LazyLock};

use axum::Json;
use jiff::Timestamp;
use serde_json::{Value, json};
use unkai_model::compute::{DEFAULT_ZONE, Host};
use unkai_model::volume::Pool;
use unkai_openstack::web::schema::{Schema, object};
use unkai_openstack::web::{Body, Fault, Query};
use unkai_openstack::{Routes, iso};
use unkai_store::{Tx, View};

use super::{HOST, backend};
use crate::cx::Cx;

pub fn routes() -> Routes {
    Routes::new().get("/os-services", list).put("/os-services/{id}", change)
}

pub struct Service {
    pub binary: &'static str,
    pub host: String,
    pub up: bool,
    pub disabled: Option<String>,
    pub updated: Timestamp,
}

/// All of them, in this order: the scheduler, then by pool.
pub fn services(view: &View, now: Timestamp) -> Vec<Service> {
    let mut all = vec![Service { binary: "cinder-scheduler", host: HOST.into(), up: true, disabled: None, updated: now }];
    for pool in view.all::<Pool>() {
        let up = works(view, &pool);
        let one = |binary| Service { binary, host: backend(&pool), up, disabled: pool.disabled.clone(), updated: pool.meta.updated };
        all.push(one("cinder-volume"));
        if pool.keeps_backups {
            all.push(one("cinder-backup"));
        }
    }
    all
}

/// Some host that is up can use it.
pub fn works(view: &View, pool: &Pool) -> bool {
    let fault = |host: &Arc<Host>| pool.status.hosts.get(&host.meta.id).is_some_and(|reached| reached.fault.is_some());
    let mut hosts = view.all::<Host>().filter(|host| pool.is_reached_by(&host.meta.id));
    !pool.status.hosts.is_empty() && hosts.any(|host| host.is_up() && !fault(&host))
}

async fn list(cx: Cx, query: Query) -> Result<Json<Value>, Fault> {
    cx.require_admin("volume_extension:services:index")?;
    let view = cx.view().await?;
    let binary = query.get("binary").or(query.get("service"));
    let matches = |service: &Service| {
        let host = |wanted: &str| service.host == wanted || service.host.split('@').next() == Some(wanted);
        binary.is_none_or(|binary| service.binary == binary) && query.get("host").is_none_or(host)
    };
    let shown: Vec<Value> = services(&view, Timestamp::now()).iter().filter(|one| matches(one)).map(|one| render(&cx, one)).collect();
    Ok(Json(json!({ "services": shown })))
}

fn render(cx: &Cx, service: &Service) -> Value {
    let mut body = json!({
        "binary": service.binary,
        "host": service.host,
        "zone": DEFAULT_ZONE,
        "status": if service.disabled.is_some() { "disabled" } else { "enabled" },
        "state": if service.up { "up" } else { "down" },
        "updated_at": iso(service.updated),
        "disabled_reason": service.disabled.as_ref().filter(|why| !why.is_empty()),
    });
    if cx.version.at_least(7) {
        body["cluster"] = Value::Null;
    }
    if cx.version.at_least(49) && service.binary == "cinder-volume" {
        body["backend_state"] = json!(if service.up { "up" } else { "down" });
    }
    body
}

static CHANGE: LazyLock<Schema> = LazyLock::new(|| {
    let word = || Schema::string(1, 255);
    object().required("host", word()).optional("service", word()).optional("binary", word()).optional("disabled_reason", word()).into()
});

async fn change(cx: Cx, body: Body) -> Result<Json<Value>, Fault> {
    let verb = cx.param("id").to_owned();
    if ["freeze", "thaw", "failover_host", "failover"].contains(&verb.as_str()) {
        cx.require_admin("volume:freeze_host")?;
        return Err(Fault::bad_request(
            "Invalid input received: Back ends are not frozen and have no replica; their service can be disabled.",
        ));
    }
    let disabled = match verb.as_str() {
        "enable" => false,
        "disable" | "disable-log-reason" => true,
        _ => return Err(Fault::not_found("The resource could not be found.")),
    };
    let body = body.validated(&CHANGE, cx.version)?;
    cx.require_admin("volume_extension:services:update")?;
    let reason = body["disabled_reason"].as_str().map(str::to_owned);
    if verb == "disable-log-reason" && reason.is_none() {
        return Err(Fault::bad_request("Missing required element 'disabled_reason' in request body."));
    }
    let host = body["host"].as_str().unwrap_or_default().to_owned();
    let binary = body["binary"].as_str().or(body["service"].as_str()).unwrap_or("cinder-volume").to_owned();
    let (name, why) = (host.clone(), reason.clone());
    let wanted = binary.clone();
    cx.store()
        .transact(move |tx: &mut Tx| {
            let pool = tx.all::<Pool>().find(|pool| backend(pool) == name && wanted != "cinder-scheduler");
            let missing = || Fault::not_found(format!("Service {wanted} could not be found on host {name}."));
            let pool = pool.ok_or_else(missing)?;
            tx.update(&pool.meta.id, |pool: &mut Pool| {
                pool.disabled = disabled.then(|| why.clone().unwrap_or_default());
                Ok::<_, Fault>(())
            })
        })
        .await?;
    let mut shown = json!({
        "host": host,
        "service": binary,
        "binary": binary,
        "disabled": disabled,
        "status": if disabled { "disabled" } else { "enabled" },
    });
    if verb != "disable" {
        shown["disabled_reason"] = json!(reason.filter(|_| disabled));
    }
    Ok(Json(shown))
}
