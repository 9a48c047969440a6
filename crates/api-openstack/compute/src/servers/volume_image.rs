//! Images of servers that start from volumes: snapshots of the volumes, and an image without bytes that says how servers are made of them.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use unkai_model::compute::Server;
use unkai_model::image::{ContainerFormat, DiskFormat, Image, ImageSpec, Visibility};
use unkai_model::volume::{Attachment, Snapshot};
use unkai_model::{Id, Meta};
use unkai_store::Tx;
use unkai_volume::verbs::{self, Wanted};

use super::snapshot::not_inherited;
use super::volumes;
use crate::Fault;

pub fn take(tx: &mut Tx, server: &Server, name: &str, said: &BTreeMap<String, String>) -> Result<Id<Image>, Fault> {
    let attached: Vec<_> = volumes::attached(&tx.view(), &server.meta.id).filter(|attachment| attachment.is_wanted()).collect();
    let mut mapping = Vec::new();
    for attachment in &attached {
        let wanted = Wanted { user: server.spec.user.clone(), name: format!("snapshot for {name}"), force: true, ..Wanted::default() };
        let snapshot = verbs::snapshot(tx, &attachment.volume, wanted)?;
        mapping.push(stored(&snapshot, attachment));
    }
    mapping.extend(local(server));
    let root = volumes::root(&tx.view(), &server.meta.id);
    let base = root.map(|volume| volume.spec.image_metadata.clone()).unwrap_or_default();
    let min_ram_mib = base.get("min_ram").and_then(|least| least.parse().ok()).unwrap_or(0);
    let mut properties: BTreeMap<String, String> = base.into_iter().filter(|(key, _)| inherited(key)).collect();
    for (key, value) in [
        ("image_type", "snapshot"),
        ("instance_uuid", server.meta.id.as_str()),
        ("user_id", &server.spec.user),
        ("root_device_name", "/dev/vda"),
        ("bdm_v2", "True"),
    ] {
        properties.insert(key.into(), value.into());
    }
    properties.extend(said.iter().map(|(key, value)| (key.clone(), value.clone())));
    properties.insert("block_device_mapping".into(), Value::from(mapping).to_string());
    let mut meta = Meta::new(tx.new_id()).named(name);
    meta.project = server.meta.project.clone();
    let spec = ImageSpec {
        visibility: Visibility::Private,
        disk_format: Some(DiskFormat::Qcow2),
        container_format: Some(ContainerFormat::Bare),
        min_ram_mib,
        properties,
        ..ImageSpec::default()
    };
    Ok(tx.insert(Image::hollow(meta, spec))?.meta.id.clone())
}

/// What a volume notes of its image beside the image's properties.
const OF_THE_IMAGE: [&str; 8] = ["checksum", "container_format", "disk_format", "image_id", "image_name", "min_disk", "min_ram", "size"];

fn inherited(key: &str) -> bool {
    !not_inherited(key) && !OF_THE_IMAGE.contains(&key)
}

/// In the words in which images keep it, with every key that readers look for.
fn stored(snapshot: &Snapshot, attachment: &Attachment) -> Value {
    json!({
        "source_type": "snapshot",
        "destination_type": "volume",
        "snapshot_id": snapshot.meta.id,
        "volume_size": snapshot.size_gib,
        "boot_index": attachment.boot_index,
        "device_name": attachment.device,
        "disk_bus": attachment.bus,
        "device_type": "disk",
        "delete_on_termination": attachment.delete_on_termination,
        "tag": attachment.tag,
        "guest_format": null,
        "image_id": null,
        "no_device": null,
        "volume_id": null,
        "volume_type": null,
    })
}

/// Its other local disks, which begin anew.
fn local(server: &Server) -> impl Iterator<Item = Value> {
    let launch = &server.spec.launch;
    let blank = |size: u64, format: Option<&str>| {
        json!({
            "source_type": "blank", "destination_type": "local", "volume_size": size, "guest_format": format, "boot_index": -1,
            "device_type": "disk", "delete_on_termination": true,
        })
    };
    let ephemeral = Some(launch.ephemeral_gib()).filter(|size| *size > 0).map(|size| blank(size, None));
    let swap = Some(launch.swap_mib()).filter(|size| *size > 0).map(|size| blank(size, Some("swap")));
    ephemeral.into_iter().chain(swap)
}
