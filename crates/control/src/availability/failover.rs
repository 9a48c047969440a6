//! Starting the servers of a fenced host elsewhere.

use std::cmp::Reverse;
use std::sync::Arc;

use unkai_link::item::HostId;
use unkai_model::compute::{Failover, Fault, Fence, Host, Phase, Run, Server};
use unkai_model::{Error, Id, Meta, Timestamp};
use unkai_store::{Tx, View};

use super::preempt;
use crate::placement::{self, Claim, NoValidHost, Order, Want, want_elsewhere};

/// Fenced hosts that still have servers which could run elsewhere.
pub fn waiting(view: &View) -> Vec<HostId> {
    let fenced = view.by_index::<Host>("fenced", "yes").filter(|host| host.is_fenced());
    fenced.filter(|host| stranded(view, &host.meta.id).iter().any(|server| is_free(server))).map(|host| host.meta.id.clone()).collect()
}

/// What is on its way to another host may have arrived there: that is known first.
fn is_free(server: &Server) -> bool {
    server.status.migration.is_none()
}

/// The servers to start elsewhere, the most important first.
pub fn stranded(view: &View, host: &HostId) -> Vec<Arc<Server>> {
    let protected = view.by_index::<Server>("protected", host.as_str());
    let mut servers: Vec<_> = protected.filter(|server| !matches!(server.spec.run, Run::Deleted | Run::Offloaded)).collect();
    servers.sort_by_key(|server| importance(server));
    servers
}

/// The most important servers come first.
pub fn importance(server: &Server) -> (Reverse<i32>, Timestamp, Id<Server>) {
    (Reverse(server.spec.priority), server.meta.created, server.meta.id.clone())
}

/// Where a server of a lost host goes: to the room that is kept for it, or to any that is free, then to what preemptible servers have and to
/// what is kept for others. `find` looks for a host, or at the one that is named. Answers too what had to be claimed.
pub fn refuge(
    view: &View,
    server: &Server,
    find: impl Fn(&Want, Option<&HostId>) -> Result<HostId, NoValidHost>,
) -> Result<(HostId, Claim), NoValidHost> {
    let spare = server.status.spare.as_ref();
    let mut want = want_elsewhere(view, server);
    let tries = [(Claim::Failover, spare), (Claim::Ordinary, None), (Claim::Displacing, spare), (Claim::Failover, None)];
    for (claim, only) in tries.into_iter().filter(|(claim, only)| only.is_some() || matches!(claim, Claim::Ordinary | Claim::Failover)) {
        want.claim = claim;
        if let Ok(host) = find(&want, only) {
            return Ok((host, claim));
        }
    }
    want.claim = Claim::Displacing;
    find(&want, None).map(|host| (host, Claim::Displacing))
}

/// Gives the servers of these hosts to others, as far as there is room.
pub fn act(tx: &mut Tx, order: &Order, hosts: &[HostId]) -> Result<(), Error> {
    let mut ranking = order.lock();
    ranking.refresh(&tx.view(), true);
    for from in hosts {
        let Some(fence) = tx.get(from).and_then(|host| host.fence.clone()) else { continue };
        let Some((fenced, _)) = fence.done else { continue };
        for server in stranded(&tx.view(), from).into_iter().filter(|server| is_free(server)) {
            let view = tx.view();
            let receipt = Receipt { server: &server, from, fence: &fence, fenced };
            let found = refuge(&view, &server, |want, only| placement::find_by(&view, &ranking, &server, want, only));
            match found {
                Ok((to, claim)) => {
                    tracing::info!(server = %server.meta.id, %from, %to, "started elsewhere");
                    if let Some(host) = tx.get(&to).filter(|_| claim == Claim::Displacing) {
                        let victims = preempt::victims(&view, &host, &server.spec.launch.resources());
                        victims.iter().try_for_each(|victim| preempt::act(tx, victim))?;
                    }
                    restart(tx, &server.meta.id, &to)?;
                    ranking.update(&tx.view(), &to);
                    receipt.write(tx, Some(&to), None)?;
                }
                Err(none) => {
                    let reason = none.to_string();
                    let fault = format!("Its host is lost and no other can take it: {reason}");
                    if server.status.fault.as_ref().is_none_or(|known| known.message != fault) {
                        tracing::warn!(server = %server.meta.id, %from, reason, "cannot be started elsewhere yet");
                        let now = tx.now();
                        tx.update(&server.meta.id, |server: &mut Server| {
                            server.status.fault = Some(Fault { code: 500, message: fault, details: String::new(), at: now });
                            Ok::<_, Error>(())
                        })?;
                        receipt.write(tx, None, Some(reason))?;
                    }
                }
            }
        }
    }
    Ok(())
}

