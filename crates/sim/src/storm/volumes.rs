//! What storms do with volumes, and what must be true of them afterwards.

use unkai_link::item::HostId;
use unkai_model::compute::{Run, Server};
use unkai_model::volume::{AttachState, Attachment, Source, Volume, VolumePhase};
use unkai_model::{Error, Id};
use unkai_store::{Tx, View};

use crate::cloud;
use crate::storage::Storage;

/// Of all hosts, and of the first one alone.
pub const SHARED: &str = "shared";
pub const LOCAL: &str = "local";

pub fn create_pools(tx: &mut Tx, first: &HostId) -> Result<(), Error> {
    cloud::create_pool(tx, SHARED, &[], true)?;
    cloud::create_pool(tx, LOCAL, std::slice::from_ref(first), false).map(drop)
}

/// Most start from a disk of their host, some from a volume.
pub fn create_server(tx: &mut Tx, name: &str, draw: u64) -> Result<Id<Server>, Error> {
    match draw {
        0..=39 => cloud::create_server_on_volume(tx, name, Some(SHARED)),
        40..=47 => cloud::create_server_on_volume(tx, name, Some(LOCAL)),
        _ => cloud::create_server(tx, name),
    }
}

/// Somebody attaches, detaches, grows or deletes.
pub fn use_it(tx: &mut Tx, server: &Id<Server>, draw: u64) -> Result<(), Error> {
    let lives = tx.get(server).is_some_and(|server| server.is_live() && matches!(server.spec.run, Run::Running | Run::Stopped));
    let data: Vec<_> = tx.by_index::<Attachment>("server", server.as_str()).filter(|attachment| !attachment.is_root()).collect();
    match draw {
        0..=14 => cloud::create_volume(tx, "data", Source::Blank, Some(if draw < 12 { SHARED } else { LOCAL })).map(drop),
        15..=44 if lives && data.len() < 3 => {
            let free = tx.all::<Volume>().find(|volume| is_free(&tx.view(), volume));
            let device = format!("/dev/vd{}", char::from(b'b' + data.len() as u8));
            free.map_or(Ok(()), |volume| cloud::attach_volume(tx, &volume.meta.id, server, &device).map(drop))
        }
        45..=69 => {
            let attached = data.iter().find(|attachment| attachment.state == AttachState::Attached);
            attached.map_or(Ok(()), |attachment| cloud::detach_volume(tx, &attachment.meta.id))
        }
        70..=84 => {
            let ready = tx.all::<Volume>().find(|volume| volume.is_ready() && !volume.spec.deleted);
            ready.map_or(Ok(()), |volume| cloud::change_volume(tx, &volume.meta.id, |spec| spec.size_gib += 1))
        }
        85..=92 => {
            let free = tx.all::<Volume>().find(|volume| is_free(&tx.view(), volume));
            free.map_or(Ok(()), |volume| cloud::change_volume(tx, &volume.meta.id, |spec| spec.deleted = true))
        }
        _ => Ok(()),
    }
}

fn is_free(view: &View, volume: &Volume) -> bool {
    let used = view.by_index::<Attachment>("volume", volume.meta.id.as_str()).next().is_some();
    volume.is_ready() && !volume.spec.deleted && !used
}

/// How many volumes servers that run have, and how many servers started from theirs on more than one host.
pub fn in_use(view: &View) -> (usize, usize) {
    let running = |id: &Id<Server>| view.get(id).is_some_and(|server| server.spec.run == Run::Running && server.status.host.is_some());
    let attached = view.all::<Attachment>().filter(|attachment| attachment.state == AttachState::Attached);
    let used: Vec<_> = attached.filter(|attachment| attachment.server.as_ref().is_some_and(running)).collect();
    // The verb, the first carrier and the first placement make three.
    let moved = used.iter().filter(|attachment| attachment.is_root() && attachment.fence > 3);
    (used.len(), moved.count())
}

/// What is not as wanted, in words.
pub fn unsettled(view: &View, storage: &Storage) -> Vec<String> {
    let mut wrong = Vec::new();
    for volume in view.all::<Volume>() {
        let (id, status) = (&volume.meta.id, &volume.status);
        if volume.spec.deleted {
            wrong.push(format!("volume {id} is not gone yet, carrier {:?}", status.carrier));
        } else if status.pool.is_none() && status.fault.is_none() {
            wrong.push(format!("volume {id} has no pool and does not say why"));
        } else if status.pool.is_some() && !(volume.is_settled() && matches!(status.phase, VolumePhase::Ready { .. })) {
            wrong.push(format!(
                "volume {id} is {:?} at {} of {}, carrier {:?}",
                status.phase, status.generation, volume.meta.generation, status.carrier
            ));
        }
    }
    for attachment in view.by_index::<Attachment>("moving", "yes") {
        // A server that could not be built keeps what it was to have.
        let built = attachment.server.as_ref().and_then(|id| view.get(id)).is_some_and(|server| server.status.host.is_some());
        if built || attachment.state == AttachState::Detaching {
            wrong.push(format!("attachment {} of {:?} is {:?}", attachment.meta.id, attachment.server, attachment.state));
        }
    }
    let kept = storage.volumes();
    let missing = view.all::<Volume>().filter(|volume| volume.status.made && !kept.contains_key(volume.meta.id.as_str()));
    wrong.extend(missing.map(|volume| format!("the content of volume {} is lost", volume.meta.id)));
    let strangers = kept.keys().filter(|id| view.get(&Id::<Volume>::new(id.as_str())).is_none());
    wrong.extend(strangers.map(|id| format!("what was volume {id} is still stored")));
    wrong
}
