//! The controller's loops and its side of the link.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use unkai_link::item::{HostId, Item};
use unkai_link::report::{Inventory, Up};
use unkai_link::server::{BoxFuture, Bytes, Control, LinkServer};
use unkai_model::compute::{Outcome, Server};
use unkai_model::image::Image;
use unkai_model::network::Router;
use unkai_model::{Error, Id};
use unkai_store::{Changes, Store, View};

use crate::{actions, assign, hosts, placement, reports, retire, router, shelve};

/// Without any change everything is looked at this often, so that nothing depends on having been woken.
const PERIOD: Duration = Duration::from_secs(1);
const PURGE_PERIOD: Duration = Duration::from_secs(60);

/// The bytes of images, wherever they are kept.
pub trait Images: Send + Sync + 'static {
    fn open(&self, image: Id<Image>) -> BoxFuture<'_, Result<(Bytes, u64), Error>>;
    /// Takes the bytes of a snapshot; Ok when they are safe and the image is active.
    fn take(&self, image: Id<Image>, bytes: Bytes) -> BoxFuture<'_, Result<(), Error>>;
}

pub struct Controller {
    store: Store,
    images: Arc<dyn Images>,
}

impl Controller {
    pub fn new(store: Store, images: Arc<dyn Images>) -> Arc<Self> {
        Arc::new(Controller { store, images })
    }

    /// An agent may read images that its servers start from or that it is to have at hand, and write images it was told to make; no others.
    fn names_image(&self, host: &HostId, image: &Id<Image>) -> bool {
        assign::assigned(&self.store.view(), host).iter().any(|item| match item {
            Item::Server(server) => {
                let rescue = server.rescue.as_ref().and_then(|rescue| rescue.image.as_ref());
                let mut named = [&server.image, &server.kernel, &server.ramdisk].into_iter().flatten().chain(rescue);
                named.any(|named| named.id == *image)
            }
            Item::Snapshot(snapshot) => snapshot.image == *image,
            Item::Image(item) => item.image.id == *image,
            _ => false,
        })
    }
}

impl Control for Controller {
    fn assigned(&self, view: &View, host: &HostId) -> Vec<Item> {
        assign::assigned(view, host)
    }

    fn concerns(&self, changes: &Changes) -> bool {
        assign::concerns(changes)
    }

    fn hello(&self, host: HostId, inventory: Inventory) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.store.transact(move |tx| hosts::hello(tx, &host, &inventory)))
    }

    fn report(&self, host: HostId, reports: Vec<Up>) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.store.transact(move |tx| reports::take(tx, &host, &reports)))
    }

    fn open_image(&self, host: HostId, image: Id<Image>) -> BoxFuture<'_, Result<(Bytes, u64), Error>> {
        Box::pin(async move {
            if !self.names_image(&host, &image) {
                return Err(Error::not_found::<Image>(&image));
            }
            self.images.open(image).await
        })
    }

    fn take_image(&self, host: HostId, image: Id<Image>, bytes: Bytes) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            if !self.names_image(&host, &image) {
                return Err(Error::not_found::<Image>(&image));
            }
            let source = self.store.view().get(&image).and_then(|image| image.spec.source.clone());
            self.images.take(image, bytes).await?;
            match source {
                Some(source) => self.store.transact(move |tx| actions::settle_snapshot(tx, &source.server, &Outcome::Success)).await,
                None => Ok(()),
            }
        })
    }
}

/// Runs the loops until the store stops.
pub async fn run(store: Store, link: Arc<LinkServer>) {
    tokio::join!(converge(store.clone()), watch_hosts(store.clone(), link), purge(store));
}

/// Places what waits for a place, and ends what waits for its end.
async fn converge(store: Store) {
    let mut watch = store.watch();
    loop {
        if let Err(error) = step(&store).await {
            tracing::warn!(%error, cause = ?std::error::Error::source(&error), "a control step failed; it is tried again");
            tokio::time::sleep(PERIOD).await;
        }
        if let Ok(None) = tokio::time::timeout(PERIOD, watch.next()).await {
            return;
        }
    }
}

async fn step(store: &Store) -> Result<(), Error> {
    let view = store.view();
    let routers: Vec<Id<Router>> = router::waiting(&view);
    if !routers.is_empty() {
        store.transact(move |tx| router::place(tx, &routers)).await?;
    }
    let servers: Vec<Id<Server>> = placement::waiting(&view);
    if !servers.is_empty() {
        store.transact(move |tx| placement::place(tx, &servers)).await?;
    }
    let finished = retire::unconfirmed(&view);
    if !finished.is_empty() {
        store.transact(move |tx| retire::finish_all(tx, &finished)).await?;
    }
    let shelved = shelve::due(&view);
    if !shelved.is_empty() {
        store.transact(move |tx| shelve::act(tx, &shelved)).await?;
    }
    Ok(())
}

/// Forgets what has been over for long.
async fn purge(store: Store) {
    let mut tick = tokio::time::interval(PURGE_PERIOD);
    loop {
        tick.tick().await;
        let over = retire::over(&store.view(), store.now());
        if over.is_empty() {
            continue;
        }
        if let Err(error) = store.transact(move |tx| retire::purge(tx, &over)).await {
            tracing::warn!(%error, "deleted servers were not purged");
        }
    }
}

async fn watch_hosts(store: Store, link: Arc<LinkServer>) {
    let began = Instant::now();
    let mut tick = tokio::time::interval(PERIOD);
    loop {
        tick.tick().await;
        let verdicts = hosts::changed(&store.view(), &link.heard(), began.elapsed());
        if verdicts.is_empty() {
            continue;
        }
        if let Err(error) = store.transact(move |tx| hosts::set(tx, &verdicts)).await {
            tracing::warn!(%error, "the state of hosts was not written");
        }
    }
}
