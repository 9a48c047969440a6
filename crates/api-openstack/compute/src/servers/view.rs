//! Rendering servers for a microversion.
//!
//! A list of a thousand is rendered in milliseconds, so bodies are serialised straight from the documents: no tree of values is
//! built.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};
use sha2::{Digest, Sha224};
use unkai_model::compute::{Phase, Server};
use unkai_model::network::Port;
use unkai_openstack::{iso, iso_z};

use super::addresses::Addresses;
use super::renderer::{Renderer, ports_of};
use super::state::State;
use super::volumes;

/// How much of a server an answer shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Id, name, links.
    Brief,
    /// What update and rebuild answer before 2.75.
    Core,
    /// Everything, as a list says it.
    Listed,
    /// Everything.
    Full,
}

impl<'a> Renderer<'a> {
    pub fn body(&'a self, server: &'a Server, extent: Extent) -> Body<'a> {
        let (state, ports) = match extent {
            Extent::Brief => (None, Vec::new()),
            _ => (Some(self.state(server)), ports_of(self.view, server)),
        };
        Body { renderer: self, server, extent, state, ports, extra: BTreeMap::new() }
    }
}

/// One server, ready to be serialised.
pub struct Body<'a> {
    renderer: &'a Renderer<'a>,
    server: &'a Server,
    extent: Extent,
    /// Absent in the brief form, which shows nothing of it.
    state: Option<State>,
    ports: Vec<Arc<Port>>,
    /// What only some answers have: `adminPass`.
    pub extra: BTreeMap<&'static str, serde_json::Value>,
}

#[derive(Serialize)]
struct Link {
    rel: &'static str,
    href: String,
}

#[derive(Serialize)]
struct Linked<'a> {
    id: &'a str,
    links: [Link; 1],
}

/// An image inside a server; its properties from 2.98 on.
#[derive(Serialize)]
struct ImageBody<'a> {
    id: &'a str,
    links: [Link; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    properties: Option<&'a BTreeMap<String, String>>,
}

impl Body<'_> {
    fn shows_all(&self) -> bool {
        matches!(self.extent, Extent::Listed | Extent::Full)
    }

    fn links(&self) -> [Link; 2] {
        let id = &self.server.meta.id;
        [
            Link { rel: "self", href: self.renderer.self_link(id) },
            Link { rel: "bookmark", href: self.renderer.bookmark("servers", id.as_str()) },
        ]
    }

    fn linked<'s>(&self, collection: &str, id: &'s str) -> Linked<'s> {
        Linked { id, links: [Link { rel: "bookmark", href: self.renderer.bookmark(collection, id) }] }
    }
}

