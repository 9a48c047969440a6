//! The ends of server actions: what was asked of a server is over when its host has settled on it, or given up.

use std::sync::Arc;

use unkai_model::compute::{Outcome, Phase, Server, ServerAction};
use unkai_model::volume::{Attachment, Volume};
use unkai_model::{Error, Id};
use unkai_store::Tx;

/// What a settled server says about the actions up to its observed generation.
pub fn after_report(tx: &mut Tx, server: &Server) -> Result<(), Error> {
    // It has only ended where it was.
    if server.goes_back() {
        return Ok(());
    }
    let observed = &server.status.observed;
    let outcome = match &observed.phase {
        Phase::Unknown | Phase::Preparing(_) => return Ok(()),
        Phase::Failed(reason) => Outcome::Error(reason.clone()),
        _ => Outcome::Success,
    };
    settle(tx, &server.meta.id, Some(observed.generation), &outcome)
}

/// Ends open actions of a server: those up to a generation, or all.
pub fn settle(tx: &mut Tx, server: &Id<Server>, up_to: Option<u64>, outcome: &Outcome) -> Result<(), Error> {
    end(tx, server, outcome, |action| up_to.is_none_or(|newest| action.generation.is_some_and(|generation| generation <= newest)))
}

/// Ends what is open of one action.
pub fn settle_one(tx: &mut Tx, id: &Id<ServerAction>, outcome: &Outcome) -> Result<(), Error> {
    let now = tx.now();
    if tx.get(id).is_none_or(|action| !action.is_open()) {
        return Ok(());
    }
    tx.update(id, |action: &mut ServerAction| {
        action.settle(outcome.clone(), now);
        Ok::<_, Error>(())
    })
    .map(drop)
}

/// Ends open actions that wait for an image rather than for a generation.
pub fn settle_snapshot(tx: &mut Tx, server: &Id<Server>, outcome: &Outcome) -> Result<(), Error> {
    end(tx, server, outcome, |action| action.generation.is_none() && action.meta.name != EXTEND)
}

/// The action of a server whose volume is made larger.
const EXTEND: &str = "extend_volume";

/// A volume has grown, or will not: servers that have it, and no other that grows, have nothing more to wait for.
pub fn settle_growth(tx: &mut Tx, volume: &Id<Volume>, outcome: &Outcome) -> Result<(), Error> {
    let view = tx.view();
    let grows = |attachment: &Arc<Attachment>| {
        let other = view.get(&attachment.volume).filter(|other| other.meta.id != *volume);
        other.is_some_and(|other| other.status.made && other.status.size_gib < other.spec.size_gib && other.status.fault.is_none())
    };
    let servers: Vec<_> = view.by_index::<Attachment>("volume", volume.as_str()).filter_map(|one| one.server.clone()).collect();
    for server in servers {
        if !view.by_index::<Attachment>("server", server.as_str()).any(|one| grows(&one)) {
            end(tx, &server, outcome, |action| action.meta.name == EXTEND)?;
        }
    }
    Ok(())
}

fn end(tx: &mut Tx, server: &Id<Server>, outcome: &Outcome, which: impl Fn(&ServerAction) -> bool) -> Result<(), Error> {
    let now = tx.now();
    let open: Vec<_> = tx.by_index::<ServerAction>("open", server.as_str()).filter(|action| which(action)).collect();
    for action in open {
        tx.update(&action.meta.id, |action: &mut ServerAction| {
            action.settle(outcome.clone(), now);
            Ok::<_, Error>(())
        })?;
    }
    Ok(())
}
