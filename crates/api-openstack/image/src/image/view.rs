//! How an image looks to clients. Rendered straight from the document, for long lists.

use serde::ser::{Serialize, SerializeMap, Serializer};
use unkai_model::Timestamp;
use unkai_model::image::Image;
use unkai_openstack::iso_z;

/// An image as JSON.
pub struct ImageView<'a>(pub &'a Image);

const HASH: &str = "sha512";

impl Serialize for ImageView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Image { meta, spec, status } = self.0;
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in &spec.properties {
            map.serialize_entry(name, value)?;
        }
        let path = format!("/v2/images/{}", meta.id);
        let content = status.content.as_ref();
        let staged = status.incoming.as_ref().and_then(|incoming| incoming.staged.as_ref());
        map.serialize_entry("id", &meta.id)?;
        map.serialize_entry("name", &(!meta.name.is_empty()).then_some(&meta.name))?;
        map.serialize_entry("status", status.state.as_str())?;
        map.serialize_entry("visibility", spec.visibility.as_str())?;
        map.serialize_entry("owner", &meta.project)?;
        map.serialize_entry("disk_format", &spec.disk_format)?;
        map.serialize_entry("container_format", &spec.container_format)?;
        map.serialize_entry("size", &staged.map(|content| content.size).or(self.0.size()))?;
        map.serialize_entry("virtual_size", &content.and_then(|content| content.virtual_size))?;
        map.serialize_entry("checksum", &content.map(|content| &content.md5))?;
        map.serialize_entry("os_hash_algo", &content.map(|_| HASH))?;
        map.serialize_entry("os_hash_value", &content.map(|content| &content.sha512))?;
        map.serialize_entry("protected", &spec.protected)?;
        map.serialize_entry("os_hidden", &spec.hidden)?;
        map.serialize_entry("min_ram", &spec.min_ram_mib)?;
        map.serialize_entry("min_disk", &spec.min_disk_gib)?;
        map.serialize_entry("tags", &spec.tags)?;
        map.serialize_entry("created_at", &time(meta.created))?;
        map.serialize_entry("updated_at", &time(meta.updated))?;
        map.serialize_entry("self", &path)?;
        map.serialize_entry("file", &format!("{path}/file"))?;
        map.serialize_entry("schema", "/v2/schemas/image")?;
        map.end()
    }
}

/// Times of this service.
pub fn time(time: Timestamp) -> String {
    iso_z(time)
}
