//! What happens to a server's volumes when it is placed, settles, and ends.
//!
//! Every time a server is given to a host its volumes get a new fencing generation each, and its item names them: whatever still runs
//! with an older one cannot write. Attaching and Detaching end when the server has settled at the generation that told the host.

use std::sync::Arc;

use unkai_model::compute::{Host, Phase, Server};
use unkai_model::volume::{AttachState, Attachment, Pool, Snapshot, Volume};
use unkai_model::{Error, Id};
use unkai_store::{Tx, View};

use super::carriers;

/// May the server be given to a host, as far as its volumes go?
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    Ready,
    /// One is still being made.
    Waits,
    /// One will not be: why.
    Broken(String),
}

pub fn readiness(view: &View, server: &Id<Server>) -> Readiness {
    let mut waits = false;
    for attachment in of(view, server).filter(|attachment| attachment.state != AttachState::Detaching) {
        let id = &attachment.volume;
        let Some(volume) = view.get(id).filter(|volume| !volume.spec.deleted) else {
            return Readiness::Broken(format!("Block Device Mapping is Invalid: failed to get volume {id}."));
        };
        if let Some(fault) = volume.status.fault.as_ref().filter(|_| !volume.status.made) {
            let why = &fault.message;
            return Readiness::Broken(format!(
                "Block Device Mapping is Invalid: Volume {id} did not finish being created, its status is error: {why}"
            ));
        }
        waits |= !volume.status.made;
    }
    if waits { Readiness::Waits } else { Readiness::Ready }
}

fn of<'a>(view: &'a View, server: &Id<Server>) -> impl Iterator<Item = Arc<Attachment>> + 'a {
    view.by_index::<Attachment>("server", server.as_str())
}

/// The pools that a server's host has to reach.
pub fn pools(view: &View, server: &Id<Server>) -> Vec<Arc<Pool>> {
    let volumes = of(view, server).filter(|attachment| attachment.state != AttachState::Detaching);
    let mut pools: Vec<_> = volumes.filter_map(|attachment| view.get(view.get(&attachment.volume)?.status.pool.as_ref()?)).collect();
    pools.sort_by(|a, b| a.meta.id.cmp(&b.meta.id));
    pools.dedup_by(|a, b| a.meta.id == b.meta.id);
    pools
}

/// The first of these pools that does not serve the host, in words.
pub fn unreached(pools: &[Arc<Pool>], host: &Id<Host>) -> Option<String> {
    pools.iter().find_map(|pool| {
        if !pool.is_reached_by(host) {
            return Some(format!("does not reach storage pool {}", pool.meta.name));
        }
        let fault = pool.status.hosts.get(host)?.fault.as_ref()?;
        Some(format!("storage pool {} does not work there: {fault}", pool.meta.name))
    })
}

/// A volume of the server is in a pool of one host alone.
fn is_local(view: &View, server: &Id<Server>) -> bool {
    pools(view, server).iter().any(|pool| !pool.is_shared())
}

/// The server is being given to a host: its volumes go there too, each under a new fencing generation.
pub fn take(tx: &mut Tx, server: &Id<Server>) -> Result<(), Error> {
    let generation = tx.require(server)?.meta.generation;
    let wanted: Vec<_> = of(&tx.view(), server).filter(|attachment| attachment.is_wanted()).collect();
    for attachment in wanted {
        let volume = tx.update(&attachment.volume, |volume: &mut Volume| {
            volume.spec.fence += 1;
            Ok::<_, Error>(())
        })?;
        tx.update(&attachment.meta.id, |attachment: &mut Attachment| {
            (attachment.fence, attachment.generation) = (volume.spec.fence, generation);
            Ok::<_, Error>(())
        })?;
        carriers::settle(tx, &attachment.volume)?;
    }
    Ok(())
}

/// Says on a server whether its volumes bind it to its host, before it is given to one.
pub fn bind(tx: &mut Tx, server: &Id<Server>) -> Result<(), Error> {
    let local = is_local(&tx.view(), server);
    if tx.require(server)?.spec.local_volumes == local {
        return Ok(());
    }
    tx.update(server, |server: &mut Server| {
        server.spec.local_volumes = local;
        server.spec.availability_since = server.meta.generation;
        Ok::<_, Error>(())
    })
    .map(drop)
}

/// The same for one that has a host, which has to learn of it.
fn rebind(tx: &mut Tx, server: &Id<Server>) -> Result<(), Error> {
    let local = is_local(&tx.view(), server);
    if tx.require(server)?.spec.local_volumes == local {
        return Ok(());
    }
    tx.update(server, |server: &mut Server| {
        server.hold(local);
        Ok::<_, Error>(())
    })
    .map(drop)
}

/// What becomes of an attachment when its server has settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Stays,
    Begins,
    Ends,
    /// The host could not: it is as before, and the host is told so.
    Back,
}

fn turn(server: &Server, attachment: &Attachment) -> Turn {
    let observed = &server.status.observed;
    if observed.generation < attachment.generation {
        return Turn::Stays;
    }
    match (&observed.phase, attachment.state) {
        (Phase::Unknown | Phase::Preparing(_), _) | (_, AttachState::Reserved | AttachState::Attached) => Turn::Stays,
        // What it was to have from the start it keeps, though it could not be built: it may be started again, and its end decides.
        (Phase::Failed(_), AttachState::Attaching) if attachment.generation > server.status.assigned => Turn::Back,
        (Phase::Failed(_) | Phase::Gone, AttachState::Attaching) => Turn::Stays,
        (Phase::Failed(_), AttachState::Detaching) => Turn::Back,
        (_, AttachState::Attaching) => Turn::Begins,
        (_, AttachState::Detaching) => Turn::Ends,
    }
}

