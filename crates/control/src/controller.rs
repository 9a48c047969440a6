//! The controller's loops and its side of the link.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use unkai_link::enrolment::{Enrol, Token};
use unkai_link::item::{HostId, Item};
use unkai_link::report::{Inventory, Up};
use unkai_link::server::{BoxFuture, Bytes, Control, LinkServer};
use unkai_link::volume::Source;
use unkai_model::compute::{Outcome, Server};
use unkai_model::image::Image;
use unkai_model::network::Router;
use unkai_model::{Error, Id};
use unkai_store::{Store, Tx, View};

use crate::availability::{failover, fence, preempt, reserve};
use crate::idle::Idle;
use crate::placement::Order;
use crate::{actions, assign, hosts, migration, placement, reports, retire, router, shelve, volume};

/// Without any change everything is looked at this often, so that nothing depends on having been woken.
const PERIOD: Duration = Duration::from_secs(1);
/// How often the silence of hosts is looked at.
const LOOK: Duration = Duration::from_millis(250);
const PURGE_PERIOD: Duration = Duration::from_secs(60);

/// The bytes of images, wherever they are kept.
pub trait Images: Send + Sync + 'static {
    fn open(&self, image: Id<Image>) -> BoxFuture<'_, Result<(Bytes, u64), Error>>;
    /// Takes the bytes of a snapshot; Ok when they are safe and the image is active.
    fn take(&self, image: Id<Image>, bytes: Bytes) -> BoxFuture<'_, Result<(), Error>>;
}

pub struct Controller {
    store: Store,
    /// Names this process in documents; another one after every start.
    process: String,
    images: Arc<dyn Images>,
}

impl Controller {
    pub fn new(store: Store, images: Arc<dyn Images>) -> Arc<Self> {
        Arc::new(Controller { store, process: uuid::Uuid::new_v4().to_string(), images })
    }

    /// An agent may read images that its servers or volumes start from or that it is to have at hand; no others.
    fn may_read(&self, host: &HostId, image: &Id<Image>) -> bool {
        assign::assigned(&self.store.view(), host).iter().any(|item| match item {
            Item::Server(server) => {
                let rescue = server.rescue.as_ref().and_then(|rescue| rescue.image.as_ref());
                let mut named = [&server.image, &server.kernel, &server.ramdisk].into_iter().flatten().chain(rescue);
                named.any(|named| named.id == *image)
            }
            Item::Image(item) => item.image.id == *image,
            Item::Volume(volume) => matches!(&volume.source, Source::Image(named) if named.id == *image),
            _ => false,
        })
    }

    /// It may write images that it was told to make.
    fn may_write(&self, host: &HostId, image: &Id<Image>) -> bool {
        assign::assigned(&self.store.view(), host).iter().any(|item| match item {
            Item::Snapshot(snapshot) => snapshot.image == *image,
            Item::Volume(volume) => volume.upload.as_ref().is_some_and(|upload| upload.image == *image),
            _ => false,
        })
    }
}

impl Control for Controller {
    fn assigned(&self, view: &View, host: &HostId) -> Vec<Item> {
        assign::assigned(view, host)
    }

    fn process(&self) -> &str {
        &self.process
    }

