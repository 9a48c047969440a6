//! Volumes by themselves: made, copied, saved, deleted.

use unkai_store::View;

use super::*;

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
async fn a_snapshot_that_is_being_backed_up_goes_only_afterwards() {
    let cloud = Cloud::with_hosts(1).await;
    let id = cloud.volume(Source::Blank).await;
    assert!(cloud.storage.write(id.as_str(), cloud.get(&id).spec.fence, Some(6)));
    let snapshot = add_snapshot(&cloud, &id).await;
    assert!(cloud.storage.write(id.as_str(), cloud.get(&id).spec.fence, Some(7)));
    let (of, from) = (id.clone(), snapshot.clone());
    let backup = cloud
        .act(move |tx| {
            cloud::change_volume(tx, &of, |_| {})?;
            let repository = tx.all::<Pool>().find(|pool| pool.keeps_backups).expect("a repository").meta.id.clone();
            let (volume, meta) = (tx.require(&of)?, Meta::new(tx.new_id()).named("b"));
            tx.update(&from, |snapshot: &mut Snapshot| {
                snapshot.deleted = true;
                Ok::<_, Error>(())
            })?;
            let new = Backup { snapshot: Some(from.clone()), ..Backup::new(meta, "u", &volume, repository, tx.now()) };
            tx.insert(new).map(|backup| backup.meta.id.clone())
        })
        .await;
    cloud.until("the backup is settled", |view| view.get(&backup).is_some_and(|backup| backup.phase != BackupPhase::Creating)).await;
    assert_eq!(cloud.get(&backup).phase, BackupPhase::Available);
    assert_eq!(cloud.storage.backups()[backup.as_str()], 6);
    cloud.until("the snapshot is gone", |view| view.get(&snapshot).is_none()).await;
    assert!(cloud.storage.volumes()[id.as_str()].snapshots.is_empty());
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

/// Of hosts that see the same only one is written down; when that one loses the pool, the others still have it, as large as it was.
#[tokio::test(start_paused = true)]
async fn a_pool_that_one_host_loses_is_used_from_the_others() {
    let cloud = Cloud::with_hosts(3).await;
    let the_pool = |view: &View| view.all::<Pool>().next().unwrap();
    cloud.until("the pool is marked", |view| the_pool(view).status.mark.is_some()).await;
    // All hosts have looked for the mark and said what they see.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let pool = the_pool(&cloud.store.view());
    assert_eq!(pool.status.hosts.len(), 1, "they see the same");
    let told = pool.status.hosts.keys().next().unwrap().clone();
    let (id, host) = (pool.meta.id.clone(), told.clone());
    let store = cloud.store.clone();
    let control = unkai_control::Controller::new(store.clone(), std::sync::Arc::new(cloud::NoImages));
    let session = cloud.get(&told).status.session;
    let report = PoolReport { pool: id.to_string(), fault: Some("stale handle".into()), total_gib: 0, free_gib: 0, mark: None };
    for _ in 0..2 {
        unkai_link::server::Control::report(&*control, host.clone(), session, vec![Up::Pool(report.clone())]).await.unwrap();
    }
    assert_eq!(cloud.get(&id).space(), (10_000, 10_000));
    let volume = cloud.volume(Source::Blank).await;
    assert_ne!(cloud.get(&volume).status.carrier.as_ref(), Some(&told));
    let server = cloud.server_on_volume("s", None).await;
    cloud.running(&server).await;
    assert_ne!(cloud.get(&server).status.host.as_ref(), Some(&told), "it could not start there");
}
