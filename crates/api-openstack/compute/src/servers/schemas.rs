//! What requests about servers must look like, through all microversions.

use std::sync::LazyLock;

use serde_json::Value;

use super::sort;
use crate::schema::{BASE64, DATE_TIME, Format, IP, IPV4, IPV6, Object, Schema, UUID, object};

/// A file is at most this long in a request, encoded.
const USER_DATA: usize = 65_535;

pub const TAG: Format = Format { name: "tag", accepts: |tag| !tag.contains(['/', ',']), message: None };

const HOSTNAME: Format = Format {
    name: "hostname",
    accepts: |text| {
        let inner = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        text.chars().all(inner) && !text.starts_with(['-', '.']) && !text.ends_with(['-', '.'])
    },
    message: None,
};

/// Before 2.94 a host name is one label.
const LABEL: Format = Format { name: "hostname", accepts: |text| (HOSTNAME.accepts)(text) && !text.contains('.'), message: None };

const METADATA_KEY: fn(&str) -> bool = |key| {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | ':' | '.' | ' ');
    (1..=255).contains(&key.chars().count()) && key.chars().all(plain)
};

pub fn metadata() -> Schema {
    object().others(METADATA_KEY, Schema::string(0, 255)).into()
}

fn tag() -> Schema {
    Schema::String { min: 1, max: 60, format: Some(TAG) }
}

fn tags() -> Schema {
    Schema::Array { items: Box::new(tag()), min: 0, max: 50, unique: false }
}

fn address(format: Format) -> Schema {
    Schema::text(format)
}

fn disk_config() -> Schema {
    Schema::one_of(["AUTO", "MANUAL"])
}

fn description() -> Schema {
    Schema::String { min: 0, max: 255, format: None }.or_null()
}

fn user_data() -> Schema {
    Schema::String { min: 0, max: USER_DATA, format: Some(BASE64) }
}

fn certificates() -> Schema {
    Schema::Array { items: Box::new(Schema::string(1, 255)), min: 1, max: 50, unique: true }.or_null()
}

fn personality() -> Schema {
    let file = object().required("path", Schema::string(0, usize::MAX)).required("contents", Schema::text(BASE64));
    Schema::list(file)
}

/// An id, a number or a link that ends in one.
fn flavor_ref() -> Schema {
    Schema::Union(vec![Schema::string(1, usize::MAX), Schema::count()])
}

fn host() -> Schema {
    Schema::String { min: 1, max: 255, format: Some(HOSTNAME) }
}

fn ids() -> Schema {
    Schema::Union(vec![Schema::string(1, usize::MAX), Schema::list(Schema::uuid())])
}

fn hints() -> Object {
    object()
        .optional("group", Schema::uuid())
        .optional("different_host", ids())
        .optional("same_host", ids())
        .optional("query", Schema::Union(vec![Schema::string(0, usize::MAX), object().open().into()]))
        .optional("target_cell", Schema::name())
        .optional("different_cell", Schema::Union(vec![Schema::string(0, usize::MAX), Schema::list(Schema::string(0, usize::MAX))]))
        .optional("build_near_host_ip", address(IP))
        .optional("cidr", Schema::text(Format { name: "cidr", accepts: |text| text.starts_with('/'), message: None }))
        .open()
}

fn device_basics() -> Object {
    let device = Format { name: "device", accepts: |text| !text.contains(char::is_whitespace), message: None };
    object()
        .optional("virtual_name", Schema::string(0, 255))
        .optional("volume_id", Schema::uuid())
        .optional("snapshot_id", Schema::uuid())
        .optional("volume_size", Schema::Union(vec![Schema::Integer { min: 1, max: i64::from(i32::MAX) }, Schema::string(0, 0)]))
        .optional("device_name", Schema::String { min: 1, max: 255, format: Some(device) })
        .optional("delete_on_termination", Schema::Boolean)
        .optional("no_device", Schema::Any)
        .optional("connection_info", Schema::string(0, 16_777_215))
}

