//! What a volume goes through, over the real road: store, control, link, a simulated host with its storage, and back.

mod carriers;
mod life;
mod servers;

use std::time::Duration;

use unkai_control::volume::operate::{self, PoolWish};
use unkai_link::item::{HostId, Item};
use unkai_link::report::Up;
use unkai_link::volume::{PoolReport, VolumeItem};
use unkai_model::compute::{Aggregate, Availability, BootDisk, Phase, Run, Server, StopReason, Verb};
use unkai_model::image::{Content, DiskFormat, Image, ImageSpec, ImageState};
use unkai_model::volume::{
    AttachState, Attachment, Backend, Backup, BackupPhase, Pool, Restore, RestoreFrom, Snapshot, SnapshotPhase, Source, Upload, Volume,
    VolumeKey, VolumePhase,
};
use unkai_model::{Error, Id, Meta};
use unkai_sim::cloud::{self, ControllerProcess, Task};
use unkai_sim::host::Machine;
use unkai_sim::storage::Storage;
use unkai_store::{Store, Tx, View};

use crate::life::{PACE, all_running, phase, store, until};

struct Cloud {
    store: Store,
    storage: Storage,
    machines: Vec<Machine>,
    agents: Vec<Option<Task>>,
    controller: ControllerProcess,
}

impl Cloud {
    /// Hosts with one storage, in a pool `shared` of all of them, that keeps backups.
    async fn with_hosts(count: usize) -> Self {
        let (store, storage) = (store(), Storage::default());
        let controller = ControllerProcess::start(&store);
        let machines: Vec<_> = (1..=count).map(|number| cloud::machine(number).on(&storage)).collect();
        let agents = machines.iter().map(|machine| Some(cloud::attach(&controller, machine, PACE))).collect();
        let cloud = Cloud { store, storage, machines, agents, controller };
        cloud
            .until("the hosts are there", |view| {
                view.all::<unkai_model::compute::Host>().filter(|host| host.takes_servers()).count() == count
            })
            .await;
        cloud.act(|tx| cloud::create_pool(tx, "shared", &[], true)).await;
        cloud.until("the pool is known", |view| view.all::<Pool>().all(|pool| !pool.status.hosts.is_empty())).await;
        cloud
    }

    async fn act<T: Send + 'static>(&self, body: impl Fn(&mut Tx) -> Result<T, Error> + Send + 'static) -> T {
        self.store.transact(body).await.expect("it is allowed")
    }

    async fn until(&self, what: &str, reached: impl Fn(&View) -> bool) {
        until(&self.store, what, reached).await;
    }

    async fn ready(&self, id: &Id<Volume>) {
        self.until("the volume is ready", |view| view.get(id).is_some_and(|volume| volume.is_ready())).await;
    }

    async fn volume(&self, source: Source) -> Id<Volume> {
        let id = self.act(move |tx| cloud::create_volume(tx, "v", source.clone(), None)).await;
        self.ready(&id).await;
        id
    }

    async fn server_on_volume(&self, name: &'static str, pool: Option<&'static str>) -> Id<Server> {
        self.act(move |tx| {
            let id = cloud::create_server_on_volume(tx, name, pool)?;
            tx.update(&id, |server: &mut Server| {
                server.spec.availability = Availability::Ha;
                Ok::<_, Error>(())
            })?;
            Ok(id)
        })
        .await
    }

    async fn running(&self, id: &Id<Server>) {
        all_running(&self.store, std::slice::from_ref(id)).await;
    }

    fn get<K: unkai_model::Kind>(&self, id: &Id<K>) -> std::sync::Arc<K> {
        self.store.view().get(id).expect("it exists")
    }

    fn told(&self, host: &HostId) -> Vec<Item> {
        unkai_control::assign::assigned(&self.store.view(), host)
    }

    fn volume_item(&self, host: &HostId, id: &Id<Volume>) -> Option<VolumeItem> {
        self.told(host).into_iter().find_map(|item| match item {
            Item::Volume(item) if item.id == id.as_str() => Some(item),
            _ => None,
        })
    }

    fn attachment(&self, server: &Id<Server>) -> std::sync::Arc<Attachment> {
        self.store.view().by_index::<Attachment>("server", server.as_str()).next().expect("it is attached")
    }

    /// The machine loses power and its agent with it.
    fn kill(&mut self, host: &HostId) {
        let number = self.machines.iter().position(|machine| machine.host == *host).expect("one of ours");
        self.agents[number] = None;
        self.machines[number].power_off();
    }
}

async fn add_snapshot(cloud: &Cloud, volume: &Id<Volume>) -> Id<Snapshot> {
    let of = volume.clone();
    let id = cloud
        .act(move |tx| {
            cloud::change_volume(tx, &of, |_| {})?;
            let (meta, volume) = (Meta::new(tx.new_id()).named("s"), of.clone());
            tx.insert(Snapshot::new(meta, "u", volume, 1)).map(|snapshot| snapshot.meta.id.clone())
        })
        .await;
    cloud.until("the snapshot is settled", |view| view.get(&id).is_some_and(|snapshot| snapshot.phase != SnapshotPhase::Creating)).await;
    id
}

async fn delete_snapshot(cloud: &Cloud, id: &Id<Snapshot>) {
    let id = id.clone();
    let body = move |tx: &mut Tx| {
        let snapshot = tx.update(&id, |snapshot: &mut Snapshot| {
            snapshot.deleted = true;
            Ok::<_, Error>(())
        })?;
        cloud::change_volume(tx, &snapshot.volume, |_| {})
    };
    cloud.act(body).await;
}

async fn delete_volume(cloud: &Cloud, id: &Id<Volume>) {
    let id = id.clone();
    cloud.act(move |tx| cloud::change_volume(tx, &id, |spec| spec.deleted = true)).await;
}

async fn add_backup(cloud: &Cloud, volume: &Id<Volume>, parent: Option<Id<Backup>>) -> Id<Backup> {
    let of = volume.clone();
    let body = move |tx: &mut Tx| {
        cloud::change_volume(tx, &of, |_| {})?;
        let repository = tx.all::<Pool>().find(|pool| pool.keeps_backups).expect("a repository").meta.id.clone();
        let (volume, meta) = (tx.require(&of)?, Meta::new(tx.new_id()).named("b"));
        let new = Backup { parent: parent.clone(), ..Backup::new(meta, "u", &volume, repository, tx.now()) };
        tx.insert(new).map(|backup| backup.meta.id.clone())
    };
    let id = cloud.act(body).await;
    cloud.until("the backup is settled", |view| view.get(&id).is_some_and(|backup| backup.phase != BackupPhase::Creating)).await;
    id
}

async fn delete_backup(cloud: &Cloud, id: &Id<Backup>) {
    let id = id.clone();
    let body = move |tx: &mut Tx| {
        tx.update(&id, |backup: &mut Backup| {
            backup.deleted = true;
            backup.meta.generation += 1;
            Ok::<_, Error>(())
        })
        .map(drop)
    };
    cloud.act(body).await;
}
