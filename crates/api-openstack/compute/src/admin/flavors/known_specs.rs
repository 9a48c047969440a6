//! Which extra specs make sense, for versions from 2.86 on: in the namespaces known here, names must be known and values must fit.
//! What is in other namespaces is the operator's own.

/// What a known spec may say.
enum Values {
    Any,
    Number,
    Truth,
    Words(&'static [&'static str]),
}
use Values::{Any, Number, Truth, Words};

/// Names that end in a number or belong to a numbered group are written without it.
const KNOWN: &[(&str, Values)] = &[
    ("accel:device_profile", Any),
    ("hw:boot_menu", Truth),
    ("hw:cpu_cores", Number),
    ("hw:cpu_dedicated_mask", Any),
    ("hw:cpu_max_cores", Number),
    ("hw:cpu_max_sockets", Number),
    ("hw:cpu_max_threads", Number),
    ("hw:cpu_policy", Words(&["dedicated", "mixed", "shared"])),
    ("hw:cpu_realtime", Truth),
    ("hw:cpu_realtime_mask", Any),
    ("hw:cpu_sockets", Number),
    ("hw:cpu_thread_policy", Words(&["prefer", "isolate", "require"])),
    ("hw:cpu_threads", Number),
    ("hw:emulator_threads_policy", Words(&["isolate", "share"])),
    ("hw:ephemeral_encryption", Truth),
    ("hw:ephemeral_encryption_format", Words(&["luks"])),
    ("hw:hide_hypervisor_id", Truth),
    ("hw:locked_memory", Truth),
    ("hw:maxphysaddr_bits", Number),
    ("hw:maxphysaddr_mode", Words(&["emulate", "passthrough"])),
    ("hw:mem_encryption", Truth),
    ("hw:mem_encryption_model", Words(&["amd-sev", "amd-sev-es"])),
    ("hw:mem_page_size", Any),
    ("hw:numa_cpus.", Any),
    ("hw:numa_mem.", Number),
    ("hw:numa_nodes", Number),
    ("hw:pci_numa_affinity_policy", Words(&["required", "preferred", "legacy", "socket"])),
    ("hw:pmem", Any),
    ("hw:redirected_ports", Number),
    ("hw:serial_port_count", Number),
    ("hw:sound_model", Any),
    ("hw:tpm_model", Words(&["tpm-tis", "tpm-crb"])),
    ("hw:tpm_secret_security", Words(&["user", "host", "deployment"])),
    ("hw:tpm_version", Words(&["1.2", "2.0"])),
    ("hw:usb_model", Any),
    ("hw:vif_multiqueue_enabled", Truth),
    ("hw:viommu_model", Words(&["intel", "smmuv3", "virtio", "auto"])),
    ("hw:virtio_packed_ring", Truth),
    ("hw:watchdog_action", Words(&["none", "pause", "poweroff", "reset", "disabled"])),
    ("hw_rng:allowed", Truth),
    ("hw_rng:rate_bytes", Number),
    ("hw_rng:rate_period", Number),
    ("hw_video:ram_max_mb", Number),
    ("os:secure_boot", Words(&["disabled", "required"])),
    ("pci_passthrough:alias", Any),
    ("quota:cpu_limit", Number),
    ("quota:cpu_period", Number),
    ("quota:cpu_quota", Number),
    ("quota:cpu_reservation", Number),
    ("quota:cpu_shares", Number),
    ("quota:cpu_shares_level", Words(&["custom", "high", "normal", "low"])),
    ("quota:cpu_shares_share", Number),
    ("quota:disk_io_limit", Number),
    ("quota:disk_io_reservation", Number),
    ("quota:disk_io_shares_level", Words(&["custom", "high", "normal", "low"])),
    ("quota:disk_io_shares_share", Number),
    ("quota:disk_read_bytes_sec", Number),
    ("quota:disk_read_iops_sec", Number),
    ("quota:disk_total_bytes_sec", Number),
    ("quota:disk_total_iops_sec", Number),
    ("quota:disk_write_bytes_sec", Number),
    ("quota:disk_write_iops_sec", Number),
    ("quota:memory_limit", Number),
    ("quota:memory_reservation", Number),
    ("quota:memory_shares_level", Words(&["custom", "high", "normal", "low"])),
    ("quota:memory_shares_share", Number),
    ("quota:vif_inbound_average", Number),
    ("quota:vif_inbound_burst", Number),
    ("quota:vif_inbound_peak", Number),
    ("quota:vif_limit", Number),
    ("quota:vif_outbound_average", Number),
    ("quota:vif_outbound_burst", Number),
    ("quota:vif_outbound_peak", Number),
    ("quota:vif_reservation", Number),
    ("quota:vif_shares_level", Words(&["custom", "high", "normal", "low"])),
    ("quota:vif_shares_share", Number),
    ("resources:", Number),
    ("trait:", Words(&["required", "forbidden"])),
    ("vmware:hw_version", Any),
    ("vmware:storage_policy", Any),
];

/// Nothing, or why this pair is refused.
pub fn check(key: &str, value: &str) -> Result<(), String> {
    let Some((namespace, name)) = key.split_once(':') else { return Ok(()) };
    let key = match ungrouped(namespace) {
        kind @ ("resources" | "trait") => format!("{kind}:"),
        _ if name.starts_with("numa_cpus.") || name.starts_with("numa_mem.") => key.trim_end_matches(|c: char| c.is_ascii_digit()).into(),
        _ => key.to_owned(),
    };
    match KNOWN.iter().find(|(known, _)| *known == key) {
        Some((_, values)) => values.check(&format!("{namespace}:{name}"), value),
        None if KNOWN.iter().any(|(known, _)| known.split(':').next() == Some(namespace)) => {
            Err(format!("Validation failed; extra spec '{namespace}:{name}' does not appear to be a valid extra spec."))
        }
        None => Ok(()),
    }
}

/// `resources1` and `trait_X` belong to request groups.
fn ungrouped(namespace: &str) -> &str {
    let kind = ["resources", "trait"].into_iter().find(|kind| namespace.starts_with(kind));
    match kind {
        Some(kind) if namespace[kind.len()..].chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') => kind,
        _ => namespace,
    }
}

impl Values {
    fn check(&self, key: &str, value: &str) -> Result<(), String> {
        let expected = match self {
            Any => return Ok(()),
            Number if value.parse::<i64>().is_ok() => return Ok(()),
            Number => "a whole number".to_owned(),
            Truth if crate::query::truth(value).is_some() => return Ok(()),
            Truth => "a boolean".to_owned(),
            Words(words) if words.contains(&value) => return Ok(()),
            Words(words) => format!("one of: {}", words.join(", ")),
        };
        Err(format!("Validation failed; '{value}' is not {expected} (extra spec '{key}')."))
    }
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn known_namespaces_are_checked_and_others_left_alone() {
        let good = [
            ("foo:bar", "baz"),
            ("plain", "x"),
            ("hw:cpu_policy", "shared"),
            ("hw:numa_mem.0", "512"),
            ("hw:cpu_realtime", "yes"),
            ("resources2:CUSTOM_X", "1"),
            ("resources_NET1:VCPU", "2"),
            ("trait:HW_CPU_X86_AVX", "required"),
        ];
        for (key, value) in good {
            assert_eq!(check(key, value), Ok(()), "{key}");
        }
        for (key, value) in [("hw:cpu_policy", "x"), ("hw:foo", "1"), ("hw:cpu_cores", "two"), ("trait:A", "maybe"), ("quota:x", "1")] {
            assert!(check(key, value).is_err(), "{key}");
        }
    }
}
