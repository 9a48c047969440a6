//! The EC2 form: a tree of names under `/latest/meta-data/`, each leaf a line of text.

use serde_json::{Value, json};

use super::Guest;

/// Versions that clients look for.
pub const VERSIONS: [&str; 10] =
    ["1.0", "2007-01-19", "2007-03-01", "2007-08-29", "2007-10-10", "2007-12-15", "2008-02-01", "2008-09-01", "2009-04-04", "latest"];

/// The short id that EC2 clients expect, made of the server's id.
fn instance_id(guest: &Guest) -> String {
    let digits: String = guest.server.id.as_str().chars().filter(char::is_ascii_hexdigit).collect();
    // The end of a time-ordered id is its random part.
    format!("i-{}", digits.get(digits.len().saturating_sub(8)..).unwrap_or(&digits))
}

/// The whole tree.
pub fn json(guest: &Guest) -> Value {
    let data = &guest.server.guest;
    let fixed = guest.ports.iter().flat_map(|port| &port.fixed_ips).map(|ip| ip.address).find(|address| address.is_ipv4());
    let fixed = fixed.map(|address| address.to_string()).unwrap_or_default();
    let floating = data.floating.get(&fixed).cloned().unwrap_or_default();
    let image = guest.server.image.as_ref().map(|image| image.id.to_string()).unwrap_or_default();
    let mut tree = json!({
        "ami-id": image,
        "ami-launch-index": data.launch_index.to_string(),
        "ami-manifest-path": "(unknown)",
        "block-device-mapping": {"ami": "vda", "root": "/dev/vda"},
        "hostname": data.hostname,
        "instance-action": "none",
        "instance-id": instance_id(guest),
        "instance-type": data.flavor,
        "local-hostname": data.hostname,
        "local-ipv4": fixed,
        "placement": {"availability-zone": data.zone},
        "public-hostname": data.hostname,
        "public-ipv4": floating,
        "reservation-id": data.reservation,
        "security-groups": data.security_groups.join("\n"),
    });
    if let Some(key) = &data.public_key {
        let name = data.key_name.clone().unwrap_or_else(|| "key".into());
        tree["public-keys"] = json!({"0": {"_name": format!("0={name}"), "openssh-key": key}});
    }
    tree
}

/// What `path` below `meta-data` shows: a leaf's text, or the names of a level.
pub fn answer(guest: &Guest, path: &[&str]) -> Option<String> {
    let tree = json(guest);
    let mut node = &tree;
    for name in path {
        node = node.get(name).filter(|_| !name.starts_with('_'))?;
    }
    match node {
        Value::Object(level) => Some(names(level)),
        Value::String(text) => Some(text.clone()),
        _ => None,
    }
}

fn names(level: &serde_json::Map<String, Value>) -> String {
    let shown = level.iter().filter(|(name, _)| !name.starts_with('_')).map(|(name, value)| match value {
        // A key is listed as `0=name`, other levels with a slash.
        Value::Object(inner) => inner.get("_name").and_then(Value::as_str).map_or_else(|| format!("{name}/"), str::to_owned),
        _ => name.clone(),
    });
    shown.collect::<Vec<_>>().join("\n")
}