fn devices() -> Schema {
    let id = Format { name: "uuid", accepts: |text| text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)), message: None };
    let item = device_basics()
        .optional("source_type", Schema::one_of(["volume", "image", "snapshot", "blank"]))
        .optional("uuid", Schema::String { min: 1, max: 255, format: Some(id) })
        .optional("image_id", Schema::uuid())
        .optional("destination_type", Schema::one_of(["local", "volume"]))
        .optional("guest_format", Schema::string(0, 255))
        .optional("device_type", Schema::string(0, 255))
        .optional("disk_bus", Schema::string(0, 255))
        .optional("boot_index", Schema::Union(vec![Schema::Integer { min: i64::MIN, max: i64::MAX }, Schema::Null]))
        .optional_in(32..=32, "tag", tag())
        .optional_in(42.., "tag", tag())
        .optional_in(67.., "volume_type", Schema::string(0, 255).or_null());
    Schema::list(item)
}

fn network(uuid: Schema) -> Object {
    object()
        .optional("fixed_ip", address(IP))
        .optional("port", Schema::uuid().or_null())
        .optional("uuid", uuid)
        .optional_in(32..=36, "tag", tag())
        .optional_in(42.., "tag", tag())
}

fn server() -> Object {
    let group = object().optional("name", Schema::name());
    object()
        .required("name", Schema::name())
        .required("flavorRef", flavor_ref())
        .optional("imageRef", Schema::Union(vec![Schema::text(UUID), Schema::string(0, 0)]))
        .optional("adminPass", Schema::string(0, usize::MAX))
        .optional("metadata", metadata())
        .optional_in(..=36, "networks", Schema::list(network(Schema::string(0, usize::MAX))))
        .required_in(37.., "networks", Schema::Union(vec![Schema::list(network(Schema::uuid())), Schema::one_of(["none", "auto"])]))
        .optional("OS-DCF:diskConfig", disk_config())
        .optional("accessIPv4", address(IPV4))
        .optional("accessIPv6", address(IPV6))
        .optional_in(..=56, "personality", personality())
        .optional("availability_zone", Schema::name())
        .optional("block_device_mapping", Schema::list(device_basics()))
        .optional("block_device_mapping_v2", devices())
        .optional("config_drive", Schema::Boolean)
        .optional("key_name", Schema::name())
        .optional("min_count", Schema::positive())
        .optional("max_count", Schema::positive())
        .optional("return_reservation_id", Schema::Boolean)
        .optional("security_groups", Schema::list(group))
        .optional("user_data", user_data())
        .optional_in(19.., "description", description())
        .optional_in(52.., "tags", tags())
        .optional_in(63.., "trusted_image_certificates", certificates())
        .optional_in(74.., "host", host())
        .optional_in(74.., "hypervisor_hostname", host())
        .optional_in(90..=93, "hostname", Schema::String { min: 1, max: 63, format: Some(LABEL) })
        .optional_in(94.., "hostname", Schema::String { min: 1, max: 255, format: Some(HOSTNAME) })
}

pub static CREATE: LazyLock<Schema> = LazyLock::new(|| {
    object().required("server", server()).optional("os:scheduler_hints", hints()).optional("OS-SCH-HNT:scheduler_hints", hints()).into()
});

pub static UPDATE: LazyLock<Schema> = LazyLock::new(|| {
    let server = object()
        .optional("name", Schema::name())
        .optional("OS-DCF:diskConfig", disk_config())
        .optional("accessIPv4", address(IPV4))
        .optional("accessIPv6", address(IPV6))
        .optional_in(19.., "description", description())
        .optional_in(90..=93, "hostname", Schema::String { min: 1, max: 63, format: Some(LABEL) })
        .optional_in(94.., "hostname", Schema::String { min: 1, max: 255, format: Some(HOSTNAME) });
    Schema::wrapped("server", server)
});

