//! Making servers: `POST /servers`.
//!
//! [`request`] turns the body into what is wanted; [`sources`] looks up image, flavor and key; [`wishes`] reads where it is to go.
//! Everything is written in one transaction: the servers, their ports and the note of the action. Placing them is not done here.

mod name;
mod request;
mod sources;
mod wishes;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde_json::{Value, json};
use unkai_model::compute::{Asked, Launch, Server, ServerSpec, Verb, VmState};
use unkai_model::identity::Project;
use unkai_model::{Id, Meta};
use unkai_store::{Tx, View};

use super::cx::Cx;
use super::password::password;
use super::perform::note;
use super::renderer::Renderer;
use super::{availability, disks, ports, schemas};
use crate::Fault;
use crate::admin::quotas;
use crate::body::Body;
pub use name::hostname;
use request::Request;
pub use request::{address, certificates, personality, reference, strings, text};
use sources::Sources;
pub use sources::{active_image, check_content, check_disk, check_metadata, check_ram, disk_size, flavor, image, key, visible_image};
pub use wishes::{check_host, check_zone};

pub async fn create(cx: Cx, body: Body) -> Result<Response, Fault> {
    let body = body.validated(&schemas::CREATE, cx.version)?;
    let project = cx.caller.require_project()?.clone();
    if !cx.caller.may_write(Some(&project)) {
        return Err(Fault::policy("os_compute_api:servers:create"));
    }
    let request = Request::parse(&body)?;
    let answer = Answer::of(&body, &request);
    let (store, caller) = (cx.cloud.store.clone(), cx.clone());
    let made = store.transact(move |tx| make_all(tx, &caller, &project, &request)).await?;
    Ok(answer.render(&cx, &made))
}

/// Makes as many as were asked for, or as many as the quota leaves, but not fewer than the least that was asked for.
fn make_all(tx: &mut Tx, cx: &Cx, project: &Id<Project>, request: &Request) -> Result<Vec<Made>, Fault> {
    let view = tx.view();
    let sources = Sources::find(&view, cx, request)?;
    let wish = wishes::wish(&view, cx, project, request)?;
    let groups = ports::security_groups(&view, project, &request.security_groups)?;
    let count = room(tx, cx, project, &sources, request);
    hold_quota(tx, cx, project, wish.group.as_deref())?;
    let reservation = format!("r-{}", name::letters(&tx.random::<8>()));
    let mut made = Vec::new();
    for index in 0..count {
        let admin_password = request.admin_password.clone().unwrap_or_else(|| password(&tx.random()));
        let id: Id<Server> = tx.new_id();
        let (name, hostname) = request.names(index, count, id.as_str());
        let launch = Launch {
            image: sources.image.as_ref().map(|image| image.meta.id.clone()),
            image_properties: sources.image.as_ref().map(|image| image.spec.properties.clone()).unwrap_or_default(),
            key_name: sources.key.as_ref().map(|(name, _)| name.clone()),
            public_key: sources.key.as_ref().map(|(_, key)| key.clone()),
            user_data: request.user_data.clone(),
            config_drive: request.config_drive,
            admin_password: Some(admin_password.clone()),
            personality: request.personality.clone(),
            reservation: reservation.clone(),
            launch_index: index,
            manual_disk: request.manual_disk,
            boot: sources.disks.boot.clone(),
            less_ephemeral_gib: sources.disks.less_ephemeral_gib,
            less_swap_mib: sources.disks.less_swap_mib,
            ..Launch::new(sources.flavor.clone(), hostname)
        };
        let mut server = Server {
            meta: Meta::new(id.clone()).named(name).owned_by(project.clone()),
            spec: ServerSpec {
                description: request.description.clone(),
                metadata: request.metadata.clone(),
                tags: request.tags.clone(),
                access_ipv4: request.access_ipv4,
                access_ipv6: request.access_ipv6,
                wish: wish.clone(),
                ..ServerSpec::new(cx.caller.user.clone(), launch)
            },
            status: Default::default(),
        };
        availability::turn(&mut server)?;
        server.spec.asked = Some(Asked { verb: Verb::Create, was: VmState::Building, generation: server.meta.generation });
        ports::plug(tx, cx, &mut server, &request.networks, &groups)?;
        disks::make(tx, cx, &mut server, &sources.disks)?;
        tx.insert(server.clone())?;
        note(tx, cx, &server, ("create", "compute__do_build_and_run_instance"), Some(server.meta.generation), true)?;
        made.push(Made { id, admin_password, reservation: reservation.clone() });
    }
    Ok(made)
}

