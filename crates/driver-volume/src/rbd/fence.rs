//! Shutting out those who were given a volume under an older generation.
//!
//! The image gets a new name, so that nobody opens it who was told the old one; then the cluster refuses every client that has it open for
//! writing, or holds its lock. Who is shut out can do nothing more with it, whether it knows or not, and finds out at its next write or read.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::cli::{Answer, Cluster, Program};
use crate::error::{Error, Result};

/// A client that sleeps longer than this is assumed not to wake up. Each takes some bytes in every map of the cluster.
const LONG_S: &str = "2592000";

#[derive(Deserialize)]
struct Status {
    watchers: Vec<Watcher>,
}

#[derive(Deserialize)]
struct Watcher {
    address: String,
}

/// Addresses of clients that have an image open for writing; those that died count for half a minute more.
pub fn users(cluster: &Cluster, image: &str) -> Result<BTreeSet<String>> {
    let status: Option<Status> = cluster.json(Program::Rbd, ["status", image])?;
    Ok(status.into_iter().flat_map(|status| status.watchers).map(|watcher| watcher.address).collect())
}

/// Who holds the image's lock has written, and may go on although nothing was heard of it for long.
fn holders(cluster: &Cluster, image: &str) -> Result<BTreeSet<String>> {
    let holders: Option<Vec<Watcher>> = cluster.json(Program::Rbd, ["lock", "ls", image])?;
    Ok(holders.unwrap_or_default().into_iter().map(|holder| holder.address).collect())
}

/// None of the clients that have the image open writes it any more.
pub fn shut_out(cluster: &Cluster, image: &str) -> Result<()> {
    let mut clients = users(cluster, image)?;
    clients.extend(holders(cluster, image)?);
    for client in clients {
        tracing::warn!(image, client, "a client with an older generation is shut out");
        cluster.go_on(Program::Ceph, ["osd", "blocklist", "add", &client, LONG_S])?;
    }
    Ok(())
}

/// Nothing happens when it has the new name already.
pub fn rename(cluster: &Cluster, from: &str, to: &str) -> Result<()> {
    match cluster.ask(Program::Rbd, ["rename", "--dest-pool", &cluster.pool, from, to])? {
        Answer::Done(_) | Answer::Absent => Ok(()),
        other => Err(Error::tool("rbd", format!("renaming {from} to {to}: {other:?}"))),
    }
}
