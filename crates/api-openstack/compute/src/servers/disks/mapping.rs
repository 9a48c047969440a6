//! One disk that was asked for.

use serde_json::Value;

use super::super::create::text;
use super::invalid;
use crate::Fault;
use crate::schema::{as_bool, as_int};

#[derive(Debug, Clone, PartialEq)]
pub struct Mapping {
    pub source: Source,
    /// None: not to be booted from.
    pub boot_index: Option<i64>,
    /// GiB; MiB of a swap disk.
    pub size: Option<u64>,
    pub volume_type: Option<String>,
    pub delete_on_termination: bool,
    pub tag: Option<String>,
    /// Without `/dev/`. The host chooses the name, but by it a request takes the place of what its image says.
    pub device: Option<String>,
    pub bus: Option<String>,
}

/// Where a disk comes from and, with it, what it is to be.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// A disk of the host, made from this image.
    LocalImage(String),
    Ephemeral,
    Swap,
    /// The others are volumes.
    Blank,
    Image(String),
    Snapshot(String),
    Volume(String),
    /// What the image says about this device does not hold.
    Nothing,
}

impl Source {
    pub fn is_local(&self) -> bool {
        matches!(self, Source::LocalImage(_) | Source::Ephemeral | Source::Swap)
    }
}

/// How a list of mappings is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `block_device_mapping`, or nothing.
    Legacy,
    /// `block_device_mapping_v2`.
    Second,
    /// `block_device_mapping` of an image's properties with `bdm_v2`: the ids are in keys of their own.
    Stored,
}

impl Mapping {
    pub fn new(source: Source) -> Self {
        let (boot_index, size, volume_type, tag, device, bus) = Default::default();
        Mapping { source, boot_index, size, volume_type, delete_on_termination: false, tag, device, bus }
    }

    /// `boots_image`: an image was named outside the mappings.
    pub fn read(item: &Value, form: Form, boots_image: bool) -> Result<Self, Fault> {
        let source = match form {
            Form::Legacy => legacy_source(item)?,
            Form::Second | Form::Stored => source(item, form, boots_image)?,
        };
        check_device(item, &source)?;
        Ok(Mapping {
            boot_index: as_int(&item["boot_index"]).filter(|index| *index >= 0 && form != Form::Legacy),
            size: as_int(&item["volume_size"]).and_then(|size| u64::try_from(size).ok()).filter(|size| *size > 0),
            volume_type: text(item, "volume_type").filter(|name| !name.is_empty()),
            delete_on_termination: as_bool(&item["delete_on_termination"]) || source.is_local(),
            tag: text(item, "tag"),
            device: text(item, "device_name").map(|name| name.trim_start_matches("/dev/").to_owned()).filter(|name| !name.is_empty()),
            bus: text(item, "disk_bus").filter(|bus| !bus.is_empty()),
            source,
        })
    }
}

/// True for what Python takes as true.
fn is_set(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        Value::Bool(true) => true,
    }
}

fn source(item: &Value, form: Form, boots_image: bool) -> Result<Source, Fault> {
    if is_set(&item["no_device"]) {
        return Ok(Source::Nothing);
    }
    let kind = text(item, "source_type").ok_or_else(|| invalid("Some required fields are missing"))?;
    let id = match form {
        Form::Stored => text(item, &format!("{kind}_id")),
        _ => text(item, "uuid"),
    };
    let id = id.filter(|id| !id.is_empty());
    let said = text(item, "destination_type");
    let local = said.map_or(kind == "image" || kind == "blank", |place| place == "local");
    let typed = text(item, "volume_type").is_some_and(|name| !name.is_empty());
    let wanted = match (kind.as_str(), id) {
        ("blank", Some(_)) => return Err(invalid("Invalid device UUID.")),
        ("blank", None) if local => blank_local(item)?,
        ("blank", None) => Source::Blank,
        (_, None) => return Err(invalid("Missing device UUID.")),
        ("image", Some(id)) if local => {
            let is_root = as_int(&item["boot_index"]) == Some(0);
            if !(boots_image && is_root) && form == Form::Second {
                return Err(invalid("Mapping image to local is not supported."));
            }
            Source::LocalImage(id)
        }
        ("image", Some(id)) => Source::Image(id),
        (kind, Some(_)) if local => return Err(invalid(format!("Mapping {kind} to local is not supported."))),
        ("snapshot", Some(id)) => Source::Snapshot(id),
        ("volume", Some(_)) if typed => return Err(invalid("Specifying volume type to existing volume is not supported.")),
        (_, Some(id)) => Source::Volume(id),
    };
    if wanted.is_local() && typed {
        return Err(invalid("Specifying a volume_type with destination_type=local is not supported."));
    }
    Ok(wanted)
}

/// Every file system but the one that hosts make is refused.
fn blank_local(item: &Value) -> Result<Source, Fault> {
    match text(item, "guest_format").unwrap_or_default().as_str() {
        "swap" => Ok(Source::Swap),
        "" | "ext4" => Ok(Source::Ephemeral),
        other => Err(invalid(format!("Guest format {other} is not supported."))),
    }
}

fn legacy_source(item: &Value) -> Result<Source, Fault> {
    let named = text(item, "virtual_name").unwrap_or_default();
    let numbered = named.strip_prefix("ephemeral").is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()));
    let id = |key: &str| text(item, key).filter(|id| !id.is_empty());
    match (id("snapshot_id"), id("volume_id")) {
        _ if named == "swap" => Ok(Source::Swap),
        _ if numbered => Ok(Source::Ephemeral),
        (Some(snapshot), _) => Ok(Source::Snapshot(snapshot)),
        (None, Some(volume)) => Ok(Source::Volume(volume)),
        (None, None) if is_set(&item["no_device"]) => Ok(Source::Nothing),
        (None, None) => Err(invalid("Unrecognized legacy format.")),
    }
}

