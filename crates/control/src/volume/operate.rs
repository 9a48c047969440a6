//! What operators do with pools, and the volume type that a cloud begins with.

use std::collections::{BTreeMap, BTreeSet};

use unkai_model::compute::Host;
use unkai_model::volume::{Backend, Backup, Pool, Volume, VolumeType};
use unkai_model::{Error, Id, Meta};
use unkai_store::{Tx, View};

/// A pool as it is asked for.
#[derive(Debug, Clone)]
pub struct PoolWish {
    pub name: String,
    pub backend: Backend,
    /// None: all hosts.
    pub hosts: BTreeSet<Id<Host>>,
    pub keeps_backups: bool,
    pub overcommit: f64,
    pub capabilities: BTreeMap<String, String>,
}

pub fn create(tx: &mut Tx, wish: PoolWish) -> Result<Id<Pool>, Error> {
    check(tx, &wish)?;
    let pool = Pool::new(Meta::new(tx.new_id()).named(wish.name), wish.backend);
    let (hosts, keeps_backups, overcommit, capabilities) = (wish.hosts, wish.keeps_backups, wish.overcommit, wish.capabilities);
    tx.insert(Pool { hosts, keeps_backups, overcommit, capabilities, ..pool }).map(|pool| pool.meta.id.clone())
}

fn check(tx: &Tx, wish: &PoolWish) -> Result<(), Error> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    if wish.name.is_empty() || wish.name.len() > 255 || !wish.name.chars().all(plain) {
        return Err(Error::invalid("a pool's name has 1 to 255 letters, digits, dots, dashes and underlines"));
    }
    if let Some(other) = tx.holder::<Pool>("pool-name", &wish.name) {
        return Err(Error::conflict(format!("pool {other} has the name {} already", wish.name)));
    }
    if !(0.01..=1000.0).contains(&wish.overcommit) {
        return Err(Error::invalid("between 0.01 and 1000 GiB can be promised for each that is there"));
    }
    if wish.keeps_backups && !matches!(wish.backend, Backend::Files { .. }) {
        return Err(Error::invalid("only pools of driver files keep backups"));
    }
    if matches!(wish.backend, Backend::Nfs { uid: 0, .. }) {
        return Err(Error::invalid("root may write any file, so nobody could be kept from its volumes: another uid is needed"));
    }
    if let Backend::Iscsi { target, .. } = &wish.backend
        && !wish.hosts.is_empty()
        && !wish.hosts.contains(&Id::new(target.as_str()))
    {
        return Err(Error::invalid("the host of the target must be one of the pool's hosts"));
    }
    Ok(())
}

/// By id or name.
pub fn find(view: &View, text: &str) -> Result<Id<Pool>, Error> {
    let found = view.all::<Pool>().find(|pool| pool.meta.id.as_str() == text || pool.meta.name == text);
    found.map(|pool| pool.meta.id.clone()).ok_or_else(|| Error::not_found::<Pool>(text))
}

/// Whether new volumes may be placed in it; the text says why not.
pub fn disable(tx: &mut Tx, id: &Id<Pool>, why: Option<String>) -> Result<(), Error> {
    tx.update(id, |pool: &mut Pool| {
        pool.disabled = why;
        Ok::<_, Error>(())
    })
    .map(drop)
}

/// Forgets a pool that holds nothing.
pub fn delete(tx: &mut Tx, id: &Id<Pool>) -> Result<(), Error> {
    let pool = tx.require(id)?;
    let volumes = tx.by_index::<Volume>("pool", id.as_str()).count();
    let backups = tx.by_index::<Backup>("repository", id.as_str()).count();
    if volumes + backups > 0 {
        return Err(Error::conflict(format!("pool {} holds {volumes} volumes and {backups} backups", pool.meta.name)));
    }
    tx.delete(id).map(drop)
}

/// The type that volumes have when nobody says another, made when there is none at all.
pub fn standard_type(tx: &mut Tx) -> Result<(), Error> {
    if tx.all::<VolumeType>().next().is_some() {
        return Ok(());
    }
    let (access, extra_specs) = Default::default();
    let meta = Meta::new(tx.new_id()).named("standard");
    tx.insert(VolumeType { meta, description: None, public: true, access, extra_specs, encryption: None, encryption_id: None }).map(drop)
}
