//! Rebuild: the same server on a new root disk.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::Value;
use unkai_model::Id;
use unkai_model::compute::{BootDisk, Run, Server, Verb, VmState};
use unkai_store::{Tx, View};

use super::super::availability;
use super::super::create::{self, check_metadata, strings, text};
use super::super::cx::Cx;
use super::super::password::password;
use super::super::perform::{Rule, look, perform};
use super::super::renderer::Renderer;
use super::super::schemas;
use super::super::show::One;
use super::super::state::State;
use super::super::update::apply;
use super::super::view::Extent;
use super::super::volumes;
use super::Action;
use crate::Fault;

static REBUILD: Rule = Rule::verb(
    "rebuild",
    "os_compute_api:servers:rebuild",
    &[VmState::Active, VmState::Stopped, VmState::Error],
    "compute_rebuild_instance",
);

pub async fn rebuild(request: Action) -> Result<Response, Fault> {
    request.check(&schemas::REBUILD)?;
    let wanted = request.body["rebuild"].clone();
    create::certificates(&wanted)?;
    let cx = request.cx.clone();
    let password =
        perform(&request.cx, &request.id, &REBUILD, move |tx, server, state| build_anew(tx, &cx, server, state, &wanted)).await?;
    answer(&request.cx, &request.id, password).await
}

fn build_anew(tx: &mut Tx, cx: &Cx, server: &mut Server, state: &State, wanted: &Value) -> Result<String, Fault> {
    let view = tx.view();
    let image = text(wanted, "imageRef").unwrap_or_default();
    let password = text(wanted, "adminPass").unwrap_or_else(|| password(&tx.random()));
    if wanted.get("metadata").is_some() {
        server.spec.metadata = strings(wanted, "metadata");
        check_metadata(&view, cx, server.spec.metadata.len())?;
        availability::turn(server)?;
    }
    server.ask(Verb::Rebuild, state.vm);
    server.spec.incarnation += 1;
    match server.spec.launch.boot {
        BootDisk::Local => {
            let image = create::image(&view, cx, &image, &server.spec.launch.flavor)?;
            server.spec.launch.image = Some(image.meta.id.clone());
            server.spec.launch.image_properties = image.spec.properties.clone();
        }
        BootDisk::Volume => keeps_volume(&view, cx, server, &image)?,
    }
    server.spec.launch.admin_password = Some(password.clone());
    if state.vm == VmState::Error {
        server.spec.run = Run::Running;
    }
    if wanted.get("personality").is_some() {
        server.spec.launch.personality = create::personality(wanted)?;
    }
    if wanted.get("user_data").is_some() {
        server.spec.launch.user_data = text(wanted, "user_data");
    }
    if wanted.get("key_name").is_some() {
        change_key(&view, server, text(wanted, "key_name"))?;
    }
    apply(server, wanted);
    Ok(password)
}

/// A root volume stays as it is, so only the image that it was made from may be named: nothing can be asked for that would write it anew,
/// which is what naming any image means from 2.93 on.
fn keeps_volume(view: &View, cx: &Cx, server: &Server, image: &str) -> Result<(), Fault> {
    let refuse = |why: &str| Err(Fault::bad_request(format!("Image {image} is unacceptable: {why}")));
    let volume = volumes::root(view, &server.meta.id).ok_or_else(|| Fault::bad_request("The server has no root volume."))?;
    let found = create::active_image(view, cx, image)?;
    create::check_ram(found.spec.min_ram_mib, &server.spec.launch.flavor)?;
    if volume.spec.image_metadata.get("image_id").map(String::as_str) != Some(image) {
        return refuse("Unable to rebuild with a different image for a volume-backed server.");
    }
    if cx.version.at_least(93) {
        return refuse("Unable to write the root volume of a volume-backed server anew.");
    }
    Ok(())
}

/// The key is looked for among those of the server's owner; none takes the present one away.
fn change_key(view: &View, server: &mut Server, name: Option<String>) -> Result<(), Fault> {
    let key = name.map(|name| create::key(view, &server.spec.user, &name)).transpose()?;
    (server.spec.launch.key_name, server.spec.launch.public_key) = key.unzip();
    Ok(())
}

async fn answer(cx: &Cx, id: &str, password: String) -> Result<Response, Fault> {
    let (view, server, _) = look(cx, id).await?;
    let renderer = Renderer::new(cx, &view);
    let extent = if cx.version.at_least(75) { Extent::Full } else { Extent::Core };
    let mut body = renderer.body(&server, extent);
    body.extra.insert("adminPass", password.into());
    if cx.version.at_least(54) && extent != Extent::Full {
        body.extra.insert("key_name", serde_json::json!(server.spec.launch.key_name));
    }
    if cx.version.at_least(57) {
        body.extra.insert("user_data", serde_json::json!(server.spec.launch.user_data));
    }
    let link = renderer.self_link(&Id::new(id));
    Ok((StatusCode::ACCEPTED, [(http::header::LOCATION, link)], Json(One { server: body })).into_response())
}
