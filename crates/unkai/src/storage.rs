//! Storage pools and volumes in the words of operators: what is asked for on the command line, and what is shown.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use unkai_control::volume::operate::{self, PoolWish};
use unkai_control::volume::pools;
use unkai_model::compute::Host;
use unkai_model::volume::{Attachment, Backend, Backup, Pool, Snapshot, Volume, VolumeType};
use unkai_model::{Error, Id};
use unkai_store::{Tx, View};

use crate::why::{show, since};

#[derive(Clone, Copy, ValueEnum)]
pub enum Driver {
    /// A directory of one host, or mounted at the same path on all hosts of the pool.
    Files,
    /// An NFS export, through QEMU's own client.
    Nfs,
    /// A pool of a Ceph cluster.
    Rbd,
    /// LUNs of a target that one host serves.
    Iscsi,
}

#[derive(Args)]
pub struct NewPool {
    name: String,
    #[arg(long)]
    driver: Driver,
    /// A host that reaches it, by id or name; may be given several times. None: all hosts.
    #[arg(long = "host")]
    hosts: Vec<String>,
    /// It takes backups of volumes too. Only pools of files can.
    #[arg(long)]
    backups: bool,
    /// How many GiB may be promised for each that is there.
    #[arg(long, default_value_t = 1.0)]
    overcommit: f64,
    /// What extra specs of volume types are compared with: KEY=VALUE. May be given several times.
    #[arg(long = "capability", value_name = "KEY=VALUE")]
    capabilities: Vec<String>,
    /// files, iscsi: the directory.
    #[arg(long = "dir", value_name = "DIR")]
    path: Option<PathBuf>,
    /// nfs: address of the server.
    #[arg(long)]
    server: Option<String>,
    /// nfs: path of the export.
    #[arg(long)]
    export: Option<String>,
    /// nfs: whose files are; the 65,536 users from this one on are used there.
    #[arg(long, default_value_t = 3_000_000)]
    uid: u32,
    #[arg(long, default_value_t = 3_000_000)]
    gid: u32,
    /// rbd: address of a monitor; may be given several times.
    #[arg(long = "monitor")]
    monitors: Vec<String>,
    /// rbd: the pool in Ceph.
    #[arg(long)]
    ceph_pool: Option<String>,
    /// iscsi: the host that serves the target, by id or name.
    #[arg(long)]
    target: Option<String>,
    /// iscsi: where the target answers, ADDRESS or ADDRESS:PORT.
    #[arg(long)]
    portal: Option<String>,
    /// iscsi: name of the target.
    #[arg(long)]
    iqn: Option<String>,
    /// rbd, iscsi: as whom hosts come to it.
    #[arg(long)]
    user: Option<String>,
    /// rbd: the user's key. iscsi: the user's password.
    #[arg(long, env = "UNKAI_POOL_SECRET", hide_env_values = true)]
    secret: Option<String>,
}

/// A pool as it is asked for over the local socket: hosts by id or name.
#[derive(Serialize, Deserialize)]
pub struct PoolRequest {
    name: String,
    backend: Backend,
    hosts: Vec<String>,
    backups: bool,
    overcommit: f64,
    capabilities: BTreeMap<String, String>,
}

impl NewPool {
    pub fn request(self) -> Result<PoolRequest> {
        let capabilities = self.capabilities.iter().map(|pair| {
            let (key, value) = pair.split_once('=').with_context(|| format!("`{pair}` is not KEY=VALUE"))?;
            Ok((key.trim().to_owned(), value.trim().to_owned()))
        });
        Ok(PoolRequest {
            capabilities: capabilities.collect::<Result<_>>()?,
            backend: self.backend()?,
            name: self.name,
            hosts: self.hosts,
            backups: self.backups,
            overcommit: self.overcommit,
        })
    }

    fn backend(&self) -> Result<Backend> {
        let dir = || match &self.path {
            Some(path) if path.is_absolute() => Ok(path.clone()),
            Some(path) => bail!("--dir {}: a path from the root is needed, it is the same on all hosts", path.display()),
            None => bail!("--dir is missing"),
        };
        Ok(match self.driver {
            Driver::Files => Backend::Files { dir: dir()? },
            Driver::Nfs => Backend::Nfs {
                server: needed("--server", &self.server)?,
                export: needed("--export", &self.export)?,
                uid: self.uid,
                gid: self.gid,
            },
            Driver::Rbd => {
                if self.monitors.is_empty() {
                    bail!("--monitor is missing");
                }
                let (pool, user) = (needed("--ceph-pool", &self.ceph_pool)?, needed("--user", &self.user)?);
                Backend::Rbd { monitors: self.monitors.clone(), pool, user, key: needed("--secret", &self.secret)? }
            }
            Driver::Iscsi => Backend::Iscsi {
                target: needed("--target", &self.target)?,
                portal: needed("--portal", &self.portal)?,
                iqn: needed("--iqn", &self.iqn)?,
                dir: dir()?,
                user: needed("--user", &self.user)?,
                password: needed("--secret", &self.secret)?,
            },
        })
    }
}