pub static REBUILD: LazyLock<Schema> = LazyLock::new(|| {
    let rebuild = object()
        .required("imageRef", Schema::text(UUID))
        .optional("name", Schema::name())
        .optional("adminPass", Schema::string(0, usize::MAX))
        .optional("metadata", metadata())
        .optional("preserve_ephemeral", Schema::Boolean)
        .optional("OS-DCF:diskConfig", disk_config())
        .optional("accessIPv4", address(IPV4))
        .optional("accessIPv6", address(IPV6))
        .optional_in(..=56, "personality", personality())
        .optional_in(19.., "description", description())
        .optional_in(54.., "key_name", Schema::name().or_null())
        .optional_in(57.., "user_data", user_data().or_null())
        .optional_in(63.., "trusted_image_certificates", certificates())
        .optional_in(90..=93, "hostname", Schema::String { min: 1, max: 63, format: Some(LABEL) })
        .optional_in(94.., "hostname", Schema::String { min: 1, max: 255, format: Some(HOSTNAME) });
    Schema::wrapped("rebuild", rebuild)
});

/// An action without arguments: its value is null.
pub fn bare(key: &'static str) -> Schema {
    Schema::wrapped(key, Schema::Null)
}

/// An action whose value the original never looks at.
pub fn anything(key: &'static str) -> Schema {
    Schema::wrapped(key, Schema::Any)
}

pub static RESIZE: LazyLock<Schema> =
    LazyLock::new(|| Schema::wrapped("resize", object().required("flavorRef", flavor_ref()).optional("OS-DCF:diskConfig", disk_config())));

pub static REBOOT: LazyLock<Schema> = LazyLock::new(|| {
    Schema::wrapped("reboot", object().required("type", Schema::one_of(["HARD", "Hard", "hard", "SOFT", "Soft", "soft"])))
});

pub static LOCK: LazyLock<Schema> = LazyLock::new(|| {
    Schema::wrapped("lock", Schema::Union(vec![Schema::Null, object().optional("locked_reason", Schema::string(1, 255)).into()]))
});

pub static RESCUE: LazyLock<Schema> = LazyLock::new(|| {
    let arguments = object().optional("adminPass", Schema::string(0, usize::MAX)).optional("rescue_image_ref", Schema::text(UUID));
    Schema::wrapped("rescue", Schema::Union(vec![arguments.into(), Schema::Null]))
});

pub static CREATE_IMAGE: LazyLock<Schema> =
    LazyLock::new(|| Schema::wrapped("createImage", object().required("name", Schema::name()).optional("metadata", metadata())));

pub static CREATE_BACKUP: LazyLock<Schema> = LazyLock::new(|| {
    let arguments = object()
        .required("name", Schema::name())
        .required("backup_type", Schema::string(0, usize::MAX))
        .required("rotation", Schema::count())
        .optional("metadata", metadata());
    Schema::wrapped("createBackup", arguments)
});

pub static UNSHELVE: LazyLock<Schema> = LazyLock::new(|| {
    let arguments =
        object().optional_in(77.., "availability_zone", Schema::name().or_null()).optional_in(91.., "host", host()).sizes(1, None);
    Schema::wrapped("unshelve", Schema::Union(vec![Schema::Null, arguments.into()]))
});

pub static CHANGE_PASSWORD: LazyLock<Schema> =
    LazyLock::new(|| Schema::wrapped("changePassword", object().required("adminPass", Schema::string(0, usize::MAX))));

pub static RESET_STATE: LazyLock<Schema> =
    LazyLock::new(|| Schema::wrapped("os-resetState", object().required("state", Schema::one_of(["active", "error"]))));

pub static CONSOLE_OUTPUT: LazyLock<Schema> = LazyLock::new(|| {
    let length = Schema::Union(vec![Schema::Integer { min: -1, max: i64::MAX }, Schema::Null]);
    Schema::wrapped("os-getConsoleOutput", object().optional("length", length))
});

/// `os-getVNCConsole` and its like, before 2.6.
pub fn old_console(key: &'static str, kinds: &[&str]) -> Schema {
    let kinds = Schema::Enum(kinds.iter().map(|kind| Value::from(*kind)).collect());
    Schema::wrapped(key, object().required("type", kinds))
}