    fn hello(&self, host: HostId, inventory: Inventory) -> BoxFuture<'_, Result<u64, Error>> {
        let process = self.process.clone();
        Box::pin(self.store.transact(move |tx| hosts::hello(tx, &host, &process, &inventory)))
    }

    fn report(&self, host: HostId, session: u64, reports: Vec<Up>) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.store.transact(move |tx| {
            // A controller that was paused may say late what the agent has since corrected elsewhere.
            if tx.get(&host).is_none_or(|host| host.status.session != session) {
                return Ok(());
            }
            reports::take(tx, &host, &reports)
        }))
    }

    fn enrol(&self, enrol: Enrol) -> BoxFuture<'_, Result<(HostId, u64), Error>> {
        Box::pin(async move {
            let hash = enrol.token.parse::<Token>()?.hash();
            self.store.transact(move |tx| hosts::enrol(tx, &hash, &enrol)).await
        })
    }

    fn lease(&self, host: HostId) -> BoxFuture<'_, Result<Duration, Error>> {
        Box::pin(async move { fence::grant(&self.store, &host).await })
    }

    fn open_image(&self, host: HostId, image: Id<Image>) -> BoxFuture<'_, Result<(Bytes, u64), Error>> {
        Box::pin(async move {
            if !self.may_read(&host, &image) {
                return Err(Error::not_found::<Image>(&image));
            }
            self.images.open(image).await
        })
    }

    fn take_image(&self, host: HostId, image: Id<Image>, bytes: Bytes) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            if !self.may_write(&host, &image) {
                return Err(Error::not_found::<Image>(&image));
            }
            let source = self.store.view().get(&image).and_then(|image| image.spec.source.clone());
            self.images.take(image.clone(), bytes).await?;
            let end = move |tx: &mut Tx| match &source {
                Some(source) => actions::settle_snapshot(tx, &source.server, &Outcome::Success),
                None => volume::reports::end_upload(tx, &image, Ok(())),
            };
            self.store.transact(end).await
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
    let (order, mut looked) = (Arc::new(Order::default()), reserve::Looked::default());
    let mut idle = Idle::new(store.view(), PERIOD);
    loop {
        if let Err(error) = step(&store, &order, &mut looked, &mut idle).await {
            tracing::warn!(%error, cause = ?std::error::Error::source(&error), "a control step failed; it is tried again");
            tokio::time::sleep(PERIOD).await;
        }
        if let Ok(None) = tokio::time::timeout(PERIOD, watch.next()).await {
            return;
        }
    }
}

