//! `POST /servers/{id}/action`: one key says what is asked, its value how.

mod admin;
mod evacuate;
mod floating;
mod groups;
mod image;
mod locks;
mod migrate;
mod power;
mod rebuild;
mod rescue;
mod resize;
mod shelve;

use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::Value;

use super::cx::Cx;
use super::{console, schemas};
use crate::Fault;
use crate::body::Body;
use crate::schema::Schema;

pub use groups::list as list_groups;

pub async fn action(cx: Cx, Path(id): Path<String>, body: Body) -> Result<Response, Fault> {
    let body = body.unchecked();
    let key = match body.as_object().map(|object| (object.len(), object.keys().next())) {
        Some((1, Some(key))) => key.clone(),
        _ => return Err(Fault::bad_request("Malformed request body")),
    };
    let request = Action { cx, id, body };
    match key.as_str() {
        "os-start" => power::start(request).await,
        "os-stop" => power::stop(request).await,
        "reboot" => power::reboot(request).await,
        "pause" => power::pause(request).await,
        "unpause" => power::unpause(request).await,
        "suspend" => power::suspend(request).await,
        "resume" => power::resume(request).await,
        "rebuild" => rebuild::rebuild(request).await,
        "resize" => resize::resize(request).await,
        "confirmResize" => resize::confirm(request).await,
        "revertResize" => resize::revert(request).await,
        "rescue" => rescue::rescue(request).await,
        "unrescue" => rescue::unrescue(request).await,
        "shelve" => shelve::shelve(request).await,
        "shelveOffload" => shelve::offload(request).await,
        "unshelve" => shelve::unshelve(request).await,
        "lock" => locks::lock(request).await,
        "unlock" => locks::unlock(request).await,
        "createImage" => image::create_image(request).await,
        "createBackup" => image::create_backup(request).await,
        "addSecurityGroup" => groups::add(request).await,
        "removeSecurityGroup" => groups::remove(request).await,
        "changePassword" => admin::change_password(request).await,
        "forceDelete" => admin::force_delete(request).await,
        "restore" => admin::restore(request).await,
        "os-resetState" => admin::reset_state(request).await,
        "migrate" => migrate::migrate(request).await,
        "os-migrateLive" => migrate::live_migrate(request).await,
        "evacuate" => evacuate::evacuate(request).await,
        "trigger_crash_dump" => admin::crash_dump(request).await,
        "addFixedIp" => groups::add_fixed_ip(request).await,
        "removeFixedIp" => groups::remove_fixed_ip(request).await,
        "addFloatingIp" => floating::add(request).await,
        "removeFloatingIp" => floating::remove(request).await,
        "injectNetworkInfo" => admin::inject_network_info(request).await,
        "resetNetwork" => Err(Fault::new(StatusCode::GONE, "This resource is no longer available. No forwarding address is given.")),
        "os-getConsoleOutput" => console::output(request).await,
        "os-getVNCConsole" | "os-getSerialConsole" | "os-getSPICEConsole" | "os-getRDPConsole" => console::old(request, &key).await,
        key => Err(Fault::bad_request(format!("There is no such action: {key}"))),
    }
}

/// What is gone from this microversion on.
pub fn no_longer() -> Fault {
    Fault::not_found("The resource could not be found.")
}

/// A request for an action, before its schema is checked.
pub struct Action {
    pub cx: Cx,
    pub id: String,
    pub body: Value,
}

impl Action {
    pub fn check(&self, schema: &Schema) -> Result<(), Fault> {
        schema.check_body(&self.body, self.cx.version)
    }

    /// For the many that say nothing but their key: the original takes null or anything for most of these.
    pub fn check_bare(&self, key: &'static str) -> Result<(), Fault> {
        self.check(&schemas::anything(key))
    }
}

pub fn accepted() -> Response {
    StatusCode::ACCEPTED.into_response()
}
