//! Images of RBD and their snapshots.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::cli::{Answer, Cluster, Program};
use crate::error::{Error, Result};

/// Clones whose snapshot may be removed while they live: the cluster keeps what they need.
const CLONES: &str = "--rbd-default-clone-format=2";
/// Stated, so that neither the cluster's defaults nor what is cloned decides. Without the lock several clients may write.
const EXCLUSIVE: &str = "layering,exclusive-lock,object-map,fast-diff,deep-flatten";
const SHARED: &str = "layering,deep-flatten";
/// Reads of a clone go through all that it comes from.
pub const DEEPEST: u32 = 5;
/// How many images are looked at that only wait for their clones to go.
const MOST_REAPED: usize = 32;

#[derive(Debug, Deserialize)]
pub struct Info {
    pub size: u64,
    snapshot_count: u64,
    features: Vec<String>,
    parent: Option<Parent>,
}

#[derive(Debug, Deserialize)]
struct Parent {
    id: String,
}

#[derive(Deserialize)]
struct Named {
    name: String,
    size: u64,
}

#[derive(Deserialize)]
struct Waste {
    id: String,
}

pub fn info(cluster: &Cluster, image: &str) -> Result<Option<Info>> {
    cluster.json(Program::Rbd, ["info", image])
}

impl Info {
    /// One client at a time writes it. Those that several may write have no such lock.
    pub fn is_exclusive(&self) -> bool {
        self.features.iter().any(|feature| feature == "exclusive-lock")
    }
}

/// Snapshots and their bytes.
pub fn snapshots(cluster: &Cluster, image: &str) -> Result<BTreeMap<String, u64>> {
    match info(cluster, image)? {
        Some(info) if info.snapshot_count > 0 => {
            let all: Option<Vec<Named>> = cluster.json(Program::Rbd, ["snap", "ls", image])?;
            Ok(all.unwrap_or_default().into_iter().map(|snapshot| (snapshot.name, snapshot.size)).collect())
        }
        _ => Ok(BTreeMap::new()),
    }
}

fn features(shared: bool) -> &'static str {
    if shared { SHARED } else { EXCLUSIVE }
}

pub fn create(cluster: &Cluster, image: &str, bytes: u64, shared: bool) -> Result<()> {
    let size = format!("{bytes}B");
    cluster.go_on(Program::Rbd, ["create", image, "--size", &size, "--image-feature", features(shared)]).map(drop)
}

/// Nothing happens when there is one.
pub fn take_snapshot(cluster: &Cluster, image: &str, snapshot: &str) -> Result<()> {
    match cluster.ask(Program::Rbd, ["snap", "create", "--no-progress", &format!("{image}@{snapshot}")])? {
        Answer::Done(_) | Answer::Present => Ok(()),
        Answer::Absent => Err(Error::Missing(format!("image {image}"))),
        other => Err(Error::tool("rbd", format!("taking snapshot {snapshot} of {image}: {other:?}"))),
    }
}

/// Nothing happens when there is none.
pub fn remove_snapshot(cluster: &Cluster, full_name: &str) -> Result<()> {
    match cluster.ask(Program::Rbd, ["snap", "rm", "--no-progress", full_name])? {
        Answer::Done(_) | Answer::Absent => Ok(()),
        other => Err(Error::tool("rbd", format!("removing snapshot {full_name}: {other:?}"))),
    }
}

pub fn clone(cluster: &Cluster, snapshot: &str, image: &str, shared: bool) -> Result<()> {
    let features = features(shared);
    cluster.go_on(Program::Rbd, ["clone", CLONES, "--image-feature", features, "--dest-pool", &cluster.pool, snapshot, image]).map(drop)
}

/// Through how many images a read of this one may go, counted as far as it matters.
pub fn depth(cluster: &Cluster, image: &str) -> Result<u32> {
    let mut parent = info(cluster, image)?.and_then(|info| info.parent);
    let mut depth = 0;
    while let Some(next) = parent.filter(|_| depth < DEEPEST) {
        depth += 1;
        let above: Option<Info> = cluster.json(Program::Rbd, ["info", "--image-id", &next.id])?;
        parent = above.and_then(|info| info.parent);
    }
    Ok(depth)
}

pub fn resize(cluster: &Cluster, image: &str, bytes: u64) -> Result<()> {
    cluster.go_on(Program::Rbd, ["resize", "--no-progress", "--size", &format!("{bytes}B"), image]).map(drop)
}

/// Removes an image and its snapshots. What clones of them need stays until they are gone.
pub fn dispose(cluster: &Cluster, image: &str) -> Result<()> {
    for snapshot in snapshots(cluster, image)?.keys() {
        remove_snapshot(cluster, &format!("{image}@{snapshot}"))?;
    }
    match cluster.ask(Program::Rbd, ["rm", "--no-progress", image])? {
        Answer::Done(_) | Answer::Absent => Ok(()),
        Answer::Needed => match cluster.ask(Program::Rbd, ["trash", "mv", image])? {
            Answer::Done(_) | Answer::Absent => Ok(()),
            other => Err(Error::tool("rbd", format!("putting away {image}: {other:?}"))),
        },
        Answer::Busy => Err(Error::Busy(format!("image {image}"))),
        other => Err(Error::tool("rbd", format!("removing {image}: {other:?}"))),
    }
}

/// Removes what only waited for its clones to go. What still has some stays for the next time.
pub fn reap(cluster: &Cluster) -> Result<()> {
    let waste: Vec<Waste> = cluster.json(Program::Rbd, ["trash", "ls"])?.unwrap_or_default();
    for image in waste.iter().take(MOST_REAPED) {
        if !matches!(cluster.ask(Program::Rbd, ["trash", "rm", "--no-progress", &image.id]), Ok(Answer::Done(_))) {
            tracing::debug!(id = image.id, "an image that was removed still has clones");
        }
    }
    Ok(())
}
