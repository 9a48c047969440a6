//! A server as its host needs it.

use std::collections::BTreeMap;

use unkai_link::item::{GuestData, ImageRef, RescueItem, ServerItem};
use unkai_link::migration::MigrationItem;
use unkai_model::Id;
use unkai_model::compute::{BootDisk, Run, Server};
use unkai_model::image::Image;
use unkai_model::network::{FloatingIp, SecurityGroup};
use unkai_store::View;

use crate::placement::zone_of;
use crate::volume;

pub fn server(view: &View, server: &Server, migration: Option<MigrationItem>) -> ServerItem {
    let (spec, launch) = (&server.spec, &server.spec.launch);
    let root = volume::items::root_metadata(view, &server.meta.id);
    let boot = launch.shelved_image.as_ref().or(launch.image.as_ref()).filter(|_| root.is_none());
    let image = boot.and_then(|id| view.get(id));
    // What the disk it starts from says of the machine it needs.
    let properties = root.as_ref().or(image.as_ref().map(|image| &image.spec.properties));
    let property = |name: &str| properties.and_then(|properties| properties.get(name).cloned());
    let named = |name: &str| property(name).and_then(|id| image_ref(view, &Id::new(id)));
    ServerItem {
        id: server.meta.id.clone(),
        generation: server.meta.generation,
        // Before it starts where it came from, it ends here.
        run: if server.goes_back() && spec.run != Run::Deleted { Run::Stopped } else { spec.run },
        off_at_once: server.status.preempted.is_some(),
        incarnation: spec.incarnation,
        hard_reboots: spec.hard_reboots,
        soft_reboots: spec.soft_reboots,
        vcpus: launch.flavor.vcpus,
        memory_mib: launch.flavor.ram_mib,
        root_gib: if root.is_some() || launch.boot == BootDisk::Volume { 0 } else { launch.flavor.disk_gib },
        ephemeral_gib: launch.ephemeral_gib(),
        swap_mib: launch.swap_mib(),
        image: boot.and_then(|id| image_ref(view, id)),
        kernel: named("kernel_id"),
        ramdisk: named("ramdisk_id"),
        hardware: hardware(properties, server),
        config_drive: launch.config_drive,
        volumes: volume::items::uses(view, &server.meta.id),
        ports: spec.ports.iter().map(|port| port.to_string()).collect(),
        rescue: spec.rescue.as_ref().map(|rescue| RescueItem {
            image: rescue.image.as_ref().and_then(|id| image_ref(view, id)),
            admin_password: rescue.admin_password.clone(),
        }),
        leased: server.is_leased(),
        migration,
        guest: guest(view, server),
    }
}

pub fn image_ref(view: &View, id: &Id<Image>) -> Option<ImageRef> {
    let image = view.get(id)?;
    let content = image.status.content.as_ref()?;
    Some(ImageRef {
        id: id.clone(),
        format: image.spec.disk_format?.as_str().to_owned(),
        size: content.size,
        sha512: content.sha512.clone(),
        min_disk_gib: image.spec.min_disk_gib,
    })
}

/// `hw_*` and `os_*` properties of the image, or of the one that the root volume was made from, and `hw:*` of the flavor, which wins.
fn hardware(properties: Option<&BTreeMap<String, String>>, server: &Server) -> BTreeMap<String, String> {
    let from_image = properties.into_iter().flatten().filter(|(key, _)| key.starts_with("hw_") || key.starts_with("os_"));
    let from_flavor = server.spec.launch.flavor.extra_specs.iter().filter(|(key, _)| key.starts_with("hw:"));
    let mut hardware: BTreeMap<_, _> = from_image.map(|(key, value)| (key.clone(), value.clone())).collect();
    hardware.extend(from_flavor.map(|(key, value)| (key.replacen(':', "_", 1), value.clone())));
    hardware
}

fn guest(view: &View, server: &Server) -> GuestData {
    let (spec, launch) = (&server.spec, &server.spec.launch);
    let ports: Vec<_> = spec.ports.iter().filter_map(|port| view.get(port)).collect();
    let mut security_groups: Vec<String> = ports
        .iter()
        .flat_map(|port| &port.security_groups)
        .filter_map(|group| Some(view.get::<SecurityGroup>(group)?.meta.name.clone()))
        .collect();
    security_groups.sort();
    security_groups.dedup();
    let floating = ports.iter().flat_map(|port| view.by_index::<FloatingIp>("port", port.meta.id.as_str()).collect::<Vec<_>>());
    GuestData {
        name: server.meta.name.clone(),
        hostname: launch.hostname.clone(),
        project: server.meta.project.as_ref().map(|project| project.to_string()).unwrap_or_default(),
        zone: server.status.host.as_ref().map(|host| zone_of(view, host)).unwrap_or_default(),
        flavor: launch.flavor.name.clone(),
        reservation: launch.reservation.clone(),
        launch_index: launch.launch_index,
        key_name: launch.key_name.clone(),
        public_key: launch.public_key.clone(),
        user_data: launch.user_data.clone(),
        admin_password: launch.admin_password.clone(),
        metadata: spec.metadata.clone(),
        personality: launch.personality.clone(),
        security_groups,
        floating: floating.filter_map(|ip| Some((ip.target.as_ref()?.address.to_string(), ip.address.to_string()))).collect(),
        port_tags: spec.port_tags.iter().map(|(port, tag)| (port.to_string(), tag.clone())).collect(),
    }
}