fn needed(name: &str, value: &Option<String>) -> Result<String> {
    match value.as_deref().map(str::trim) {
        Some(value) if !value.is_empty() => Ok(value.to_owned()),
        _ => bail!("{name} is missing"),
    }
}

pub fn create(tx: &mut Tx, request: &PoolRequest) -> Result<Id<Pool>, Error> {
    let host = |text: &String| {
        let found = tx.all::<Host>().find(|host| host.meta.id.as_str() == text || host.meta.name == *text);
        found.map(|host| host.meta.id.clone()).ok_or_else(|| Error::not_found::<Host>(text))
    };
    let hosts = request.hosts.iter().map(host).collect::<Result<BTreeSet<_>, _>>()?;
    let mut backend = request.backend.clone();
    if let Backend::Iscsi { target, .. } = &mut backend {
        *target = host(target)?.to_string();
    }
    let (name, capabilities) = (request.name.clone(), request.capabilities.clone());
    operate::create(tx, PoolWish { name, backend, hosts, keeps_backups: request.backups, overcommit: request.overcommit, capabilities })
}

/// The pool that a new cloud of one machine begins with; afterwards pools are the operators'.
pub fn first_pool(tx: &mut Tx, dir: &Path, hosts: &BTreeSet<Id<Host>>) -> Result<(), Error> {
    if tx.all::<Pool>().next().is_some() {
        return Ok(());
    }
    let (name, backend, capabilities) = ("local".into(), Backend::Files { dir: dir.to_owned() }, BTreeMap::new());
    operate::create(tx, PoolWish { name, backend, hosts: hosts.clone(), keeps_backups: true, overcommit: 1.0, capabilities }).map(drop)
}

fn host_name(view: &View, id: &Id<Host>) -> String {
    view.get(id).map_or_else(|| id.to_string(), |host| host.meta.name.clone())
}

/// `unkai pool list`.
pub fn list(view: &View) -> String {
    let mut out = String::new();
    for pool in view.all::<Pool>() {
        let id = &pool.meta.id;
        let hosts = match pool.hosts.is_empty() {
            true => "all hosts".to_owned(),
            false => pool.hosts.iter().map(|host| host_name(view, host)).collect::<Vec<_>>().join(","),
        };
        let ((total, free), promised) = (pool.space(), view.tally("pool_gib", id.as_str()));
        let backups = if pool.keeps_backups { "  keeps backups" } else { "" };
        let _ = writeln!(
            out,
            "{id}  {}  {}  {hosts}  {total} GiB, {free} free, {promised} promised{backups}  {}",
            pool.meta.name,
            pool.backend.driver(),
            state(view, &pool)
        );
    }
    out
}

fn state(view: &View, pool: &Pool) -> String {
    if let Some(why) = &pool.disabled {
        return if why.is_empty() { "disabled".into() } else { format!("disabled: {why}") };
    }
    if pool.status.hosts.is_empty() {
        return "not heard of yet".into();
    }
    let faults =
        pool.status.hosts.iter().filter_map(|(host, reached)| Some(format!("{}: {}", host_name(view, host), reached.fault.as_ref()?)));
    let faults: Vec<_> = faults.collect();
    if faults.is_empty() { "works".into() } else { faults.join("; ") }
}

/// The lines of `unkai status`.
pub fn status(view: &View) -> String {
    let mut out = String::new();
    for pool in view.all::<Pool>() {
        let ((total, free), promised) = (pool.space(), view.tally("pool_gib", pool.meta.id.as_str()));
        let name = &pool.meta.name;
        let _ = writeln!(out, "pool      {name}  {total} GiB, {free} free, {promised} promised  {}", state(view, &pool));
    }
    let faults = view.all::<Volume>().filter(|volume| volume.status.fault.is_some()).count();
    let faults = if faults > 0 { format!(", of which {faults} have a fault") } else { String::new() };
    let _ = writeln!(out, "volumes   {}{faults}", view.count::<Volume>());
    out
}

/// Volumes by id or name, and what belongs to block storage by id.
pub fn explain(view: &View, id: &str, out: &mut String) {
    let named = view.all::<Volume>().filter(|volume| volume.meta.id.as_str() == id || volume.meta.name == id);
    if let Some(volume) = named.max_by_key(|volume| volume.meta.created) {
        out.push_str(&explain_volume(view, &volume));
    }
    show::<Snapshot>(view, id, out);
    show::<Backup>(view, id, out);
    show::<Attachment>(view, id, out);
    show::<VolumeType>(view, id, out);
    if let Some(pool) = view.all::<Pool>().find(|pool| pool.meta.id.as_str() == id || pool.meta.name == id) {
        let _ = writeln!(out, "storage pool {} ({}): {:?}", pool.meta.id, pool.meta.name, pool.backend);
        let _ = writeln!(out, "  state     {}", state(view, &pool));
    }
}

