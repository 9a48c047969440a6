//! The use of volumes by servers: reserved, begun, ended.
//!
//! [`attach`] and [`detach`] change the server they are given, and the caller stores it in the same transaction: its generation counts on,
//! and the attachment names the one in which its host hears of the change. What the host then says ends Attaching and Detaching. A server
//! that is on no host has nothing to wait for: control tells the next host of everything it has.

use std::sync::Arc;

use unkai_model::compute::{Availability, BootDisk, Server};
use unkai_model::volume::{AttachState, Attachment, Mode, Snapshot, Volume};
use unkai_model::{Error, Id, Meta};
use unkai_store::{Tx, View};

use super::state::{State, state};

/// The most disks that a server can have, its local ones among them: `vda` to `vdz`.
pub const MOST_DISKS: usize = 26;

/// How a server is to have a volume.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct How {
    /// None: the next one that is free.
    pub device: Option<String>,
    pub boot_index: Option<u32>,
    pub bus: Option<String>,
    pub tag: Option<String>,
    pub delete_on_termination: bool,
    pub mode: Mode,
}

/// Keeps a volume for a server, of this cloud or not, or for whoever asks: nobody else may attach it.
pub fn reserve(tx: &mut Tx, volume: &Id<Volume>, server: Option<&Id<Server>>, mode: Mode) -> Result<Arc<Attachment>, Error> {
    let found = tx.require(volume)?;
    may_use(&tx.view(), &found, server)?;
    if let Some(own) = server.and_then(|server| of_server(&tx.view(), volume, server)) {
        return Ok(own);
    }
    tx.insert(new(tx, &found, server, mode))
}

/// Gives a volume to a server.
pub fn attach(tx: &mut Tx, volume: &Id<Volume>, server: &mut Server, how: How) -> Result<Arc<Attachment>, Error> {
    let found = tx.require(volume)?;
    let view = tx.view();
    may_use(&view, &found, Some(&server.meta.id))?;
    is_near(&view, &found, server)?;
    attach_new(tx, &found, server, how)
}

/// A volume in a pool that the server's host does not reach cannot come to it, and one in a pool of one host alone binds it there.
fn is_near(view: &View, volume: &Volume, server: &Server) -> Result<(), Error> {
    let Some(pool) = volume.status.pool.as_ref().and_then(|pool| view.get(pool)) else { return Ok(()) };
    let id = &volume.meta.id;
    if server.status.host.as_ref().is_some_and(|host| !pool.is_reached_by(host)) {
        return Err(Error::invalid(format!("Invalid volume: Volume {id} cannot be reached from the host of the server")));
    }
    if server.spec.availability != Availability::None && !pool.is_shared() {
        let why = "is on one host alone, so the server could not be highly available with it";
        return Err(Error::invalid(format!("Invalid volume: Volume {id} {why}")));
    }
    Ok(())
}

/// The same for a volume that was made for this server in this transaction, and is not there yet.
pub fn attach_made(tx: &mut Tx, volume: &Id<Volume>, server: &mut Server, how: How) -> Result<Arc<Attachment>, Error> {
    let found = tx.require(volume)?;
    attach_new(tx, &found, server, how)
}

fn attach_new(tx: &mut Tx, volume: &Volume, server: &mut Server, how: How) -> Result<Arc<Attachment>, Error> {
    let view = tx.view();
    let reserved = of_server(&view, &volume.meta.id, &server.meta.id);
    let device = match how.device {
        Some(device) => device,
        None => next_device(&view, server, how.boot_index == Some(0))?,
    };
    let fence = tx
        .update(&volume.meta.id, |volume: &mut Volume| {
            volume.spec.fence += 1;
            volume.spec.reset = None;
            volume.spec.reserved = false;
            Ok::<_, Error>(())
        })?
        .spec
        .fence;
    server.meta.generation += u64::from(server.status.host.is_some());
    let base = match &reserved {
        Some(reserved) => Attachment::clone(reserved),
        None => new(tx, volume, Some(&server.meta.id), how.mode),
    };
    let attachment = Attachment {
        mode: if volume.spec.read_only { Mode::ReadOnly } else { how.mode },
        state: AttachState::Attaching,
        device: Some(device),
        boot_index: how.boot_index,
        bus: how.bus,
        tag: how.tag,
        delete_on_termination: how.delete_on_termination,
        generation: server.meta.generation,
        fence,
        ..base
    };
    match reserved {
        None => tx.insert(attachment),
        Some(reserved) => tx.update(&reserved.meta.id, |stored: &mut Attachment| {
            *stored = attachment;
            Ok(())
        }),
    }
}

/// A server that has left its host has its volumes at once, as far as anybody can tell: it is given them when it comes back.
pub fn settle_off_host(tx: &mut Tx, attachment: &Id<Attachment>) -> Result<Arc<Attachment>, Error> {
    let now = tx.now();
    tx.update(attachment, |attachment: &mut Attachment| {
        attachment.state = AttachState::Attached;
        attachment.attached_at.get_or_insert(now);
        Ok(())
    })
}