pub static REMOTE_CONSOLE: LazyLock<Schema> = LazyLock::new(|| {
    let kinds = ["novnc", "xvpvnc", "rdp-html5", "spice-html5", "serial", "webmks"];
    let newer = ["novnc", "xvpvnc", "rdp-html5", "spice-html5", "serial", "webmks", "spice-direct"];
    let console = object()
        .required("protocol", Schema::one_of(["vnc", "spice", "rdp", "serial", "mks"]))
        .required_in(..=98, "type", Schema::one_of(kinds))
        .required_in(99.., "type", Schema::one_of(newer));
    Schema::wrapped("remote_console", console)
});

pub fn security_group(key: &'static str) -> Schema {
    Schema::wrapped(key, object().required("name", Schema::name()))
}

pub static FIXED_IP: LazyLock<Schema> =
    LazyLock::new(|| Schema::wrapped("addFixedIp", object().required("networkId", Schema::Union(vec![Schema::uuid(), Schema::count()]))));

pub static UNFIXED_IP: LazyLock<Schema> = LazyLock::new(|| Schema::wrapped("removeFixedIp", object().required("address", address(IP))));

pub static MIGRATE: LazyLock<Schema> = LazyLock::new(|| {
    let arguments = object().optional_in(56.., "host", host().or_null());
    Schema::wrapped("migrate", Schema::Union(vec![Schema::Null, arguments.into()]))
});

pub static LIVE_MIGRATE: LazyLock<Schema> = LazyLock::new(|| {
    let block = Schema::Union(vec![Schema::Boolean, Schema::one_of(["auto"])]);
    let arguments = object()
        .required("host", host().or_null())
        .required_in(..=24, "block_migration", Schema::Boolean)
        .required_in(25.., "block_migration", block)
        .required_in(..=24, "disk_over_commit", Schema::Boolean)
        .optional_in(30..=67, "force", Schema::Boolean);
    Schema::wrapped("os-migrateLive", arguments)
});

pub static EVACUATE: LazyLock<Schema> = LazyLock::new(|| {
    let arguments = object()
        .optional("host", host())
        .required_in(..=13, "onSharedStorage", Schema::Boolean)
        .optional("adminPass", Schema::string(0, usize::MAX))
        .optional_in(29..=67, "force", Schema::Boolean);
    Schema::wrapped("evacuate", arguments)
});

pub static METADATA: LazyLock<Schema> = LazyLock::new(|| Schema::wrapped("metadata", metadata()));

pub static METADATA_ITEM: LazyLock<Schema> =
    LazyLock::new(|| Schema::wrapped("meta", object().others(METADATA_KEY, Schema::string(0, 255)).sizes(1, Some(1))));

pub static TAGS: LazyLock<Schema> = LazyLock::new(|| Schema::wrapped("tags", tags()));

pub static ONE_TAG: LazyLock<Schema> = LazyLock::new(tag);

pub static ATTACH_INTERFACE: LazyLock<Schema> = LazyLock::new(|| {
    let fixed = Schema::Array { items: Box::new(object().required("ip_address", address(IP)).into()), min: 1, max: 1, unique: false };
    let arguments = object()
        .optional("net_id", Schema::uuid())
        .optional("port_id", Schema::uuid())
        .optional("fixed_ips", fixed)
        .optional_in(49.., "tag", tag());
    object().optional("interfaceAttachment", arguments).into()
});

pub static ATTACH_SHARE: LazyLock<Schema> =
    LazyLock::new(|| Schema::wrapped("share", object().required("share_id", Schema::uuid()).optional("tag", tag())));

/// `/dev/vdb` and its like; the host chooses the name, whatever is said here.
const DEVICE: Format = Format {
    name: "device",
    accepts: |text| {
        let after = text.strip_prefix("/dev/").unwrap_or_default();
        let letters = after.trim_end_matches(|c: char| c.is_ascii_digit());
        !letters.is_empty() && letters.chars().all(|c| c.is_ascii_lowercase())
    },
    message: None,
};

