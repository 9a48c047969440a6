//! The body of a create request, read after the schema has passed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde_json::{Map, Value};

use super::super::disks::{Form, Mapping};
use super::super::ports::{Networks, NicWish};
use super::hostname;
use crate::Fault;
use crate::schema::{as_bool, as_int, is_uuid};

pub struct Request {
    pub name: String,
    pub hostname: Option<String>,
    pub flavor: String,
    pub image: Option<String>,
    pub mappings: Vec<Mapping>,
    pub form: Form,
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
        let image = text(server, "imageRef").filter(|image| !image.is_empty());
        let (mappings, form) = disks(server, image.is_some())?;
        certificates(server)?;
        let hints = ["os:scheduler_hints", "OS-SCH-HNT:scheduler_hints"].iter().find_map(|key| body[*key].as_object());
        let host = text(server, "host").or_else(|| text(server, "hypervisor_hostname"));
        Ok(Request {
            name: text(server, "name").unwrap_or_default(),
            hostname: text(server, "hostname"),
            flavor: reference(&server["flavorRef"]),
            image,
            mappings,
            form,
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

/// The disks that are asked for beside the image, in the one form or the other.
fn disks(server: &Value, boots_image: bool) -> Result<(Vec<Mapping>, Form), Fault> {
    let list = |key: &str| server[key].as_array().cloned().unwrap_or_default();
    let (old, new) = (list("block_device_mapping"), list("block_device_mapping_v2"));
    let (items, form) = match (old.is_empty(), new.is_empty()) {
        (false, false) => {
            return Err(Fault::bad_request("Using different block_device_mapping syntaxes is not allowed in the same request."));
        }
        (_, true) => (old, Form::Legacy),
        (true, false) => (new, Form::Second),
    };
    if items.is_empty() && !boots_image {
        return Err(Fault::bad_request("Invalid imageRef provided."));
    }
    let mappings = items.iter().map(|item| Mapping::read(item, form, boots_image)).collect::<Result<_, _>>()?;
    Ok((mappings, form))
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
    fn contradictions_are_refused() {
        let base = |extra: Value| {
            let mut server = json!({"name": "a", "flavorRef": "1", "imageRef": "i"});
            server.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            parse(server).err().unwrap_or_default()
        };
        assert_eq!(base(json!({"min_count": 3, "max_count": 2})), "min_count must be <= max_count");
        assert!(base(json!({"networks": [{"uuid": "nope"}]})).starts_with("Bad networks format"));
        assert!(base(json!({"networks": [{"port": "p", "fixed_ip": "10.0.0.1"}]})).contains("cannot be specified together"));
        let (old, new) = (json!([{"volume_id": "v"}]), json!([{"source_type": "blank", "destination_type": "local"}]));
        assert!(base(json!({"block_device_mapping": old, "block_device_mapping_v2": new})).starts_with("Using different"));
        assert!(base(json!({"trusted_image_certificates": ["c"]})).contains("certificate validation failed"));
        assert_eq!(parse(json!({"name": "a", "flavorRef": "1", "imageRef": ""})).err().as_deref(), Some("Invalid imageRef provided."));
    }
}