impl Serialize for Body<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &self.server.meta.id)?;
        map.serialize_entry("name", &self.server.meta.name)?;
        map.serialize_entry("links", &self.links())?;
        if let Some(state) = &self.state {
            self.core(&mut map, state)?;
            if self.shows_all() {
                self.full(&mut map, state)?;
            }
        }
        for (key, value) in &self.extra {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl Body<'_> {
    /// The parts that every answer with a server in it has.
    fn core<M: SerializeMap>(&self, map: &mut M, state: &State) -> Result<(), M::Error> {
        let (server, spec, version) = (self.server, &self.server.spec, self.renderer.cx.version);
        map.serialize_entry("status", state.status())?;
        map.serialize_entry("tenant_id", server.meta.project.as_ref().map_or("", |p| p.as_str()))?;
        map.serialize_entry("user_id", &spec.user)?;
        map.serialize_entry("metadata", &spec.metadata)?;
        map.serialize_entry("hostId", &host_id(server))?;
        match &spec.launch.image {
            Some(image) => {
                let properties = version.at_least(98).then_some(&spec.launch.image_properties);
                let Linked { id, links } = self.linked("images", image.as_str());
                map.serialize_entry("image", &ImageBody { id, links, properties })?;
            }
            None => map.serialize_entry("image", "")?,
        }
        if version.at_least(47) {
            map.serialize_entry("flavor", &FlavorBody(&spec.launch.flavor))?;
        } else {
            map.serialize_entry("flavor", &self.linked("flavors", &spec.launch.flavor.id))?;
        }
        map.serialize_entry("created", &iso_z(server.meta.created))?;
        map.serialize_entry("updated", &iso_z(server.meta.updated))?;
        let addresses = Addresses { renderer: self.renderer, ports: &self.ports, extended: self.shows_all() };
        if state.vm == unkai_model::compute::VmState::Building {
            map.serialize_entry("addresses", &BTreeMap::<&str, ()>::new())?;
        } else {
            map.serialize_entry("addresses", &addresses)?;
        }
        map.serialize_entry("accessIPv4", &spec.access_ipv4.map_or_else(String::new, |a| a.to_string()))?;
        map.serialize_entry("accessIPv6", &spec.access_ipv6.map_or_else(String::new, |a| a.to_string()))?;
        map.serialize_entry("OS-DCF:diskConfig", if spec.launch.manual_disk { "MANUAL" } else { "AUTO" })?;
        if matches!(state.status(), "ACTIVE" | "BUILD" | "REBUILD" | "RESIZE" | "VERIFY_RESIZE" | "MIGRATING") {
            map.serialize_entry("progress", &0)?;
        }
        if matches!(state.status(), "ERROR" | "DELETED") {
            self.fault(map)?;
        }
        if version.at_least(9) {
            map.serialize_entry("locked", &spec.lock.is_some())?;
        }
        if version.at_least(19) {
            map.serialize_entry("description", &spec.description)?;
        }
        if version.at_least(26) {
            map.serialize_entry("tags", &spec.tags)?;
        }
        if version.at_least(63) {
            map.serialize_entry("trusted_image_certificates", &spec.launch.trusted_certs)?;
        }
        if version.at_least(71) && self.extent != Extent::Listed {
            map.serialize_entry("server_groups", spec.wish.group.as_slice())?;
        }
        if version.at_least(73) {
            map.serialize_entry("locked_reason", &spec.lock.as_ref().and_then(|lock| lock.reason.as_deref()))?;
        }
        if version.at_least(96) {
            map.serialize_entry("pinned_availability_zone", &spec.wish.zone)?;
        }
        if version.at_least(100) {
            map.serialize_entry("scheduler_hints", &spec.wish.hints)?;
        }
        Ok(())
    }

    fn full<M: SerializeMap>(&self, map: &mut M, state: &State) -> Result<(), M::Error> {
        let (server, spec, version) = (self.server, &self.server.spec, self.renderer.cx.version);
        map.serialize_entry("OS-EXT-AZ:availability_zone", &self.renderer.zone(server))?;
        map.serialize_entry("config_drive", if spec.launch.config_drive { "True" } else { "" })?;
        map.serialize_entry("key_name", &spec.launch.key_name)?;
        map.serialize_entry("OS-SRV-USG:launched_at", &server.status.timeline.launched.map(iso))?;
        map.serialize_entry("OS-SRV-USG:terminated_at", &server.status.deleted.map(iso))?;
        if self.ports.iter().any(|port| !port.security_groups.is_empty()) {
            map.serialize_entry("security_groups", &Groups(self))?;
        }
        map.serialize_entry("OS-EXT-STS:task_state", &state.task)?;
        map.serialize_entry("OS-EXT-STS:vm_state", state.vm_name())?;
        map.serialize_entry("OS-EXT-STS:power_state", &state.power)?;
        map.serialize_entry("os-extended-volumes:volumes_attached", &Volumes(self))?;
        if self.renderer.cx.is_admin() {
            self.attributes(map)?;
        } else if version.at_least(90) {
            map.serialize_entry("OS-EXT-SRV-ATTR:hostname", &spec.launch.hostname)?;
        }
        Ok(())
    }

    /// What only administrators see.
    fn attributes<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let (server, launch, version) = (self.server, &self.server.spec.launch, self.renderer.cx.version);
        let host = server.status.host.as_ref().map(|host| self.renderer.host(host));
        let name = host.as_ref().map(|host| host.name.as_str());
        map.serialize_entry("OS-EXT-SRV-ATTR:host", &name)?;
        map.serialize_entry("OS-EXT-SRV-ATTR:hypervisor_hostname", &name)?;
        map.serialize_entry("OS-EXT-SRV-ATTR:instance_name", &instance_name(server))?;
        if version.at_least(3) {
            map.serialize_entry("OS-EXT-SRV-ATTR:reservation_id", &launch.reservation)?;
            map.serialize_entry("OS-EXT-SRV-ATTR:launch_index", &launch.launch_index)?;
            map.serialize_entry("OS-EXT-SRV-ATTR:hostname", &launch.hostname)?;
            map.serialize_entry("OS-EXT-SRV-ATTR:kernel_id", "")?;
            map.serialize_entry("OS-EXT-SRV-ATTR:ramdisk_id", "")?;
            map.serialize_entry("OS-EXT-SRV-ATTR:root_device_name", "/dev/vda")?;
            if !self.extra.contains_key("user_data") {
                map.serialize_entry("OS-EXT-SRV-ATTR:user_data", &launch.user_data)?;
            }
        }
        if version.at_least(16) {
            map.serialize_entry("host_status", host.as_ref().map_or("", |host| host.status))?;
        }
        Ok(())
    }

    fn fault<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        #[derive(Serialize)]
        struct FaultBody<'f> {
            code: u16,
            created: String,
            message: &'f str,
            #[serde(skip_serializing_if = "Option::is_none")]
            details: Option<&'f str>,
        }
        let (status, admin) = (&self.server.status, self.renderer.cx.is_admin());
        let body = match (&status.fault, &status.observed.phase) {
            (Some(fault), _) => FaultBody {
                code: fault.code,
                created: iso_z(fault.at),
                message: &fault.message,
                details: Some(fault.details.as_str()).filter(|details| !details.is_empty() && (admin || fault.code != 500)),
            },
            (None, Phase::Failed(why)) => FaultBody {
                code: 500,
                created: iso_z(status.observed.since.unwrap_or(self.server.meta.updated)),
                message: why,
                details: None,
            },
            _ => return Ok(()),
        };
        map.serialize_entry("fault", &body)
    }
}

