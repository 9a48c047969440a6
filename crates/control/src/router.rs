//! Which host carries a router: one that is up, the one with the fewest routers. When that host is lost, another one takes over.
//!
//! Every host of the cloud is a standby: a router is nothing but its specification, so there is nothing to keep in step. A suspect host
//! keeps its routers: it may well be carrying them. A lost one that still runs, cut off from every controller, goes on answering for the
//! router's addresses where its own packets still reach; the new one announces itself, and the old one lets go with the first session.

use unkai_model::compute::{Host, Reachability};
use unkai_model::network::Router;
use unkai_model::{Error, Id};
use unkai_store::{Tx, View};

/// Routers that have no host, or whose host is lost while another could carry them.
pub fn waiting(view: &View) -> Vec<Id<Router>> {
    let unplaced: Vec<Id<Router>> = view.by_index::<Router>("unplaced", "yes").map(|router| router.meta.id.clone()).collect();
    let lost = view.all::<Host>().filter(|host| is_lost(host)).map(|host| host.meta.id.clone());
    let stranded: Vec<Id<Router>> = lost
        .flat_map(|host| view.by_index::<Router>("host", host.as_str()).map(|router| router.meta.id.clone()).collect::<Vec<_>>())
        .collect();
    let could = view.all::<Host>().any(|host| host.takes_servers());
    unplaced.into_iter().chain(stranded).filter(|_| could).collect()
}

fn is_lost(host: &Host) -> bool {
    host.forced_down || host.status.admission.revoked.is_some() || host.status.reachability == Reachability::Lost
}

pub fn place(tx: &mut Tx, routers: &[Id<Router>]) -> Result<(), Error> {
    for id in routers {
        let Some(host) = choose(tx) else { return Ok(()) };
        let Some(router) = tx.get(id) else { continue };
        let carrier = router.status.host.as_ref();
        if carrier.is_some_and(|carrier| tx.get(carrier).is_some_and(|carrier| !is_lost(&carrier))) {
            continue;
        }
        tracing::info!(router = %id, from = ?carrier.map(Id::as_str), to = %host, "router");
        tx.update(id, |router: &mut Router| {
            router.status.host = Some(host.clone());
            Ok::<_, Error>(())
        })?;
    }
    Ok(())
}

fn choose(tx: &Tx) -> Option<Id<Host>> {
    let up = tx.all::<Host>().filter(|host| host.takes_servers());
    up.map(|host| (tx.by_index::<Router>("host", host.meta.id.as_str()).count(), host.meta.id.clone())).min().map(|(_, id)| id)
}
