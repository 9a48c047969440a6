//! The mark of a pool: an object with a name of its own. A pool of Ceph without it is not taken for a volume pool that it once was.

use std::sync::Arc;

use super::cli::{Cluster, Program};
use super::lease;
use crate::error::{Error, Result};

const OBJECT: &str = "unkai-pool";

fn read(cluster: &Cluster) -> Result<Option<String>> {
    let found = cluster.get(OBJECT)?.filter(|mark| !mark.is_empty());
    Ok(found.map(|mark| String::from_utf8_lossy(&mark).trim().to_owned()))
}

/// The mark that is there and as it was expected. Without an expectation a pool without images becomes one of ours.
pub fn expect(cluster: &Arc<Cluster>, expected: Option<&str>) -> Result<String> {
    let pool = &cluster.pool;
    match (read(cluster)?, expected) {
        (Some(found), Some(expected)) if found != expected => {
            Err(Error::Pool(format!("Ceph pool {pool} is another pool than the one known by this name")))
        }
        (Some(found), _) => Ok(found),
        (None, Some(_)) => Err(Error::Pool(format!("Ceph pool {pool} has no mark: it is not the pool known by this name"))),
        (None, None) => make(cluster),
    }
}

/// Hosts find a new pool at the same time; one marks it.
fn make(cluster: &Arc<Cluster>) -> Result<String> {
    let pool = &cluster.pool;
    let Some(_lease) = lease::take(cluster, OBJECT, false)? else {
        return Err(Error::Pool(format!("Ceph pool {pool} is being marked by another host")));
    };
    if let Some(mark) = read(cluster)? {
        return Ok(mark);
    }
    let images: Vec<String> = cluster.json(Program::Rbd, ["ls"])?.unwrap_or_default();
    if let Some(stranger) = images.first() {
        return Err(Error::Pool(format!("Ceph pool {pool} is not empty: there is image {stranger:?}")));
    }
    let mark = lease::random()?;
    cluster.put(OBJECT, mark.as_bytes())?;
    Ok(mark)
}