/// What follows from a server having reached what was asked, or failed to.
pub fn after_report(tx: &mut Tx, server: &Server) -> Result<(), Error> {
    let id = &server.meta.id;
    let turns: Vec<_> = of(&tx.view(), id).map(|attachment| (turn(server, &attachment), attachment)).collect();
    let back = turns.iter().any(|(turn, _)| *turn == Turn::Back);
    let mut ended = false;
    for (turn, attachment) in turns {
        match (turn, attachment.state) {
            (Turn::Stays, _) => {}
            (Turn::Begins, _) | (Turn::Back, AttachState::Detaching) => attached(tx, &attachment.meta.id)?,
            (Turn::Ends | Turn::Back, _) => {
                end(tx, &attachment)?;
                ended = true;
            }
        }
    }
    if back {
        tx.update(id, |server: &mut Server| {
            server.meta.generation += 1;
            Ok::<_, Error>(())
        })?;
    }
    if ended { rebind(tx, id) } else { Ok(()) }
}

/// The volume may have another carrier from here.
fn end(tx: &mut Tx, attachment: &Attachment) -> Result<(), Error> {
    tx.delete(&attachment.meta.id)?;
    carriers::settle(tx, &attachment.volume)
}

fn attached(tx: &mut Tx, id: &Id<Attachment>) -> Result<(), Error> {
    let now = tx.now();
    tx.update(id, |attachment: &mut Attachment| {
        attachment.state = AttachState::Attached;
        attachment.attached_at.get_or_insert(now);
        Ok::<_, Error>(())
    })
    .map(drop)
}

/// Attachments that no host will say anything about, and servers that do not know yet what a new volume means for them.
pub fn due(view: &View) -> Vec<Id<Attachment>> {
    let moving = view.by_index::<Attachment>("moving", "yes");
    moving
        .filter(|attachment| is_released(view, attachment) || unbound(view, attachment))
        .map(|attachment| attachment.meta.id.clone())
        .collect()
}

/// To be detached from a server that is on no host.
fn is_released(view: &View, attachment: &Attachment) -> bool {
    let host = || view.get(attachment.server.as_ref()?)?.status.host.clone();
    attachment.state == AttachState::Detaching && host().is_none()
}

fn unbound(view: &View, attachment: &Attachment) -> bool {
    let server = attachment.server.as_ref().and_then(|id| view.get(id)).filter(|server| server.is_live() && server.status.host.is_some());
    server.is_some_and(|server| server.spec.local_volumes != is_local(view, &server.meta.id))
}

pub fn act(tx: &mut Tx) -> Result<(), Error> {
    for id in due(&tx.view()) {
        let view = tx.view();
        let Some(attachment) = view.get(&id) else { continue };
        if is_released(&view, &attachment) {
            end(tx, &attachment)?;
        } else if let Some(server) = attachment.server.as_ref().filter(|_| unbound(&view, &attachment)) {
            rebind(tx, server)?;
        }
    }
    Ok(())
}

/// The server has ended: it lets go of its volumes, and those that were to end with it do. A volume with snapshots, or that another server
/// has, stays, as if its deletion had been refused.
pub fn release(tx: &mut Tx, server: &Id<Server>) -> Result<(), Error> {
    let attachments: Vec<_> = of(&tx.view(), server).collect();
    for attachment in attachments {
        end(tx, &attachment)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use unkai_model::Meta;
    use unkai_model::compute::{BootDisk, FlavorCopy, Launch, ServerSpec, ServerStatus, StopReason};
    use unkai_model::volume::Mode;

    fn server(phase: Phase, generation: u64, assigned: u64) -> Server {
        let launch = Launch { boot: BootDisk::Volume, ..Launch::new(FlavorCopy::default(), "s") };
        let mut server = Server { meta: Meta::new("s"), spec: ServerSpec::new("u", launch), status: ServerStatus::default() };
        (server.status.observed.phase, server.status.observed.generation) = (phase, generation);
        server.status.assigned = assigned;
        server
    }

    #[test]
    fn a_settled_server_decides_about_its_attachments() {
        use AttachState::{Attached, Attaching, Detaching, Reserved};
        let failed = || Phase::Failed("no".into());
        let stopped = || Phase::Stopped(StopReason::Asked);
        for (phase, generation, assigned, state, expected) in [
            (Phase::Running, 3, 1, Attaching, Turn::Begins),
            (Phase::Running, 2, 1, Attaching, Turn::Stays),
            (Phase::Preparing("disk".into()), 3, 1, Attaching, Turn::Stays),
            (stopped(), 4, 1, Attaching, Turn::Begins),
            (stopped(), 4, 1, Detaching, Turn::Ends),
            (Phase::Running, 3, 1, Reserved, Turn::Stays),
            (failed(), 3, 1, Attached, Turn::Stays),
            (failed(), 3, 1, Attaching, Turn::Back),
            (failed(), 3, 1, Detaching, Turn::Back),
            (failed(), 3, 3, Attaching, Turn::Stays),
            (Phase::Gone, 3, 1, Attaching, Turn::Stays),
            (Phase::Gone, 3, 1, Detaching, Turn::Ends),
        ] {
            let case = format!("{phase:?} at {generation}, {state:?}");
            let attachment = Attachment::new(Meta::new("a"), Id::new("v"), Some(Id::new("s")), Mode::ReadWrite);
            let attachment = Attachment { state, generation: 3, ..attachment };
            assert_eq!(turn(&server(phase, generation, assigned), &attachment), expected, "{case}");
        }
    }
}
