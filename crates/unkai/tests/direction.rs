//! Who may know whom: `docs/architecture.md`, section 1, held against the manifests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Package -> packages of ours that it may depend on. Development dependencies are free.
const MAY_KNOW: &[(&str, &[&str])] = &[
    ("unkai-model", &[]),
    ("unkai-crashpoint", &[]),
    ("unkai-store", &["unkai-model", "unkai-crashpoint"]),
    ("unkai-imagefile", &[]),
    ("unkai-driver-network", &["unkai-crashpoint"]),
    ("unkai-driver-qemu", &["unkai-crashpoint"]),
    ("unkai-driver-volume", &["unkai-model", "unkai-crashpoint"]),
    ("unkai-link", &["unkai-model", "unkai-store", "unkai-driver-network"]),
    ("unkai-control", &["unkai-model", "unkai-store", "unkai-link"]),
    (
        "unkai-host",
        &[
            "unkai-model",
            "unkai-link",
            "unkai-driver-network",
            "unkai-driver-qemu",
            "unkai-driver-volume",
            "unkai-imagefile",
            "unkai-crashpoint",
        ],
    ),
    ("unkai-sim", &["unkai-model", "unkai-store", "unkai-link", "unkai-control"]),
    ("unkai-openstack", &["unkai-model", "unkai-store"]),
    ("unkai-identity", &["unkai-model", "unkai-store", "unkai-openstack"]),
    ("unkai-image", &["unkai-model", "unkai-store", "unkai-openstack", "unkai-imagefile"]),
    ("unkai-network", &["unkai-model", "unkai-store", "unkai-openstack"]),
    ("unkai-volume", &["unkai-model", "unkai-store", "unkai-openstack"]),
    ("unkai-compute", &["unkai-model", "unkai-store", "unkai-openstack", "unkai-network", "unkai-volume"]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn manifests(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.join("Cargo.toml").exists() {
            found.push(path.join("Cargo.toml"));
        } else if path.is_dir() {
            manifests(&path, found);
        }
    }
}

/// The package's name and the packages of ours in its `[dependencies]`.
fn read(path: &Path) -> (String, BTreeSet<String>) {
    let text = std::fs::read_to_string(path).unwrap();
    let (mut section, mut name, mut known) = (String::new(), String::new(), BTreeSet::new());
    for line in text.lines() {
        if let Some(header) = line.strip_prefix('[') {
            section = header.trim_end_matches(']').to_owned();
        } else if section == "package" && line.starts_with("name") {
            name = line.split('"').nth(1).unwrap().to_owned();
        } else if section == "dependencies" && line.starts_with("unkai-") {
            known.insert(line.split(['.', ' ', '=']).next().unwrap().to_owned());
        }
    }
    (name, known)
}

#[test]
fn crates_know_only_whom_they_may() {
    let mut paths = Vec::new();
    manifests(&root().join("crates"), &mut paths);
    let allowed: BTreeMap<&str, BTreeSet<&str>> = MAY_KNOW.iter().map(|(name, known)| (*name, known.iter().copied().collect())).collect();
    let mut wrong = Vec::new();
    for (name, known) in paths.iter().map(|path| read(path)) {
        // The binary puts everything together.
        if name == "unkai" {
            continue;
        }
        let may = allowed.get(name.as_str()).unwrap_or_else(|| panic!("{name} is not in the table"));
        wrong.extend(known.iter().filter(|other| !may.contains(other.as_str())).map(|other| format!("{name} -> {other}")));
    }
    assert!(wrong.is_empty(), "against the direction: {wrong:?}");
}

#[test]
fn only_the_store_knows_sql() {
    let mut paths = Vec::new();
    manifests(&root().join("crates"), &mut paths);
    for path in paths {
        let text = std::fs::read_to_string(&path).unwrap();
        let sql = text.lines().any(|line| line.starts_with("rusqlite") || line.starts_with("tokio-postgres"));
        assert!(!sql || path.ends_with("crates/store/Cargo.toml"), "{} knows SQL", path.display());
    }
}
