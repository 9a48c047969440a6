//! The body of a create request, read after the schema has passed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde_json::{Map, Value};

use super::super::ports::{Networks, NicWish};
use super::hostname;
use crate::Fault;
use crate::schema::{as_bool, as_int, is_uuid};

pub struct Request {
    pub name: String,
    pub hostname: Option<String>,
    pub flavor: String,
    pub image: Option<String>,
    pub networks: Networks,
    pub security_groups: Vec<String>,
    pub key_name: Option<String>,
    pub user_data: Option<String>,
    pub config_drive: bool,
    pub metadata: BTreeMap<String, String>,
    pub personality: BTreeMap<String, String>,
    pub hints: Map<String, Value>,
    pub zone: Option<String>,
    pub host: Option<String>,
    pub admin_password: Option<String>,
    pub min_count: u32,
    pub max_count: u32,
    pub tags: BTreeSet<String>,
    pub description: Option<String>,
    pub access_ipv4: Option<IpAddr>,
    pub access_ipv6: Option<IpAddr>,
    pub manual_disk: bool,
    pub return_reservation: bool,
}

impl Request {
    pub fn parse(body: &Value) -> Result<Request, Fault> {
        let server = &body["server"];
        let (min_count, max_count) = counts(server)?;
        let image = boot_image(server)?;
        certificates(server)?;
        let hints = ["os:scheduler_hints", "OS-SCH-HNT:scheduler_hints"].iter().find_map(|key| body[*key].as_object());
        let host = text(server, "host").or_else(|| text(server, "hypervisor_hostname"));
        Ok(Request {
            name: text(server, "name").unwrap_or_default(),
            hostname: text(server, "hostname"),
            flavor: reference(&server["flavorRef"]),
            image,
            networks: networks(server)?,
            security_groups: groups(server),
            key_name: text(server, "key_name"),
            user_data: text(server, "user_data"),
            config_drive: as_bool(&server["config_drive"]),
            metadata: strings(server, "metadata"),
            personality: personality(server)?,
            hints: hints.cloned().unwrap_or_default(),
            zone: text(server, "availability_zone"),
            host,
            admin_password: text(server, "adminPass"),
            min_count,
            max_count,
            tags: list(server, "tags").into_iter().collect(),
            description: text(server, "description"),
            access_ipv4: address(server, "accessIPv4"),
            access_ipv6: address(server, "accessIPv6"),
            manual_disk: server["OS-DCF:diskConfig"] == "MANUAL",
            return_reservation: as_bool(&server["return_reservation_id"]),
        })
    }

    /// Display name and host name of one of several.
    pub fn names(&self, index: u32, count: u32, id: &str) -> (String, String) {
        let numbered = |name: &str| if count > 1 { format!("{name}-{}", index + 1) } else { name.to_owned() };
        let name = numbered(&self.name);
        let hostname = self.hostname.as_deref().map_or_else(|| hostname(&name, id), numbered);
        (name, hostname)
    }
}

pub fn text(object: &Value, key: &str) -> Option<String> {
    object[key].as_str().map(str::to_owned)
}

