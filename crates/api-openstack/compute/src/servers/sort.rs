//! `sort_key` and `sort_dir` of lists of servers.

use std::cmp::Ordering;

use unkai_model::compute::Server;

use super::renderer::Renderer;
use crate::Fault;
use crate::query::Query;

/// The keys that sort something. Other legal ones are accepted before 2.75 and sort nothing.
pub const KEYS: [&str; 30] = [
    "access_ip_v4",
    "access_ip_v6",
    "auto_disk_config",
    "availability_zone",
    "config_drive",
    "created_at",
    "display_description",
    "display_name",
    "host",
    "hostname",
    "image_ref",
    "instance_type_id",
    "kernel_id",
    "key_name",
    "launch_index",
    "launched_at",
    "locked",
    "locked_by",
    "node",
    "power_state",
    "progress",
    "project_id",
    "ramdisk_id",
    "root_device_name",
    "task_state",
    "terminated_at",
    "updated_at",
    "user_id",
    "uuid",
    "vm_state",
];

/// Keys that the original ignores for the sake of old clients.
pub const IGNORED: [&str; 22] = [
    "architecture",
    "cell_name",
    "cleaned",
    "default_ephemeral_device",
    "default_swap_device",
    "deleted",
    "deleted_at",
    "disable_terminate",
    "ephemeral_gb",
    "ephemeral_key_uuid",
    "id",
    "key_data",
    "launched_on",
    "locked",
    "memory_mb",
    "os_type",
    "reservation_id",
    "root_gb",
    "shutdown_terminate",
    "user_data",
    "vcpus",
    "vm_mode",
];

/// Keys with `true` for descending.
pub struct Order(Vec<(String, bool)>);

impl Order {
    pub fn parse(query: &Query) -> Result<Order, Fault> {
        let keys: Vec<&str> = query.all("sort_key").collect();
        let dirs: Vec<&str> = query.all("sort_dir").collect();
        if let Some(odd) = dirs.iter().find(|dir| !matches!(**dir, "asc" | "desc")) {
            return Err(Fault::bad_request(format!("Unknown sort direction, must be 'desc' or 'asc': {odd}")));
        }
        if dirs.len() > keys.len() && !keys.is_empty() {
            return Err(Fault::bad_request("Sort direction size exceeds sort key size"));
        }
        // A direction alone turns the default order; a key without one goes as the first does.
        let first = dirs.first().is_none_or(|dir| *dir == "desc");
        let keys = if keys.is_empty() && !dirs.is_empty() { vec!["created_at"] } else { keys };
        let descending = |no: usize| dirs.get(no).map_or(first, |dir| *dir == "desc");
        Ok(Order(keys.into_iter().enumerate().map(|(no, key)| (key.to_owned(), descending(no))).collect()))
    }

    pub fn is_default(&self) -> bool {
        self.0.is_empty()
    }

    pub fn compare(&self, renderer: &Renderer, a: &Server, b: &Server) -> Ordering {
        let by_keys = self.0.iter().map(|(key, descending)| turn(by_key(renderer, key, a, b), *descending));
        let last = self.0.first().is_none_or(|(_, descending)| *descending);
        let ties = turn((a.meta.created, &a.meta.id).cmp(&(b.meta.created, &b.meta.id)), last);
        by_keys.chain([ties]).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    }
}

fn turn(order: Ordering, descending: bool) -> Ordering {
    if descending { order.reverse() } else { order }
}

fn by_key(renderer: &Renderer, key: &str, a: &Server, b: &Server) -> Ordering {
    let launch = |s: &Server| s.spec.launch.clone();
    match key {
        "display_name" => a.meta.name.cmp(&b.meta.name),
        "display_description" => a.spec.description.cmp(&b.spec.description),
        "created_at" => a.meta.created.cmp(&b.meta.created),
        "updated_at" => a.meta.updated.cmp(&b.meta.updated),
        "launched_at" => a.status.timeline.launched.cmp(&b.status.timeline.launched),
        "terminated_at" => a.status.deleted.cmp(&b.status.deleted),
        "uuid" => a.meta.id.cmp(&b.meta.id),
        "project_id" => a.meta.project.cmp(&b.meta.project),
        "user_id" => a.spec.user.cmp(&b.spec.user),
        "host" | "node" => a.status.host.cmp(&b.status.host),
        "hostname" => launch(a).hostname.cmp(&launch(b).hostname),
        "image_ref" => launch(a).image.cmp(&launch(b).image),
        "instance_type_id" => launch(a).flavor.id.cmp(&launch(b).flavor.id),
        "key_name" => launch(a).key_name.cmp(&launch(b).key_name),
        "launch_index" => launch(a).launch_index.cmp(&launch(b).launch_index),
        "config_drive" => launch(a).config_drive.cmp(&launch(b).config_drive),
        "auto_disk_config" => launch(b).manual_disk.cmp(&launch(a).manual_disk),
        "access_ip_v4" => a.spec.access_ipv4.cmp(&b.spec.access_ipv4),
        "access_ip_v6" => a.spec.access_ipv6.cmp(&b.spec.access_ipv6),
        "availability_zone" => renderer.zone(a).cmp(&renderer.zone(b)),
        "locked" | "locked_by" => a.spec.lock.is_some().cmp(&b.spec.lock.is_some()),
        "vm_state" => renderer.state(a).vm_name().cmp(renderer.state(b).vm_name()),
        "task_state" => renderer.state(a).task.cmp(&renderer.state(b).task),
        "power_state" => renderer.state(a).power.cmp(&renderer.state(b).power),
        _ => Ordering::Equal,
    }
}
