//! Which host carries a router: one that is up, the one with the fewest routers.

use unkai_model::compute::Host;
use unkai_model::network::Router;
use unkai_model::{Error, Id};
use unkai_store::{Tx, View};

pub fn waiting(view: &View) -> Vec<Id<Router>> {
    view.by_index::<Router>("unplaced", "yes").map(|router| router.meta.id.clone()).collect()
}

pub fn place(tx: &mut Tx, routers: &[Id<Router>]) -> Result<(), Error> {
    for id in routers {
        let Some(host) = choose(tx) else { return Ok(()) };
        if tx.get(id).is_some_and(|router| router.status.host.is_none()) {
            tx.update(id, |router: &mut Router| {
                router.status.host = Some(host.clone());
                Ok::<_, Error>(())
            })?;
        }
    }
    Ok(())
}

fn choose(tx: &Tx) -> Option<Id<Host>> {
    let up = tx.all::<Host>().filter(|host| host.takes_servers());
    up.map(|host| (tx.by_index::<Router>("host", host.meta.id.as_str()).count(), host.meta.id.clone())).min().map(|(_, id)| id)
}