async fn step(store: &Store, order: &Arc<Order>, looked: &mut reserve::Looked, idle: &mut Idle) -> Result<(), Error> {
    let now = store.now();
    let routers: Vec<Id<Router>> = idle.look(store, "routers", router::waiting);
    if !routers.is_empty() {
        store.transact(move |tx| router::place(tx, &routers)).await?;
    }
    if !idle.look(store, "volumes", |view| volume::is_due(view).then_some(()).into_iter().collect()).is_empty() {
        store.transact(volume::act).await?;
    }
    let servers: Vec<Id<Server>> = idle.look(store, "servers", placement::waiting);
    if !servers.is_empty() {
        let order = order.clone();
        store.transact(move |tx| placement::place(tx, &order, &servers)).await?;
    }
    let drained = idle.look(store, "drained", |view| migration::drain::due(view, now));
    if !drained.is_empty() {
        store.transact(move |tx| migration::drain::act(tx, &drained)).await?;
    }
    let moving = idle.look(store, "moving", migration::due);
    if !moving.is_empty() {
        let order = order.clone();
        store.transact(move |tx| migration::act(tx, &order, &moving)).await?;
    }
    let back = idle.look(store, "back", migration::may_go_back);
    if !back.is_empty() {
        store.transact(move |tx| migration::go_back(tx, &back)).await?;
    }
    let fenced = idle.look(store, "fenced", failover::waiting);
    if !fenced.is_empty() {
        let order = order.clone();
        store.transact(move |tx| failover::act(tx, &order, &fenced)).await?;
    }
    let preempted = idle.look(store, "preempted", preempt::due);
    if !preempted.is_empty() {
        store.transact(move |tx| preempt::give_back(tx, &preempted)).await?;
    }
    let unspared = idle.look(store, "unspared", |view| reserve::due(view, looked, now));
    if !unspared.is_empty() {
        let order = order.clone();
        store.transact(move |tx| reserve::act(tx, &order, &unspared)).await?;
    }
    let finished = idle.look(store, "finished", retire::unconfirmed);
    if !finished.is_empty() {
        store.transact(move |tx| retire::finish_all(tx, &finished)).await?;
    }
    let shelved = idle.look(store, "shelved", shelve::due);
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

/// Of the time between two looks at most this much counts as listening.
const ATTENTIVE: Duration = Duration::from_secs(2);

async fn watch_hosts(store: Store, link: Arc<LinkServer>) {
    let (mut hosts, mut controllers, mut age) = (hosts::Ears::default(), hosts::Ears::default(), Duration::ZERO);
    let mut known = fence::Known::default();
    let mut tick = tokio::time::interval(LOOK);
    let mut looked = Instant::now();
    loop {
        tick.tick().await;
        let passed = looked.elapsed();
        looked = Instant::now();
        // A controller that cannot say that it lives does not know whether others do.
        let leases = match store.beat(link.process()).await {
            Ok(leases) => leases,
            Err(error) => {
                tracing::warn!(%error, "the state of hosts is not judged while the store is not available");
                continue;
            }
        };
        age += passed.min(ATTENTIVE);
        controllers.listen(leases, passed, ATTENTIVE);
        hosts.listen(link.heard().into_iter().map(|(host, words)| (host.to_string(), words)), passed, ATTENTIVE);
        let listening = hosts::Listening { process: link.process(), hosts: &hosts, controllers: &controllers, age };
        let view = store.view();
        let verdicts = hosts::changed(&view, &listening);
        let fences = fence::plan(&view, |host| listening.silence(host), &known.look(&view, Instant::now()), store.now());
        if verdicts.is_empty() && fences.is_empty() {
            continue;
        }
        let written = store.transact(move |tx| {
            hosts::set(tx, &verdicts)?;
            fence::act(tx, &fences)
        });
        if let Err(error) = written.await {
            tracing::warn!(%error, "the state of hosts was not written");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use unkai_model::Meta;
    use unkai_model::compute::Host;
    use unkai_model::image::{Content, DiskFormat, ImageSpec, ImageState};
    use unkai_model::volume::{self as model, Backend, Pool, Upload, Volume, VolumeSpec, VolumeType};

    /// All images have the same bytes, and all are taken.
    struct AnyImages;

    impl Images for AnyImages {
        fn open(&self, _: Id<Image>) -> BoxFuture<'_, Result<(Bytes, u64), Error>> {
            Box::pin(async { Ok((Box::new(tokio::io::empty()) as Bytes, 0)) })
        }
        fn take(&self, _: Id<Image>, _: Bytes) -> BoxFuture<'_, Result<(), Error>> {
            Box::pin(async { Ok(()) })
        }
    }

    fn documents(tx: &mut Tx) -> Result<(), Error> {
        for (number, id) in ["carrier", "other"].into_iter().enumerate() {
            tx.insert(Host::new(Meta::new(id).named(id), number as u64))?;
        }
        let (access, extra_specs) = Default::default();
        let meta = Meta::new("type").named("type");
        tx.insert(VolumeType { meta, description: None, public: true, access, extra_specs, encryption: None, encryption_id: None })?;
        tx.insert(Pool::new(Meta::new("pool").named("pool"), Backend::Files { dir: "/v".into() }))?;
        let mut source = Image::new(Meta::new("source"), ImageSpec { disk_format: Some(DiskFormat::Raw), ..ImageSpec::default() });
        source.status.state = ImageState::Active;
        source.status.content = Some(Content { file: "f".into(), size: 1, virtual_size: None, md5: "m".into(), sha512: "s".into() });
        tx.insert(source)?;
        tx.insert(Image::new(Meta::new("copy"), ImageSpec::default()))?;
        let upload = Some(Upload { image: Id::new("copy"), format: "raw".into() });
        let spec = VolumeSpec { source: model::Source::Image(Id::new("source")), upload, ..VolumeSpec::new("u", Id::new("type"), 1) };
        let status = model::VolumeStatus { pool: Some(Id::new("pool")), carrier: Some(Id::new("carrier")), ..Default::default() };
        tx.insert(Volume { meta: Meta::new("v"), spec, status }).map(drop)
    }

    #[tokio::test]
    async fn a_carrier_reads_what_its_volumes_start_from_and_writes_what_they_are_to_become() {
        let store = Store::in_memory(Arc::new(unkai_store::System));
        store.transact(documents).await.unwrap();
        let control = Controller::new(store.clone(), Arc::new(AnyImages));
        let read = async |host: &str, image: &str| control.open_image(Id::new(host), Id::new(image)).await.is_ok();
        let write =
            async |host: &str, image: &str| control.take_image(Id::new(host), Id::new(image), Box::new(tokio::io::empty())).await.is_ok();
        assert!(read("carrier", "source").await && !read("carrier", "copy").await && !read("other", "source").await);
        assert!(!write("carrier", "source").await && !write("other", "copy").await);
        assert!(write("carrier", "copy").await);
        assert_eq!(store.view().get(&Id::<Volume>::new("v")).unwrap().spec.upload, None, "it is done");
        assert!(!write("carrier", "copy").await, "and is not to be done again");
    }
}
