//! A volume as callers are shown it.

use serde_json::{Value, json};
use unkai_model::compute::DEFAULT_ZONE;
use unkai_model::volume::{AttachState, Attachment, Source, Volume, VolumeType};
use unkai_openstack::iso;
use unkai_store::View;

use crate::admin::full_name;
use crate::cx::Cx;
use crate::page::links;
use crate::verbs;

/// For one request at one moment.
#[derive(Clone, Copy)]
pub struct Shown<'a> {
    pub cx: &'a Cx,
    pub view: &'a View,
}

impl Shown<'_> {
    pub fn brief(&self, volume: &Volume) -> Value {
        let id = &volume.meta.id;
        json!({ "id": id, "name": volume.meta.name, "links": links(self.cx, &format!("volumes/{id}")) })
    }

    /// All there is to know.
    pub fn full(&self, volume: &Volume) -> Value {
        let (spec, cx) = (&volume.spec, self.cx);
        let mut body = self.changed(volume);
        let mut say = |key: &str, value: Value| body[key] = value;
        say("os-vol-tenant-attr:tenant_id", json!(volume.meta.project));
        if !spec.image_metadata.is_empty() {
            say("volume_image_metadata", json!(spec.image_metadata));
        }
        if cx.is_admin() {
            say("os-vol-host-attr:host", json!(self.backend(volume)));
            say("os-vol-mig-status-attr:migstat", Value::Null);
            say("os-vol-mig-status-attr:name_id", Value::Null);
        }
        body
    }

    /// What those see who made or changed it.
    pub fn changed(&self, volume: &Volume) -> Value {
        let (spec, cx) = (&volume.spec, self.cx);
        let kind = self.view.get(&spec.volume_type);
        let mut body = json!({
            "id": volume.meta.id,
            "name": volume.meta.name,
            "description": spec.description,
            "status": verbs::state(self.view, volume).as_str(),
            "size": spec.size_gib,
            "availability_zone": zone(volume),
            "created_at": iso(volume.meta.created),
            "updated_at": iso(volume.meta.updated),
            "attachments": self.attachments(volume),
            "volume_type": kind.as_ref().map(|kind: &std::sync::Arc<VolumeType>| kind.meta.name.clone()),
            "snapshot_id": match &spec.source { Source::Snapshot(id) => Some(id), _ => None },
            "source_volid": match &spec.source { Source::Volume(id) => Some(id), _ => None },
            "metadata": spec.metadata,
            "links": links(cx, &format!("volumes/{}", volume.meta.id)),
            "user_id": spec.user,
            "bootable": if spec.bootable { "true" } else { "false" },
            "encrypted": spec.key.is_some(),
            "multiattach": spec.multi_attach,
            "migration_status": null,
            "replication_status": null,
            "consistencygroup_id": null,
        });
        let mut say = |key: &str, value: Value| body[key] = value;
        for (minor, key, value, admin) in [
            (13, "group_id", Value::Null, false),
            (21, "provider_id", Value::Null, true),
            (48, "service_uuid", json!(volume.status.carrier), false),
            (48, "shared_targets", json!(false), false),
            (61, "cluster_name", Value::Null, true),
            (63, "volume_type_id", json!(spec.volume_type), false),
            (65, "consumes_quota", json!(true), false),
        ] {
            if cx.version.at_least(minor) && (!admin || cx.is_admin()) {
                say(key, value);
            }
        }
        if let (Source::Backup(id), true) = (&spec.source, cx.version.at_least(47)) {
            say("backup_id", json!(id));
        }
        body
    }

    /// Where it is, of which an administrator may know.
    fn backend(&self, volume: &Volume) -> Option<String> {
        self.view.get(volume.status.pool.as_ref()?).map(|pool| full_name(&pool))
    }

    fn attachments(&self, volume: &Volume) -> Vec<Value> {
        let all = self.view.by_index::<Attachment>("volume", volume.meta.id.as_str());
        let attached = all.filter(|one| matches!(one.state, AttachState::Attached | AttachState::Detaching));
        attached.map(|attachment| self.attachment(&attachment)).collect()
    }

    /// The use of a volume as part of the volume.
    fn attachment(&self, attachment: &Attachment) -> Value {
        let server = attachment.server.as_ref().and_then(|id| self.view.get(id));
        let host = server.and_then(|server| self.view.get(server.status.host.as_ref()?)).map(|host| host.meta.name.clone());
        let said = || attachment.connector.as_ref()?.get("host")?.as_str().map(str::to_owned);
        json!({
            "id": attachment.volume,
            "volume_id": attachment.volume,
            "attachment_id": attachment.meta.id,
            "server_id": attachment.server,
            "host_name": host.or_else(said).filter(|_| self.cx.is_admin()),
            "device": attachment.device,
            "attached_at": attachment.attached_at.map(iso),
        })
    }
}

/// The availability zone that was asked for; else the one that everything is in.
pub fn zone(volume: &Volume) -> &str {
    volume.spec.zone.as_deref().unwrap_or(DEFAULT_ZONE)
}