/// What a host can make of a disk.
fn check_device(item: &Value, source: &Source) -> Result<(), Fault> {
    let said = |key: &str| text(item, key).filter(|word| !word.is_empty());
    if let Some(bus) = said("disk_bus").filter(|bus| !["virtio", "ide"].contains(&bus.as_str())) {
        return Err(Fault::bad_request(format!("Block Device Mapping is invalid: The provided disk bus {bus} is not valid.")));
    }
    match said("device_type").filter(|kind| kind != "disk" && *source != Source::Nothing) {
        Some(kind) => Err(invalid(format!("Device type {kind} is not supported."))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(item: Value, form: Form) -> Result<Source, String> {
        Mapping::read(&item, form, true).map(|mapping| mapping.source).map_err(|fault| fault.message)
    }

    #[test]
    fn all_forms_are_read() {
        let id = || "x".to_owned();
        #[rustfmt::skip]
        let table = [
            (json!({"source_type": "image", "uuid": "x", "destination_type": "local", "boot_index": 0}), Source::LocalImage(id())),
            (json!({"source_type": "image", "uuid": "x", "boot_index": "0"}), Source::LocalImage(id())),
            (json!({"source_type": "image", "uuid": "x", "destination_type": "volume"}), Source::Image(id())),
            (json!({"source_type": "snapshot", "uuid": "x", "destination_type": "volume"}), Source::Snapshot(id())),
            (json!({"source_type": "volume", "uuid": "x"}), Source::Volume(id())),
            (json!({"source_type": "blank", "destination_type": "volume"}), Source::Blank),
            (json!({"source_type": "blank", "destination_type": "local"}), Source::Ephemeral),
            (json!({"source_type": "blank", "destination_type": "local", "guest_format": "swap"}), Source::Swap),
            (json!({"no_device": true, "device_name": "vdb"}), Source::Nothing),
        ];
        for (item, source) in table {
            assert_eq!(read(item.clone(), Form::Second), Ok(source), "{item}");
        }
        #[rustfmt::skip]
        let legacy = [
            (json!({"virtual_name": "swap"}), Source::Swap),
            (json!({"virtual_name": "ephemeral0"}), Source::Ephemeral),
            (json!({"snapshot_id": "x", "device_name": "vda"}), Source::Snapshot(id())),
            (json!({"volume_id": "x", "device_name": "/dev/vda"}), Source::Volume(id())),
            (json!({"no_device": "yes"}), Source::Nothing),
        ];
        for (item, source) in legacy {
            assert_eq!(read(item.clone(), Form::Legacy), Ok(source), "{item}");
        }
        assert_eq!(
            read(json!({"source_type": "snapshot", "snapshot_id": "x", "destination_type": "volume"}), Form::Stored),
            Ok(Source::Snapshot(id()))
        );
    }

    #[test]
    fn odd_ones_are_refused_in_the_originals_words() {
        #[rustfmt::skip]
        let table = [
            (json!({"destination_type": "local"}), "Some required fields are missing"),
            (json!({"source_type": "blank", "uuid": "x"}), "Invalid device UUID."),
            (json!({"source_type": "volume", "volume_id": "x"}), "Missing device UUID."),
            (json!({"source_type": "image", "uuid": "x", "destination_type": "local", "boot_index": 1}), "Mapping image to local is not supported."),
            (json!({"source_type": "volume", "uuid": "x", "destination_type": "local"}), "Mapping volume to local is not supported."),
            (json!({"source_type": "volume", "uuid": "x", "volume_type": "t"}), "Specifying volume type to existing volume is not supported."),
            (json!({"source_type": "blank", "destination_type": "local", "volume_type": "t"}), "Specifying a volume_type with destination_type=local is not supported."),
            (json!({"source_type": "blank", "destination_type": "volume", "device_type": "cdrom"}), "Device type cdrom is not supported."),
            (json!({"source_type": "blank", "destination_type": "local", "guest_format": "ntfs"}), "Guest format ntfs is not supported."),
        ];
        for (item, text) in table {
            assert_eq!(read(item.clone(), Form::Second), Err(format!("Block Device Mapping is Invalid: {text}")), "{item}");
        }
        let bus = read(json!({"source_type": "blank", "destination_type": "volume", "disk_bus": "rope"}), Form::Second);
        assert_eq!(bus, Err("Block Device Mapping is invalid: The provided disk bus rope is not valid.".into()));
        assert_eq!(read(json!({}), Form::Legacy), Err("Block Device Mapping is Invalid: Unrecognized legacy format.".into()));
        let without = Mapping::read(&json!({"source_type": "image", "uuid": "x", "boot_index": 0}), Form::Second, false);
        assert!(without.is_err_and(|fault| fault.message.ends_with("Mapping image to local is not supported.")));
    }

    #[test]
    fn what_is_said_of_a_disk_is_kept() {
        let item = json!({"source_type": "volume", "uuid": "x", "boot_index": -1, "device_name": "/dev/vdb", "tag": "t",
            "delete_on_termination": "true", "disk_bus": "virtio", "volume_size": ""});
        let mapping = Mapping::read(&item, Form::Second, false).unwrap();
        assert_eq!((mapping.boot_index, mapping.size, mapping.delete_on_termination), (None, None, true));
        assert_eq!((mapping.device.as_deref(), mapping.tag.as_deref(), mapping.bus.as_deref()), (Some("vdb"), Some("t"), Some("virtio")));
    }
}
