//! How compute showed an image.

use serde_json::{Value, json};
use unkai_model::image::{Image, ImageState};
use unkai_openstack::iso_z;

use super::super::cx::Cx;

/// `ACTIVE`, `SAVING` and so on, and how far it is.
pub fn status(image: &Image) -> (&'static str, u8) {
    match image.status.state {
        ImageState::Active => ("ACTIVE", 100),
        ImageState::Queued if image.status.refusal.is_some() => ("ERROR", 0),
        ImageState::Queued => ("SAVING", 25),
        ImageState::Saving | ImageState::Uploading | ImageState::Importing => ("SAVING", 50),
        ImageState::Deactivated => ("UNKNOWN", 0),
    }
}

fn links(cx: &Cx, id: &str) -> Value {
    let base = format!("{}/compute", cx.cloud.url);
    json!([
        { "rel": "self", "href": format!("{base}/v2.1/images/{id}") },
        { "rel": "bookmark", "href": format!("{base}/images/{id}") },
        { "rel": "alternate", "type": "application/vnd.openstack.image", "href": format!("{}/image/images/{id}", cx.cloud.url) },
    ])
}

pub fn brief(cx: &Cx, image: &Image) -> Value {
    json!({ "id": image.meta.id, "name": image.meta.name, "links": links(cx, image.meta.id.as_str()) })
}

pub fn full(cx: &Cx, image: &Image) -> Value {
    let (status, progress) = status(image);
    let mut body = json!({
        "id": image.meta.id,
        "name": image.meta.name,
        "links": links(cx, image.meta.id.as_str()),
        "minRam": image.spec.min_ram_mib,
        "minDisk": image.spec.min_disk_gib,
        "metadata": image.spec.properties,
        "created": iso_z(image.meta.created),
        "updated": iso_z(image.meta.updated),
        "status": status,
        "progress": progress,
        "OS-EXT-IMG-SIZE:size": image.size(),
    });
    if let Some(server) = image.spec.properties.get("instance_uuid") {
        let base = format!("{}/compute", cx.cloud.url);
        body["server"] = json!({ "id": server, "links": [
            { "rel": "self", "href": format!("{base}/v2.1/servers/{server}") },
            { "rel": "bookmark", "href": format!("{base}/servers/{server}") },
        ]});
    }
    body
}