/// Takes a volume from a server.
pub fn detach(tx: &mut Tx, attachment: &Id<Attachment>, server: &mut Server) -> Result<(), Error> {
    let found = tx.require(attachment)?;
    tx.update(&found.volume, |volume: &mut Volume| {
        volume.spec.reset = None;
        Ok::<_, Error>(())
    })?;
    if found.state != AttachState::Attached {
        return Err(Error::invalid(
            "Invalid volume: Unable to detach volume. Volume status must be 'in-use' and attach_status must be 'attached' to detach.",
        ));
    }
    if server.status.host.is_none() {
        return tx.delete(attachment).map(drop);
    }
    let now = tx.now();
    server.meta.generation += 1;
    tx.update(attachment, |attachment: &mut Attachment| {
        attachment.state = AttachState::Detaching;
        attachment.generation = server.meta.generation;
        attachment.detached_at = Some(now);
        Ok(())
    })
    .map(drop)
}

/// A server that is on no host has ended: it lets go of its volumes, and those that were to end with it do. One with snapshots, or that
/// another server has, stays, as if its deletion had been refused.
pub fn release(tx: &mut Tx, server: &Id<Server>) -> Result<(), Error> {
    for attachment in attachments(&tx.view(), server) {
        tx.delete(&attachment.meta.id)?;
        let volume = attachment.volume.as_str();
        let kept =
            tx.by_index::<Snapshot>("volume", volume).next().is_some() || tx.by_index::<Attachment>("volume", volume).next().is_some();
        if attachment.delete_on_termination && !kept {
            tx.update(&attachment.volume, |volume: &mut Volume| {
                volume.meta.generation += u64::from(!volume.spec.deleted);
                volume.spec.deleted = true;
                Ok::<_, Error>(())
            })?;
        }
    }
    Ok(())
}

/// The volumes of a server, the root disk first, in the order of the guest's disks.
pub fn attachments(view: &View, server: &Id<Server>) -> Vec<Arc<Attachment>> {
    let mut all: Vec<_> = view.by_index::<Attachment>("server", server.as_str()).collect();
    all.sort_by_cached_key(|one| (!one.is_root(), one.device.as_ref().map(|d| (d.len(), d.clone())), one.meta.id.clone()));
    all
}

/// The attachment of one volume to one server.
pub fn of_server(view: &View, volume: &Id<Volume>, server: &Id<Server>) -> Option<Arc<Attachment>> {
    view.by_index::<Attachment>("volume", volume.as_str()).find(|attachment| attachment.server.as_ref() == Some(server))
}

fn new(tx: &Tx, volume: &Volume, server: Option<&Id<Server>>, mode: Mode) -> Attachment {
    let mut meta = Meta::new(tx.new_id());
    meta.project = volume.meta.project.clone();
    Attachment::new(meta, volume.meta.id.clone(), server.cloned(), mode)
}

/// In the words of whoever refuses it in the field: compute, when the volume has users, and block storage.
fn may_use(view: &View, volume: &Volume, server: Option<&Id<Server>>) -> Result<(), Error> {
    let id = &volume.meta.id;
    let users: Vec<_> = view.by_index::<Attachment>("volume", id.as_str()).filter(|user| user.state != AttachState::Reserved).collect();
    let has = |user: &&Arc<Attachment>| server.is_some() && user.server.as_ref() == server;
    match users.iter().find(has) {
        Some(_) if volume.spec.multi_attach => return Err(Error::invalid(format!("Invalid volume: volume {id} already attached"))),
        _ if volume.spec.multi_attach || users.is_empty() => {}
        _ => {
            let servers: Vec<&str> = users.iter().filter_map(|user| Some(user.server.as_ref()?.as_str())).collect();
            return Err(Error::invalid(format!("Invalid volume: volume {id} is already attached to instances: {}", servers.join(" "))));
        }
    }
    let own = server.is_some_and(|server| of_server(view, id, server).is_some());
    let legal = match state(view, volume) {
        State::Available => true,
        State::InUse | State::Detaching => volume.spec.multi_attach,
        State::Reserved => own,
        _ => false,
    };
    let states = if volume.spec.multi_attach { "available or in-use" } else { "available" };
    let refuse = || Error::invalid(format!("Invalid volume: Volume {id} status must be {states}"));
    legal.then_some(()).ok_or_else(refuse)
}

/// The first name that neither a local disk nor another volume of the server has.
fn next_device(view: &View, server: &Server, root: bool) -> Result<String, Error> {
    let launch = &server.spec.launch;
    // Even when it is not attached yet: another volume does not take the place of the root disk.
    let local = 1 + usize::from(launch.ephemeral_gib() > 0) + usize::from(launch.swap_mib() > 0);
    if root && launch.boot == BootDisk::Volume {
        return Ok("/dev/vda".into());
    }
    let taken: Vec<String> = attachments(view, &server.meta.id).iter().filter_map(|one| one.device.clone()).collect();
    let mut names = ('a'..='z').skip(local).map(|letter| format!("/dev/vd{letter}"));
    let full = || {
        Error::denied(format!(
            "The maximum allowed number of disk devices ({MOST_DISKS}) to attach to a single instance has been exceeded."
        ))
    };
    names.find(|name| !taken.contains(name)).ok_or_else(full)
}

#[cfg(test)]
mod tests;