fn explain_volume(view: &View, volume: &Volume) -> String {
    let (meta, spec, status) = (&volume.meta, &volume.spec, &volume.status);
    let mut out = format!("volume {} ({})\n", meta.id, meta.name);
    let wanted = if spec.deleted { "to be gone".to_owned() } else { format!("{} GiB", spec.size_gib) };
    let _ = writeln!(out, "  wanted    {wanted}, generation {}, fence {}", meta.generation, spec.fence);
    let _ = writeln!(out, "  observed  {:?}, generation {}", status.phase, status.generation);
    match &status.pool {
        Some(pool) => drop(writeln!(out, "  pool      {}", view.get(pool).map_or_else(|| pool.to_string(), |pool| pool.meta.name.clone()))),
        None => match pools::explain(view, volume) {
            Ok(pool) => drop(writeln!(out, "  pool      none yet; it fits in {pool}")),
            Err(none) => drop(writeln!(out, "  pool      none: {none}")),
        },
    }
    let carrier = status.carrier.as_ref().and_then(|id| view.get(id));
    let carrier = carrier.map_or_else(|| "none".into(), |host| format!("{} ({:?})", host.meta.name, host.status.reachability));
    let _ = writeln!(out, "  carrier   {carrier}");
    if let Some(fault) = &status.fault {
        let _ = writeln!(out, "  fault     {} (at {})", fault.message, fault.at);
    }
    let _ = writeln!(out, "  accepted  {}", meta.created);
    if let Some(at) = status.since {
        let _ = writeln!(out, "  whole     {at}  {}", since(meta.created, at));
    }
    for attachment in view.by_index::<Attachment>("volume", meta.id.as_str()) {
        let server = attachment.server.as_ref().map_or_else(|| "nobody".to_owned(), ToString::to_string);
        let device = attachment.device.as_deref().unwrap_or("no device");
        let _ = writeln!(out, "  used by   {server}  {device}  {:?}  fence {}", attachment.state, attachment.fence);
    }
    for snapshot in view.by_index::<Snapshot>("volume", meta.id.as_str()) {
        let _ = writeln!(out, "  snapshot  {}  {}  {:?}", snapshot.meta.id, snapshot.meta.name, snapshot.phase);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        pool: NewPool,
    }

    fn request(line: &str) -> Result<PoolRequest, String> {
        let line = Line::try_parse_from(std::iter::once("x").chain(line.split(' '))).map_err(|e| e.to_string())?;
        line.pool.request().map_err(|e| e.to_string())
    }

    #[test]
    fn pools_are_read_from_the_command_line() {
        let files = request("a --driver files --dir /srv/v --host h1 --host h2 --backups --overcommit 2.5 --capability media=ssd").unwrap();
        assert_eq!(files.backend, Backend::Files { dir: "/srv/v".into() });
        assert_eq!((files.hosts.len(), files.backups, files.overcommit), (2, true, 2.5));
        assert_eq!(files.capabilities, [("media".to_owned(), "ssd".to_owned())].into());
        let nfs = request("a --driver nfs --server 10.0.0.9 --export /srv --uid 7 --gid 8").unwrap();
        assert_eq!(nfs.backend, Backend::Nfs { server: "10.0.0.9".into(), export: "/srv".into(), uid: 7, gid: 8 });
        let rbd = request("a --driver rbd --monitor m1 --monitor m2 --ceph-pool volumes --user unkai --secret key").unwrap();
        assert_eq!(rbd.backend.driver(), "rbd");
        let iscsi = request("a --driver iscsi --target h1 --portal 10.0.0.9 --iqn iqn.x --dir /srv/l --user u --secret p").unwrap();
        assert_eq!(iscsi.backend.driver(), "iscsi");
    }

    #[test]
    fn what_is_missing_is_named() {
        for (line, missing) in [
            ("a --driver files", "--dir is missing"),
            ("a --driver files --dir v", "a path from the root"),
            ("a --driver nfs --server s", "--export is missing"),
            ("a --driver rbd --ceph-pool p --user u --secret k", "--monitor is missing"),
            ("a --driver rbd --monitor m --ceph-pool p --secret k", "--user is missing"),
            ("a --driver iscsi --dir /v --portal p --iqn i --user u --secret p", "--target is missing"),
            ("a --driver files --dir /v --capability ssd", "not KEY=VALUE"),
            ("a --driver tape --dir /v", "invalid value"),
        ] {
            let refused = request(line).err().unwrap_or_default();
            assert!(refused.contains(missing), "{line}: {refused}");
        }
    }
}