fn list(object: &Value, key: &str) -> Vec<String> {
    object[key].as_array().into_iter().flatten().filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

pub fn address(object: &Value, key: &str) -> Option<IpAddr> {
    object[key].as_str().and_then(|text| text.parse().ok())
}

/// The last part of a link, or the id itself.
pub fn reference(value: &Value) -> String {
    match value {
        Value::String(text) => text.rsplit('/').next().unwrap_or_default().to_owned(),
        other => other.to_string(),
    }
}

/// An object of strings.
pub fn strings(object: &Value, key: &str) -> BTreeMap<String, String> {
    let entries = object[key].as_object().into_iter().flatten();
    entries.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

fn counts(server: &Value) -> Result<(u32, u32), Fault> {
    let count = |key: &str| as_int(&server[key]).map(|count| u32::try_from(count).unwrap_or(u32::MAX));
    let min = count("min_count").unwrap_or(1);
    let max = count("max_count").unwrap_or(min);
    if min > max {
        return Err(Fault::bad_request("min_count must be <= max_count"));
    }
    Ok((min, max))
}

fn groups(server: &Value) -> Vec<String> {
    let groups = server["security_groups"].as_array().into_iter().flatten();
    let mut names: Vec<String> = groups.filter_map(|group| text(group, "name")).collect();
    names.sort();
    names.dedup();
    names
}

fn networks(server: &Value) -> Result<Networks, Fault> {
    let list = match &server["networks"] {
        Value::String(word) if word == "auto" => return Ok(Networks::Auto),
        Value::String(_) => return Ok(Networks::None),
        Value::Array(list) => list,
        _ => return Ok(Networks::Unsaid),
    };
    let wishes: Vec<NicWish> = list.iter().map(nic).collect::<Result<_, _>>()?;
    let mut seen = BTreeSet::new();
    if wishes.iter().filter_map(|wish| wish.port.as_ref()).any(|port| !seen.insert(port)) {
        return Err(Fault::conflict("Port is still in use."));
    }
    Ok(Networks::These(wishes))
}

fn nic(item: &Value) -> Result<NicWish, Fault> {
    let wish =
        NicWish { network: text(item, "uuid"), port: text(item, "port"), fixed_ip: address(item, "fixed_ip"), tag: text(item, "tag") };
    if let (Some(address), Some(port)) = (wish.fixed_ip, &wish.port) {
        let message = format!("Specified Fixed IP '{address}' cannot be used with port '{port}': the two cannot be specified together.");
        return Err(Fault::bad_request(message));
    }
    match (&wish.network, &wish.port) {
        (None, None) => Err(Fault::bad_request("Bad network format: missing 'uuid'")),
        (Some(network), None) if !is_uuid(network) => {
            Err(Fault::bad_request(format!("Bad networks format: network uuid is not in proper format ({network})")))
        }
        _ => Ok(wish),
    }
}

/// Injected files: at most five, and bounded in path and size, as the original's default quota says.
pub fn personality(server: &Value) -> Result<BTreeMap<String, String>, Fault> {
    let list = server["personality"].as_array().map_or(&[][..], Vec::as_slice);
    const FILES: usize = 5;
    const PATH: usize = 255;
    const CONTENT: usize = 10_240;
    if list.len() > FILES {
        return Err(Fault::forbidden("Personality file limit exceeded"));
    }
    let mut files = BTreeMap::new();
    for file in list {
        let (path, contents) = (text(file, "path").unwrap_or_default(), text(file, "contents").unwrap_or_default());
        if path.len() > PATH {
            return Err(Fault::forbidden(format!("Personality file path exceeds maximum {PATH}")));
        }
        if contents.len() / 4 * 3 > CONTENT {
            return Err(Fault::forbidden(format!("Personality file content exceeds maximum {CONTENT}")));
        }
        files.insert(path, contents);
    }
    Ok(files)
}

/// Signatures of images are not verified here, so certificates to trust cannot be honoured.
pub fn certificates(server: &Value) -> Result<(), Fault> {
    match &server["trusted_image_certificates"] {
        Value::Null => Ok(()),
        _ => Err(Fault::bad_request(
            "Image signature certificate validation failed: verification of image signatures is not enabled in this cloud.",
        )),
    }
}

/// The image to boot from: `imageRef`, or the same image as the only disk of a block device mapping. Disks that would be volumes
/// are refused as the original refuses volumes that are not there.
fn boot_image(server: &Value) -> Result<Option<String>, Fault> {
    let image = text(server, "imageRef").filter(|image| !image.is_empty());
    let old = server["block_device_mapping"].as_array().map_or(&[][..], Vec::as_slice);
    let new = server["block_device_mapping_v2"].as_array().map_or(&[][..], Vec::as_slice);
    if !old.is_empty() && !new.is_empty() {
        return Err(Fault::bad_request("Using different block_device_mapping syntaxes is not allowed in the same request."));
    }
    let mut from_mapping = None;
    for item in old.iter().chain(new) {
        from_mapping = mapping(item)?.or(from_mapping);
    }
    match (image, from_mapping) {
        (Some(image), Some(mapped)) if image != mapped => Err(Fault::bad_request(
            "Block Device Mapping is Invalid: Boot sequence for the instance and image/block device mapping combination is not valid.",
        )),
        (None, None) => Err(Fault::bad_request("Invalid imageRef provided.")),
        (image, mapped) => Ok(image.or(mapped)),
    }
}

/// The image of a mapping that boots from a local disk; none for other disks of the host.
fn mapping(item: &Value) -> Result<Option<String>, Fault> {
    let invalid = |what: String| Fault::bad_request(format!("Block Device Mapping is Invalid: {what}"));
    let source = text(item, "source_type").unwrap_or_default();
    let destination = text(item, "destination_type")
        .unwrap_or_else(|| if source == "image" || source == "blank" { "local".into() } else { "volume".into() });
    let id = ["uuid", "volume_id", "snapshot_id", "image_id"].iter().find_map(|key| text(item, key)).unwrap_or_default();
    match (source.as_str(), destination.as_str()) {
        ("image", "local") if as_int(&item["boot_index"]).is_some_and(|index| index == 0) => Ok(Some(id)),
        ("image", "local") => Err(invalid("Mapping image to local is not supported.".into())),
        ("blank", "local") => Ok(None),
        ("snapshot", _) => Err(invalid(format!("failed to get snapshot {id}."))),
        ("image" | "blank", _) => Err(invalid("failed to create a volume: no block storage service is available.".into())),
        _ if !item["no_device"].is_null() => Ok(None),
        _ => Err(invalid(format!("failed to get volume {id}."))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(server: Value) -> Result<Request, String> {
        Request::parse(&json!({ "server": server })).map_err(|fault| fault.message)
    }

    #[test]
    fn names_of_several_are_numbered() {
        let request = parse(json!({"name": "Web A", "flavorRef": 1, "imageRef": "i", "min_count": 2})).ok().unwrap();
        assert_eq!((request.min_count, request.max_count), (2, 2));
        assert_eq!(request.names(0, 2, "x"), ("Web A-1".into(), "web-a-1".into()));
        assert_eq!(request.names(0, 1, "x"), ("Web A".into(), "web-a".into()));
        assert_eq!(request.flavor, "1");
    }

    #[test]
    fn block_devices_without_volumes_pass() {
        let local = json!([{"boot_index": 0, "uuid": "i", "source_type": "image", "destination_type": "local"}]);
        let request = parse(json!({"name": "a", "flavorRef": "1", "block_device_mapping_v2": local})).ok().unwrap();
        assert_eq!(request.image.as_deref(), Some("i"));
        let volume = json!([{"boot_index": 0, "uuid": "v", "source_type": "volume", "destination_type": "volume"}]);
        let refused = parse(json!({"name": "a", "flavorRef": "1", "block_device_mapping_v2": volume})).err();
        assert_eq!(refused.as_deref(), Some("Block Device Mapping is Invalid: failed to get volume v."));
    }

    #[test]
    fn contradictions_are_refused() {
        let base = |extra: Value| {
            let mut server = json!({"name": "a", "flavorRef": "1", "imageRef": "i"});
            server.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            parse(server).err().unwrap_or_default()
        };
        assert_eq!(base(json!({"min_count": 3, "max_count": 2})), "min_count must be <= max_count");
        assert!(base(json!({"networks": [{"uuid": "nope"}]})).starts_with("Bad networks format"));
        assert!(base(json!({"networks": [{"port": "p", "fixed_ip": "10.0.0.1"}]})).contains("cannot be specified together"));
        assert!(base(json!({"trusted_image_certificates": ["c"]})).contains("certificate validation failed"));
        assert_eq!(parse(json!({"name": "a", "flavorRef": "1", "imageRef": ""})).err().as_deref(), Some("Invalid imageRef provided."));
    }
}
