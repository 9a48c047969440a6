//! Images of servers' disks: the document that waits for the agent to bring the bytes.

use std::collections::BTreeMap;

use unkai_model::compute::Server;
use unkai_model::image::{ContainerFormat, DiskFormat, Image, ImageSource, ImageSpec, Visibility};
use unkai_model::{Id, Meta};
use unkai_store::Tx;

use crate::Fault;

/// Properties that say how the old image was proven; they do not hold for the new one.
const NOT_INHERITED: [&str; 2] = ["img_signature", "img_config"];

pub fn not_inherited(key: &str) -> bool {
    NOT_INHERITED.iter().any(|prefix| key.starts_with(prefix))
}

/// Makes the queued image of a server's disk. It inherits the properties of the image the server was made from.
pub fn take(tx: &mut Tx, server: &Server, name: &str, said: BTreeMap<String, String>) -> Result<Id<Image>, Fault> {
    let base = server.spec.launch.image.as_ref().and_then(|id| tx.get(id));
    let inherited = base.iter().flat_map(|image| &image.spec.properties);
    let mut properties: BTreeMap<String, String> =
        inherited.filter(|(key, _)| !not_inherited(key)).map(|(key, value)| (key.clone(), value.clone())).collect();
    properties.insert("image_type".into(), "snapshot".into());
    properties.insert("instance_uuid".into(), server.meta.id.to_string());
    properties.insert("user_id".into(), server.spec.user.clone());
    if let Some(image) = &server.spec.launch.image {
        properties.insert("base_image_ref".into(), image.to_string());
    }
    properties.extend(said);
    let min_disk = base.as_ref().map_or(0, |image| image.spec.min_disk_gib);
    let mut meta = Meta::new(tx.new_id()).named(name);
    meta.project = server.meta.project.clone();
    let spec = ImageSpec {
        visibility: Visibility::Private,
        disk_format: Some(DiskFormat::Qcow2),
        container_format: Some(ContainerFormat::Bare),
        min_disk_gib: min_disk.max(server.spec.launch.flavor.disk_gib),
        min_ram_mib: base.as_ref().map_or(0, |image| image.spec.min_ram_mib),
        properties,
        source: Some(ImageSource { server: server.meta.id.clone(), host: server.status.host.clone() }),
        ..ImageSpec::default()
    };
    Ok(tx.insert(Image::new(meta, spec))?.meta.id.clone())
}