/// What is limited by count and size: the names of limits and of the sums they are about.
const SIZES: [&str; 3] = ["instances", "cores", "ram"];

/// How many more fit under the limits, within what was asked for.
fn room(tx: &Tx, cx: &Cx, project: &Id<Project>, sources: &Sources, request: &Request) -> u32 {
    let view = tx.view();
    let each = |resource: &str| match resource {
        "cores" => i64::from(sources.flavor.vcpus),
        "ram" => sources.flavor.ram_mib as i64,
        _ => 1,
    };
    let left = |resource: &'static str, (key, limit): (String, i64)| match each(resource) {
        0 => i64::MAX,
        _ if limit < 0 => i64::MAX,
        each => (limit - tx.tally(resource, &key)) / each,
    };
    let all =
        SIZES.iter().flat_map(|resource| limits(&view, project, &cx.caller.user, resource).into_iter().map(|one| left(resource, one)));
    let most = all.min().unwrap_or(i64::MAX).max(0);
    u32::try_from(most).unwrap_or(u32::MAX).clamp(request.min_count, request.max_count)
}

/// The keys of sums with their limits: the project's, and the user's own where one was set.
fn limits(view: &View, project: &Id<Project>, user: &str, resource: &str) -> Vec<(String, i64)> {
    let of_project = (project.to_string(), quotas::limit(view, project, None, resource));
    let of_user = (Server::user_key(project.as_str(), user), quotas::limit(view, project, Some(user), resource));
    if of_user.1 == of_project.1 { vec![of_project] } else { vec![of_project, of_user] }
}

/// The transaction fails when the project ends up above its limits.
fn hold_quota(tx: &mut Tx, cx: &Cx, project: &Id<Project>, group: Option<&str>) -> Result<(), Fault> {
    hold_sizes(tx, project, &cx.caller.user);
    if let Some(group) = group {
        let most = quotas::limit(&tx.view(), project, Some(&cx.caller.user), "server_group_members");
        let members = tx.by_index::<Server>("group", group).count() as i64;
        if most >= 0 && members >= most {
            return Err(Fault::forbidden("Quota exceeded, too many servers in group"));
        }
    }
    Ok(())
}

/// Holds the limits on servers, processors and memory for this transaction.
pub fn hold_sizes(tx: &mut Tx, project: &Id<Project>, user: &str) {
    let view = tx.view();
    for resource in SIZES {
        for (key, most) in limits(&view, project, user, resource) {
            tx.limit(resource, resource, &key, most);
        }
    }
}

struct Made {
    id: Id<Server>,
    admin_password: String,
    reservation: String,
}

/// What the answer repeats of the request.
struct Answer {
    security_groups: Value,
    manual_disk: bool,
    reservation_only: bool,
}

impl Answer {
    fn of(body: &Value, request: &Request) -> Answer {
        let named = body["server"].get("security_groups").cloned();
        Answer {
            security_groups: named.unwrap_or_else(|| json!([{ "name": "default" }])),
            manual_disk: request.manual_disk,
            reservation_only: request.return_reservation,
        }
    }

    fn render(self, cx: &Cx, made: &[Made]) -> Response {
        let Some(first) = made.first() else { return StatusCode::ACCEPTED.into_response() };
        if self.reservation_only {
            return (StatusCode::ACCEPTED, Json(json!({ "reservation_id": first.reservation }))).into_response();
        }
        let view = cx.cloud.store.view();
        let renderer = Renderer::new(cx, &view);
        let link = renderer.self_link(&first.id);
        let body = json!({ "server": {
            "id": first.id,
            "links": [
                { "rel": "self", "href": link },
                { "rel": "bookmark", "href": renderer.bookmark("servers", first.id.as_str()) },
            ],
            "OS-DCF:diskConfig": if self.manual_disk { "MANUAL" } else { "AUTO" },
            "security_groups": self.security_groups,
            "adminPass": first.admin_password,
        }});
        (StatusCode::ACCEPTED, [(header::LOCATION, link)], Json(body)).into_response()
    }
}