/// The name under which hypervisors know it, as the original makes it up.
pub fn instance_name(server: &Server) -> String {
    let id = server.meta.id.as_str();
    format!("instance-{}", &id[id.len().saturating_sub(8)..])
}

/// Tells tenants which of their servers share a host, without telling which host.
pub fn host_id(server: &Server) -> String {
    let Some(host) = &server.status.host else { return String::new() };
    let mut hash = Sha224::new();
    hash.update(server.meta.project.as_ref().map_or("", |p| p.as_str()));
    hash.update(host.as_str());
    hex::encode(hash.finalize())
}

/// A flavor inside a server, from 2.47 on.
struct FlavorBody<'a>(&'a unkai_model::compute::FlavorCopy);

impl Serialize for FlavorBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(7))?;
        map.serialize_entry("vcpus", &self.0.vcpus)?;
        map.serialize_entry("ram", &self.0.ram_mib)?;
        map.serialize_entry("disk", &self.0.disk_gib)?;
        map.serialize_entry("ephemeral", &self.0.ephemeral_gib)?;
        map.serialize_entry("swap", &self.0.swap_mib)?;
        map.serialize_entry("original_name", &self.0.name)?;
        map.serialize_entry("extra_specs", &self.0.extra_specs)?;
        map.end()
    }
}

/// The volumes of a server; from 2.3 on with what happens to each when the server ends.
struct Volumes<'a, 'b>(&'a Body<'b>);

impl Serialize for Volumes<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct One<'v> {
            id: &'v str,
            #[serde(skip_serializing_if = "Option::is_none")]
            delete_on_termination: Option<bool>,
        }
        let Body { renderer, server, .. } = self.0;
        let mut list = serializer.serialize_seq(None)?;
        for one in volumes::attached(renderer.view, &server.meta.id) {
            let delete_on_termination = renderer.cx.version.at_least(3).then_some(one.delete_on_termination);
            list.serialize_element(&One { id: one.volume.as_str(), delete_on_termination })?;
        }
        list.end()
    }
}

/// The names of the security groups of a server's ports, each once.
struct Groups<'a, 'b>(&'a Body<'b>);

impl Serialize for Groups<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Named<'n> {
            name: &'n str,
        }
        let ids = self.0.ports.iter().flat_map(|port| &port.security_groups);
        let mut names: Vec<Arc<str>> = ids.map(|id| self.0.renderer.group_name(id)).collect();
        names.sort();
        names.dedup();
        let mut list = serializer.serialize_seq(Some(names.len()))?;
        for name in &names {
            list.serialize_element(&Named { name })?;
        }
        list.end()
    }
}