pub static ATTACH_VOLUME: LazyLock<Schema> = LazyLock::new(|| {
    let arguments = object()
        .required("volumeId", Schema::uuid())
        .optional("device", Schema::text(DEVICE).or_null())
        .optional_in(49.., "tag", tag())
        .optional_in(79.., "delete_on_termination", Schema::Boolean);
    Schema::wrapped("volumeAttachment", arguments)
});

pub static UPDATE_ATTACHMENT: LazyLock<Schema> = LazyLock::new(|| {
    let arguments = object()
        .required("volumeId", Schema::uuid())
        .optional_in(85.., "device", Schema::text(DEVICE).or_null())
        .optional_in(85.., "tag", tag())
        .optional_in(85.., "delete_on_termination", Schema::Boolean)
        .optional_in(85.., "serverId", Schema::uuid())
        .optional_in(85.., "id", Schema::uuid());
    Schema::wrapped("volumeAttachment", arguments)
});

/// The query of the list of attachments.
pub static LIST_ATTACHMENTS: LazyLock<Schema> = LazyLock::new(|| {
    object()
        .optional("limit", Schema::count().many())
        .optional("offset", Schema::count().many())
        .others_in(..=74, |_| true, Schema::Any)
        .into()
});

/// The query of lists. Unknown parameters are ignored before 2.75 and refused from then on.
pub static LIST: LazyLock<Schema> = LazyLock::new(|| {
    let text = || Schema::list(Schema::string(0, usize::MAX));
    let pattern = || Schema::list(Schema::text(crate::schema::REGEX));
    let mut list = object();
    for name in [
        "user_id",
        "project_id",
        "tenant_id",
        "launch_index",
        "image_ref",
        "image",
        "vm_state",
        "task_state",
        "host",
        "uuid",
        "sort_dir",
        "all_tenants",
        "soft_deleted",
        "deleted",
        "status",
        "block_device_mapping",
        "services",
        "metadata",
        "system_metadata",
        "info_cache",
        "security_groups",
        "pci_devices",
    ] {
        list = list.optional(name, text());
    }
    for name in [
        "kernel_id",
        "ramdisk_id",
        "hostname",
        "key_name",
        "power_state",
        "node",
        "flavor",
        "reservation_id",
        "launched_at",
        "terminated_at",
        "availability_zone",
        "name",
        "display_name",
        "description",
        "display_description",
        "locked_by",
        "root_device_name",
        "config_drive",
        "access_ip_v4",
        "access_ip_v6",
        "auto_disk_config",
        "progress",
        "ip",
        "ip6",
        "created_at",
    ] {
        list = list.optional(name, pattern());
    }
    for name in ["tags", "tags-any", "not-tags", "not-tags-any"] {
        list = list.optional_in(26.., name, pattern());
    }
    let words = |ignored: &[&'static str]| {
        let known = sort::KEYS.iter().chain(ignored).map(|key| Value::from(*key));
        Schema::list(Schema::Enum(known.collect()))
    };
    list.optional("changes-since", Schema::list(Schema::text(DATE_TIME)))
        .optional_in(66.., "changes-before", Schema::list(Schema::text(DATE_TIME)))
        .optional_in(73.., "locked", text())
        .optional("limit", Schema::list(Schema::count()))
        .optional("marker", text())
        .optional_in(..=74, "sort_key", words(&sort::IGNORED))
        .optional_in(75.., "sort_key", words(&[]))
        .others_in(..=74, |_| true, Schema::Any)
        .into()
});

/// The query of lists of actions, from 2.58 on.
pub static ACTIONS: LazyLock<Schema> = LazyLock::new(|| {
    object()
        .optional("limit", Schema::count().single())
        .optional("marker", Schema::string(0, usize::MAX).single())
        .optional("changes-since", Schema::text(DATE_TIME).single())
        .optional_in(66.., "changes-before", Schema::text(DATE_TIME).single())
        .into()
});
