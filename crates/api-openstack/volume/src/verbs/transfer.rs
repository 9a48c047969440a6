//! Volumes offered to other projects.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use unkai_model::identity::Project;
use unkai_model::volume::{Snapshot, Transfer, Volume, VolumeType};
use unkai_model::{Error, Id, Meta};
use unkai_store::Tx;

use super::limits;
use super::state::{State, state};

fn hash(salt: &str, key: &str) -> String {
    hex::encode(Sha256::digest(format!("{salt}{key}")))
}

/// Offers a volume; the key that is answered is kept nowhere. Whether an encrypted one may be offered is for the caller to know.
pub fn offer(tx: &mut Tx, id: &Id<Volume>, name: &str, no_snapshots: bool) -> Result<(Arc<Transfer>, String), Error> {
    let volume = tx.require(id)?;
    if state(&tx.view(), &volume) != State::Available {
        return Err(Error::invalid("Invalid volume: status must be available"));
    }
    if no_snapshots && tx.by_index::<Snapshot>("volume", id.as_str()).next().is_some() {
        return Err(Error::invalid("Invalid volume: its snapshots cannot stay without it"));
    }
    let (salt, key) = (hex::encode(tx.random::<8>()), hex::encode(tx.random::<8>()));
    let mut meta = Meta::new(tx.new_id()).named(name);
    meta.project = volume.meta.project.clone();
    let hash = hash(&salt, &key);
    let made = tx.insert(Transfer { meta, volume: id.clone(), salt, hash, no_snapshots, destination: None })?;
    Ok((made, key))
}

/// The volume, with its snapshots, becomes the project's, which is charged.
pub fn accept(tx: &mut Tx, id: &Id<Transfer>, key: &str, project: &Id<Project>, user: &str) -> Result<Arc<Transfer>, Error> {
    let transfer = tx.require(id)?;
    if !equal(hash(&transfer.salt, key).as_bytes(), transfer.hash.as_bytes()) {
        return Err(Error::invalid(format!("Invalid auth key: Attempt to transfer {id} with invalid auth key.")));
    }
    let volume = tx.require(&transfer.volume)?;
    let kind = tx.require(&volume.spec.volume_type)?;
    if !kind.is_visible_to(Some(project)) {
        return Err(Error::not_found::<VolumeType>(&kind.meta.id));
    }
    limits::check(tx, project, &["volumes", "gigabytes", "snapshots"]);
    limits::check_type(tx, project, &kind, &["volumes", "gigabytes", "snapshots"]);
    let snapshots: Vec<_> = tx.by_index::<Snapshot>("volume", volume.meta.id.as_str()).collect();
    for snapshot in snapshots {
        tx.update(&snapshot.meta.id, |snapshot: &mut Snapshot| {
            snapshot.meta.project = Some(project.clone());
            snapshot.user = user.to_owned();
            Ok::<_, Error>(())
        })?;
    }
    tx.update(&volume.meta.id, |volume: &mut Volume| {
        volume.meta.project = Some(project.clone());
        volume.spec.user = user.to_owned();
        Ok::<_, Error>(())
    })?;
    tx.delete(id)
}

/// Takes as long whatever they are.
fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}