/// A new assignment. What was only in the old host's memory is gone.
fn restart(tx: &mut Tx, id: &Id<Server>, to: &HostId) -> Result<(), Error> {
    tx.update(id, |server: &mut Server| {
        server.meta.generation += 1;
        server.status.fault = None;
        if matches!(server.spec.run, Run::Paused | Run::Suspended) {
            server.spec.run = Run::Stopped;
        }
        Ok::<_, Error>(())
    })?;
    placement::assign(tx, id, to)
}

struct Receipt<'a> {
    server: &'a Server,
    from: &'a HostId,
    fence: &'a Fence,
    fenced: Timestamp,
}

impl Receipt<'_> {
    fn write(&self, tx: &mut Tx, to: Option<&HostId>, reason: Option<String>) -> Result<(), Error> {
        let id = Failover::id(&self.server.meta.id, self.from, self.fence.number);
        let decided = to.is_some().then_some(tx.now());
        if tx.get(&id).is_some() {
            return tx
                .update(&id, |receipt: &mut Failover| {
                    (receipt.to, receipt.decided, receipt.reason) = (to.cloned(), decided, reason);
                    Ok::<_, Error>(())
                })
                .map(drop);
        }
        let receipt = Failover {
            meta: Meta { project: self.server.meta.project.clone(), ..Meta::new(id).named(&self.server.meta.name) },
            server: self.server.meta.id.clone(),
            from: self.from.clone(),
            to: to.cloned(),
            detected: self.fence.since,
            fenced: self.fenced,
            decided,
            booted: None,
            reason,
        };
        tx.insert(receipt).map(drop)
    }
}

/// A server has ended: what did not come about will not. What did is kept as long as the server's document.
pub fn forget_open(tx: &mut Tx, server: &Id<Server>) -> Result<(), Error> {
    let open: Vec<_> = tx.by_index::<Failover>("open", server.as_str()).collect();
    open.iter().try_for_each(|receipt| tx.delete(&receipt.meta.id).map(drop))
}

/// The document of a server goes, and so do its receipts.
pub fn forget(tx: &mut Tx, server: &Id<Server>) -> Result<(), Error> {
    let receipts: Vec<_> = tx.by_index::<Failover>("server", server.as_str()).collect();
    receipts.iter().try_for_each(|receipt| tx.delete(&receipt.meta.id).map(drop))
}

/// A server is where it was started, or back where it was: its receipts are complete.
pub fn after_report(tx: &mut Tx, server: &Server) -> Result<(), Error> {
    let there = matches!(server.status.observed.phase, Phase::Running | Phase::Stopped(_));
    if !there || !server.is_settled() {
        return Ok(());
    }
    let now = tx.now();
    let open: Vec<_> = tx.by_index::<Failover>("open", server.meta.id.as_str()).collect();
    for receipt in open {
        tx.update(&receipt.meta.id, |receipt: &mut Failover| {
            receipt.to = receipt.to.take().or_else(|| server.status.host.clone());
            receipt.booted = Some(now);
            Ok::<_, Error>(())
        })?;
    }
    Ok(())
}
