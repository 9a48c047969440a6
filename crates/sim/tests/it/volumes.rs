//! What a volume goes through, over the real road: store, control, link, a simulated host with its storage, and back.

use std::time::Duration;

use unkai_link::item::{HostId, Item};
use unkai_link::volume::VolumeItem;
use unkai_model::compute::{Availability, BootDisk, Phase, Run, Server, StopReason, Verb};
use unkai_model::image::{Content, DiskFormat, Image, ImageSpec, ImageState};
use unkai_model::volume::{
    AttachState, Attachment, Backup, BackupPhase, Pool, Restore, RestoreFrom, Snapshot, SnapshotPhase, Source, Upload, Volume, VolumeKey,
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
        cloud.until("the pool is known", |view| view.all::<Pool>().all(|pool| pool.status.hosts.len() == count)).await;
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
            let (description, metadata, reset, phase) = Default::default();
            let new = Snapshot { meta, user: "u".into(), volume, size_gib: 1, description, metadata, deleted: false, reset, phase };
            tx.insert(new).map(|snapshot| snapshot.meta.id.clone())
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

#[tokio::test(start_paused = true)]
async fn a_volume_is_made_grown_and_deleted() {
    let cloud = Cloud::with_hosts(2).await;
    let id = cloud.volume(Source::Blank).await;
    let made = cloud.get(&id);
    assert_eq!((made.status.made, made.status.size_gib, made.status.fault.clone()), (true, 1, None));
    assert_eq!(cloud.store.view().tally("pool_gib", made.status.pool.as_ref().unwrap().as_str()), 1);
    let grown = id.clone();
    cloud.act(move |tx| cloud::change_volume(tx, &grown, |spec| spec.size_gib = 3)).await;
    cloud.until("it has grown", |view| view.get(&id).is_some_and(|volume| volume.status.size_gib == 3 && volume.is_ready())).await;
    assert_eq!(cloud.storage.volumes()[id.as_str()].size_gib, 3);
    assert_eq!(cloud.get(&id).status.carrier, made.status.carrier, "the carrier stays");
    delete_volume(&cloud, &id).await;
    cloud.until("it is gone", |view| view.get(&id).is_none()).await;
    assert!(cloud.storage.volumes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn work_is_spread_and_a_lost_carrier_is_replaced_under_a_new_fence() {
    let mut cloud = Cloud::with_hosts(2).await;
    let (a, b) = (cloud.volume(Source::Blank).await, cloud.volume(Source::Blank).await);
    let (of_a, of_b) = (cloud.get(&a).status.carrier.clone().unwrap(), cloud.get(&b).status.carrier.clone().unwrap());
    assert_ne!(of_a, of_b, "each host carries one");
    let fence = cloud.get(&a).spec.fence;
    cloud.kill(&of_a);
    cloud
        .until("the other host carries both", |view| view.get(&a).is_some_and(|volume| volume.status.carrier.as_ref() == Some(&of_b)))
        .await;
    cloud.ready(&a).await;
    assert_eq!(cloud.get(&a).spec.fence, fence + 1);
    assert!(!cloud.storage.write(a.as_str(), fence, None), "the old carrier cannot write any more");
    assert!(cloud.storage.write(a.as_str(), fence + 1, None));
}

#[tokio::test(start_paused = true)]
async fn a_suspect_carrier_keeps_its_work() {
    let mut cloud = Cloud::with_hosts(2).await;
    let id = cloud.volume(Source::Blank).await;
    let carrier = cloud.get(&id).status.carrier.clone().unwrap();
    let number = cloud.machines.iter().position(|machine| machine.host == carrier).unwrap();
    cloud.agents[number] = None;
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert_eq!(cloud.get(&id).status.carrier.as_ref(), Some(&carrier));
    cloud.agents[number] = Some(cloud::attach(&cloud.controller, &cloud.machines[number], PACE));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(cloud.get(&id).status.carrier.as_ref(), Some(&carrier));
}

#[tokio::test(start_paused = true)]
async fn without_a_pool_that_fits_a_volume_says_why_and_can_be_deleted() {
    let cloud = Cloud::with_hosts(1).await;
    let body = |tx: &mut Tx| {
        let id = cloud::create_volume(tx, "v", Source::Blank, None)?;
        cloud::change_volume(tx, &id, |spec| spec.size_gib = 20_000)?;
        Ok(id)
    };
    let id = cloud.act(body).await;
    cloud.until("a fault", |view| view.get(&id).is_some_and(|volume| volume.status.fault.is_some())).await;
    let fault = cloud.get(&id).status.fault.clone().unwrap().message;
    assert_eq!(fault, "No valid backend was found. 1 pool (shared): too little space: 20000 GiB wanted, 10000 of 10000 free.");
    delete_volume(&cloud, &id).await;
    cloud.until("it is gone", |view| view.get(&id).is_none()).await;
}

/// The first volume may be asked for before any host has spoken of the first pool.
#[tokio::test(start_paused = true)]
async fn a_new_pool_is_waited_for() {
    let cloud = Cloud::with_hosts(1).await;
    let id = cloud
        .act(|tx| {
            cloud::create_pool(tx, "new", &[], false)?;
            cloud::create_volume(tx, "v", Source::Blank, Some("new"))
        })
        .await;
    cloud.ready(&id).await;
    let pool = cloud.get(&id).status.pool.clone().unwrap();
    assert_eq!(cloud.get(&pool).meta.name, "new");
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_fails_fails_its_volumes_and_says_so() {
    let cloud = Cloud::with_hosts(1).await;
    let id = cloud.volume(Source::Blank).await;
    cloud.storage.set_fault(Some("the export is gone"));
    let grown = id.clone();
    cloud.act(move |tx| cloud::change_volume(tx, &grown, |spec| spec.size_gib = 2)).await;
    cloud.until("a fault", |view| view.get(&id).is_some_and(|volume| volume.status.fault.is_some())).await;
    let volume = cloud.get(&id);
    assert_eq!((volume.status.made, volume.status.size_gib, volume.is_settled()), (true, 1, true));
    assert_eq!(volume.status.fault.as_ref().unwrap().message, "the export is gone");
    let snapshot = add_snapshot(&cloud, &id).await;
    assert_eq!(cloud.get(&snapshot).phase, SnapshotPhase::Failed("the export is gone".into()));
    cloud.storage.set_fault(None);
    let again = id.clone();
    cloud.act(move |tx| cloud::change_volume(tx, &again, |_| {})).await;
    cloud.until("it has grown", |view| view.get(&id).is_some_and(|volume| volume.status.size_gib == 2 && volume.is_ready())).await;
    assert_eq!(cloud.get(&id).status.fault, None);
}

#[tokio::test(start_paused = true)]
async fn snapshots_are_taken_cloned_reverted_to_and_deleted() {
    let cloud = Cloud::with_hosts(2).await;
    let id = cloud.volume(Source::Blank).await;
    assert!(cloud.storage.write(id.as_str(), cloud.get(&id).spec.fence, Some(7)));
    let snapshot = add_snapshot(&cloud, &id).await;
    assert_eq!(cloud.get(&snapshot).phase, SnapshotPhase::Available);
    assert!(cloud.storage.write(id.as_str(), cloud.get(&id).spec.fence, Some(8)));
    let copy = cloud.volume(Source::Snapshot(snapshot.clone())).await;
    let clone = cloud.volume(Source::Volume(id.clone())).await;
    let content = |of: &Id<Volume>| cloud.storage.volumes()[of.as_str()].content;
    assert_eq!((content(&copy), content(&clone)), (7, 8));
    assert_eq!(cloud.get(&copy).status.pool, cloud.get(&id).status.pool);
    let (revert, to) = (id.clone(), snapshot.clone());
    cloud
        .act(move |tx| {
            let from = RestoreFrom::Snapshot(to.clone());
            cloud::change_volume(tx, &revert, |spec| spec.restore = Some(Restore { number: 1, from }))
        })
        .await;
    cloud.until("it is put back", |view| view.get(&id).is_some_and(|volume| volume.status.restored == 1 && volume.is_ready())).await;
    assert_eq!(content(&id), 7);
    delete_snapshot(&cloud, &snapshot).await;
    cloud.until("the snapshot is gone", |view| view.get(&snapshot).is_none()).await;
    assert!(cloud.storage.volumes()[id.as_str()].snapshots.is_empty());
}

/// What a volume is being made from does not go before it is made, in whatever order that is asked for.
#[tokio::test(start_paused = true)]
async fn what_is_being_copied_goes_only_afterwards() {
    let cloud = Cloud::with_hosts(1).await;
    let id = cloud.volume(Source::Blank).await;
    assert!(cloud.storage.write(id.as_str(), cloud.get(&id).spec.fence, Some(5)));
    let from = id.clone();
    let clone = cloud
        .act(move |tx| {
            let clone = cloud::create_volume(tx, "v", Source::Volume(from.clone()), None)?;
            cloud::change_volume(tx, &from, |spec| spec.deleted = true)?;
            Ok(clone)
        })
        .await;
    cloud.ready(&clone).await;
    cloud.until("the first is gone", |view| view.get(&id).is_none()).await;
    assert_eq!(cloud.storage.volumes().into_iter().map(|(id, stored)| (id, stored.content)).collect::<Vec<_>>(), [(clone.to_string(), 5)]);
}

/// A copy that cannot be made keeps nothing from going.
#[tokio::test(start_paused = true)]
async fn a_volume_whose_source_is_gone_fails() {
    let cloud = Cloud::with_hosts(1).await;
    let id = cloud.act(|tx| cloud::create_volume(tx, "v", Source::Image(Id::new("nothing")), None)).await;
    cloud.until("a fault", |view| view.get(&id).is_some_and(|volume| volume.status.fault.is_some())).await;
    assert!(cloud.get(&id).status.fault.as_ref().unwrap().message.contains("Image nothing"));
    assert_eq!(cloud.get(&id).reads().count(), 0);
}

async fn add_backup(cloud: &Cloud, volume: &Id<Volume>, parent: Option<Id<Backup>>) -> Id<Backup> {
    let of = volume.clone();
    let body = move |tx: &mut Tx| {
        cloud::change_volume(tx, &of, |_| {})?;
        let repository = tx.all::<Pool>().find(|pool| pool.keeps_backups).expect("a repository").meta.id.clone();
        let (description, container, zone, metadata, carrier, reset, phase, facts) = Default::default();
        let (meta, data_timestamp, volume, parent) = (Meta::new(tx.new_id()).named("b"), tx.now(), of.clone(), parent.clone());
        let new = Backup {
            meta,
            user: "u".into(),
            volume,
            size_gib: 1,
            snapshot: None,
            parent,
            data_timestamp,
            repository,
            description,
            container,
            zone,
            metadata,
            deleted: false,
            carrier,
            reset,
            phase,
            facts,
        };
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

#[tokio::test(start_paused = true)]
async fn backups_outlive_their_volume_and_go_in_order() {
    let cloud = Cloud::with_hosts(2).await;
    let id = cloud.volume(Source::Blank).await;
    assert!(cloud.storage.write(id.as_str(), cloud.get(&id).spec.fence, Some(3)));
    let full = add_backup(&cloud, &id, None).await;
    let more = add_backup(&cloud, &id, Some(full.clone())).await;
    let backup = cloud.get(&more);
    assert_eq!((backup.phase.clone(), backup.facts.objects), (BackupPhase::Available, 1));
    delete_volume(&cloud, &id).await;
    cloud.until("the volume is gone", |view| view.get(&id).is_none()).await;
    let restored = cloud.volume(Source::Backup(more.clone())).await;
    assert_eq!(cloud.storage.volumes()[restored.as_str()].content, 3);
    delete_backup(&cloud, &full).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(cloud.storage.backups().len(), 2, "the other one still needs it");
    delete_backup(&cloud, &more).await;
    cloud.until("both are gone", |view| view.count::<Backup>() == 0).await;
    assert!(cloud.storage.backups().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_fails_leaves_an_image_that_says_why() {
    let cloud = Cloud::with_hosts(1).await;
    let id = cloud.volume(Source::Blank).await;
    let volume = id.clone();
    cloud
        .act(move |tx| {
            tx.insert(Image::new(Meta::new("copy"), ImageSpec::default()))?;
            let upload = Upload { image: Id::new("copy"), format: "raw".into() };
            cloud::change_volume(tx, &volume, |spec| spec.upload = Some(upload))
        })
        .await;
    cloud.until("it is over", |view| view.get(&id).is_some_and(|volume| volume.spec.upload.is_none())).await;
    assert_eq!(cloud.get(&Id::<Image>::new("copy")).status.refusal.as_deref(), Some("a simulated host has no bytes"));
}

#[tokio::test(start_paused = true)]
async fn a_volume_is_attached_to_a_running_server_and_detached_again() {
    let cloud = Cloud::with_hosts(3).await;
    let server = cloud.act(|tx| cloud::create_server(tx, "s")).await;
    cloud.running(&server).await;
    let host = cloud.get(&server).status.host.clone().unwrap();
    let id = cloud.volume(Source::Blank).await;
    let (volume, to) = (id.clone(), server.clone());
    let attachment = cloud.act(move |tx| cloud::attach_volume(tx, &volume, &to, "/dev/vdb")).await;
    cloud.until("it is attached", |view| view.get(&attachment).is_some_and(|found| found.state == AttachState::Attached)).await;
    cloud.ready(&id).await;
    let attached = cloud.get(&attachment);
    assert!(attached.attached_at.is_some());
    assert_eq!(attached.fence, cloud.get(&id).spec.fence);
    assert_eq!(cloud.get(&id).status.carrier.as_ref(), Some(&host), "the server's host carries it");
    assert_eq!(cloud.volume_item(&host, &id).unwrap().in_use_by.as_ref(), Some(&server));
    let machine = cloud.machines.iter().find(|machine| machine.host == host).unwrap();
    assert_eq!(machine.servers()[&server].volumes[0].fence, attached.fence);
    let taken = attachment.clone();
    cloud.act(move |tx| cloud::detach_volume(tx, &taken)).await;
    cloud.until("it is detached", |view| view.get(&attachment).is_none()).await;
    assert!(machine.servers()[&server].volumes.is_empty());
    assert_eq!(cloud.volume_item(&host, &id).unwrap().in_use_by, None);
}

#[tokio::test(start_paused = true)]
async fn an_attachment_that_fails_goes_back_and_the_server_runs_on() {
    let cloud = Cloud::with_hosts(1).await;
    let server = cloud.act(|tx| cloud::create_server(tx, "s")).await;
    cloud.running(&server).await;
    let id = cloud.volume(Source::Blank).await;
    // As if something else had it.
    assert!(cloud.storage.write(id.as_str(), 1_000, None));
    let (volume, to) = (id.clone(), server.clone());
    let attachment = cloud.act(move |tx| cloud::attach_volume(tx, &volume, &to, "/dev/vdb")).await;
    cloud.until("it went back", |view| view.get(&attachment).is_none()).await;
    cloud.running(&server).await;
    assert_eq!(cloud.get(&server).status.fault, None);
}

#[tokio::test(start_paused = true)]
async fn a_server_starts_from_a_volume_fails_over_with_it_and_takes_it_to_its_end() {
    let mut cloud = Cloud::with_hosts(2).await;
    let server = cloud.server_on_volume("s", None).await;
    cloud.running(&server).await;
    let (attachment, host) = (cloud.attachment(&server), cloud.get(&server).status.host.clone().unwrap());
    assert_eq!((attachment.state, cloud.get(&server).is_protected()), (AttachState::Attached, true));
    let item = cloud.told(&host).into_iter().find_map(|item| if let Item::Server(item) = item { Some(item) } else { None }).unwrap();
    assert_eq!((item.image, item.root_gib, item.volumes.len(), item.volumes[0].device.as_str()), (None, 0, 1, "vda"));
    cloud.kill(&host);
    cloud.until("it is elsewhere", |view| view.get(&server).is_some_and(|server| server.status.host.as_ref() != Some(&host))).await;
    cloud.running(&server).await;
    let after = cloud.attachment(&server);
    assert!(after.fence > attachment.fence);
    assert!(!cloud.storage.write(after.volume.as_str(), attachment.fence, None), "the lost host cannot write");
    assert_eq!(cloud.get(&after.volume).status.carrier, cloud.get(&server).status.host);
    let end = server.clone();
    cloud.act(move |tx| cloud::ask(tx, &end, Run::Deleted, Verb::Delete)).await;
    cloud.until("the volume is gone", |view| view.count::<Volume>() == 0).await;
    assert!(cloud.storage.volumes().is_empty() && cloud.store.view().count::<Attachment>() == 0);
}

#[tokio::test(start_paused = true)]
async fn a_volume_in_a_pool_of_one_host_binds_the_server_to_it() {
    let cloud = Cloud::with_hosts(2).await;
    let only = cloud.machines[1].host.clone();
    let hosts = [only.clone()];
    cloud.act(move |tx| cloud::create_pool(tx, "local", &hosts, false)).await;
    let bound = cloud.server_on_volume("bound", Some("local")).await;
    let free = cloud.server_on_volume("free", Some("shared")).await;
    for server in [&bound, &free] {
        cloud.running(server).await;
    }
    assert_eq!(cloud.get(&bound).status.host.as_ref(), Some(&only));
    assert!(!cloud.get(&bound).is_protected() && cloud.get(&free).is_protected());
    // A running server that is given one is bound from then on, and free again without it.
    let volume = cloud.act(|tx| cloud::create_volume(tx, "v", Source::Blank, Some("local"))).await;
    cloud.ready(&volume).await;
    let moved = free.clone();
    let to = cloud.get(&free).status.host.clone().unwrap();
    if to != only {
        let wants = cloud.store.view().get(&only).unwrap().meta.name.clone();
        let again = cloud
            .act(move |tx| {
                let id = cloud::create_server_on_volume(tx, "there", Some("shared"))?;
                tx.update(&id, |server: &mut Server| {
                    server.spec.availability = Availability::Ha;
                    server.spec.wish.host = Some(wants.clone());
                    Ok::<_, Error>(())
                })?;
                Ok(id)
            })
            .await;
        cloud.running(&again).await;
        return binds_while_attached(&cloud, &again, &volume).await;
    }
    binds_while_attached(&cloud, &moved, &volume).await;
}

async fn binds_while_attached(cloud: &Cloud, server: &Id<Server>, volume: &Id<Volume>) {
    assert!(cloud.get(server).is_protected());
    let (from, to) = (volume.clone(), server.clone());
    let attachment = cloud.act(move |tx| cloud::attach_volume(tx, &from, &to, "/dev/vdb")).await;
    cloud.until("it is attached", |view| view.get(&attachment).is_some_and(|found| found.state == AttachState::Attached)).await;
    cloud.until("it is bound", |view| view.get(server).is_some_and(|server| !server.is_protected() && server.is_settled())).await;
    cloud.act(move |tx| cloud::detach_volume(tx, &attachment)).await;
    cloud.until("it is free", |view| view.get(server).is_some_and(|server| server.is_protected() && server.is_settled())).await;
}

#[tokio::test(start_paused = true)]
async fn a_server_whose_volume_cannot_be_made_says_so() {
    let cloud = Cloud::with_hosts(1).await;
    let server = cloud.server_on_volume("s", Some("nowhere")).await;
    cloud.until("a fault", |view| view.get(&server).is_some_and(|server| server.status.fault.is_some())).await;
    let fault = cloud.get(&server).status.fault.clone().unwrap().message;
    assert!(fault.starts_with("Block Device Mapping is Invalid") && fault.contains("volume_backend_name=nowhere"), "{fault}");
    let end = server.clone();
    cloud.act(move |tx| cloud::ask(tx, &end, Run::Deleted, Verb::Delete)).await;
    cloud.until("nothing is left", |view| view.count::<Volume>() == 0 && view.count::<Attachment>() == 0).await;
}

/// A server that is shelved with its disk in a volume leaves its host without an image, and finds the volume again.
#[tokio::test(start_paused = true)]
async fn a_shelved_server_lets_its_volume_go_and_takes_it_again() {
    let cloud = Cloud::with_hosts(2).await;
    let server = cloud.server_on_volume("s", None).await;
    cloud.running(&server).await;
    assert_eq!(cloud.get(&server).spec.launch.boot, BootDisk::Volume);
    let fence = cloud.attachment(&server).fence;
    let shelve = server.clone();
    cloud.act(move |tx| cloud::ask(tx, &shelve, Run::Shelved, Verb::Shelve)).await;
    // As the API's step after shelving, when the server is off.
    cloud.until("it is offloaded", |view| view.get(&server).is_some_and(|server| server.status.host.is_none())).await;
    assert_eq!(cloud.attachment(&server).state, AttachState::Attached, "it is still the server's");
    let unshelve = server.clone();
    cloud.act(move |tx| cloud::ask(tx, &unshelve, Run::Running, Verb::Unshelve)).await;
    cloud.running(&server).await;
    assert!(cloud.attachment(&server).fence > fence);
    let stop = server.clone();
    cloud.act(move |tx| cloud::ask(tx, &stop, Run::Stopped, Verb::Stop)).await;
    cloud.until("it is off", |view| phase(view, &server) == Some(Phase::Stopped(StopReason::Asked))).await;
}

#[tokio::test(start_paused = true)]
async fn carriers_learn_keys_and_images_and_nobody_else_does() {
    let cloud = Cloud::with_hosts(2).await;
    let id = cloud
        .act(|tx| {
            let mut image = Image::new(Meta::new("image"), ImageSpec { disk_format: Some(DiskFormat::Raw), ..ImageSpec::default() });
            image.status.state = ImageState::Active;
            let (size, virtual_size, file) = (9, None, "f".into());
            image.status.content = Some(Content { file, size, virtual_size, md5: "m".into(), sha512: "s".into() });
            tx.insert(image)?;
            let (passphrase, cipher, mode) = ("secret".into(), "aes-256".into(), "xts".into());
            tx.insert(VolumeKey { meta: Meta::new("key"), passphrase, cipher, mode })?;
            let id = cloud::create_volume(tx, "v", Source::Image(Id::new("image")), None)?;
            cloud::change_volume(tx, &id, |spec| spec.key = Some(Id::new("key")))?;
            Ok(id)
        })
        .await;
    cloud.ready(&id).await;
    assert_eq!(cloud.storage.volumes()[id.as_str()].content, 9, "it began as the image");
    let carrier = cloud.get(&id).status.carrier.clone().unwrap();
    let item = cloud.volume_item(&carrier, &id).unwrap();
    assert_eq!(
        item.encryption.as_ref().map(|it| (it.passphrase.as_str(), it.cipher.as_str(), it.mode.as_str())),
        Some(("secret", "aes-256", "xts"))
    );
    assert!(item.made && item.source == unkai_link::volume::Source::Blank, "an image is read once");
    let other = cloud.machines.iter().find(|machine| machine.host != carrier).unwrap();
    assert_eq!(cloud.volume_item(&other.host, &id), None);
    delete_volume(&cloud, &id).await;
    cloud.until("the key goes with it", |view| view.count::<VolumeKey>() == 0).await;
}
