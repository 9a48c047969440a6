//! Who works on a volume, and what it is told.

use super::*;

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
    // The container is in the backup as it is.
    let backup = add_backup(&cloud, &id, None).await;
    delete_volume(&cloud, &id).await;
    cloud.until("the volume is gone", |view| view.get(&id).is_none()).await;
    assert_eq!(cloud.store.view().count::<VolumeKey>(), 1, "a backup still needs it");
    delete_backup(&cloud, &backup).await;
    cloud.until("the key goes with the last that needs it", |view| view.count::<VolumeKey>() == 0).await;
}

async fn pool_of(cloud: &Cloud, name: &'static str, backend: Backend, hosts: &[HostId], keeps_backups: bool) {
    let hosts: std::collections::BTreeSet<_> = hosts.iter().cloned().collect();
    cloud
        .act(move |tx| {
            let (hosts, backend) = (hosts.clone(), backend.clone());
            operate::create(
                tx,
                PoolWish { name: name.into(), backend, hosts, keeps_backups, overcommit: 1.0, capabilities: Default::default() },
            )
        })
        .await;
}

/// LUNs are made, grown and removed where their target is, whoever uses them.
#[tokio::test(start_paused = true)]
async fn the_host_of_an_iscsi_target_changes_its_luns() {
    let cloud = Cloud::with_hosts(3).await;
    let target = cloud.machines[2].host.clone();
    let (portal, iqn, dir) = ("10.0.0.9".into(), "iqn.2026-01.test:x".into(), "/luns".into());
    let backend = Backend::Iscsi { target: target.to_string(), portal, iqn, dir, user: "u".into(), password: "p".into() };
    pool_of(&cloud, "luns", backend, &[], false).await;
    let body = |tx: &mut Tx| cloud::create_volume(tx, "v", Source::Blank, Some("luns"));
    let (id, second) = (cloud.act(body).await, cloud.act(body).await);
    for id in [&id, &second] {
        cloud.ready(id).await;
        assert_eq!(cloud.get(id).status.carrier.as_ref(), Some(&target), "no other host can make it");
    }
    let elsewhere = cloud.get(&cloud.machines[0].host).meta.name.clone();
    let server = cloud
        .act(move |tx| {
            let id = cloud::create_server(tx, "s")?;
            tx.update(&id, |server: &mut Server| {
                server.spec.wish.host = Some(elsewhere.clone());
                Ok::<_, Error>(())
            })?;
            Ok(id)
        })
        .await;
    cloud.running(&server).await;
    let (volume, to) = (id.clone(), server.clone());
    let attachment = cloud.act(move |tx| cloud::attach_volume(tx, &volume, &to, "/dev/vdb")).await;
    let user = cloud.machines[0].host.clone();
    let carried_by = |host: HostId| {
        let id = id.clone();
        move |view: &View| view.get(&id).is_some_and(|volume| volume.is_ready() && volume.status.carrier.as_ref() == Some(&host))
    };
    cloud.until("the user carries it", carried_by(user.clone())).await;
    let grown = id.clone();
    cloud.act(move |tx| cloud::change_volume(tx, &grown, |spec| spec.size_gib = 2)).await;
    cloud.until("it was grown at the target", |view| view.get(&id).is_some_and(|volume| volume.status.size_gib == 2)).await;
    cloud.until("the user carries it again", carried_by(user)).await;
    cloud.act(move |tx| cloud::detach_volume(tx, &attachment)).await;
    cloud.until("it is back at the target", carried_by(target)).await;
    delete_volume(&cloud, &id).await;
    cloud.until("it is gone", |view| view.get(&id).is_none()).await;
}

/// A host without the repository is never asked for a backup: it might find another place under that name.
#[tokio::test(start_paused = true)]
async fn backups_are_made_by_a_host_that_reaches_their_repository() {
    let mut cloud = Cloud::with_hosts(2).await;
    let shared = cloud.act(|tx| operate::find(&tx.view(), "shared")).await;
    let only = [cloud.machines[0].host.clone()];
    // From here there is another repository, of one host.
    cloud
        .act(move |tx| {
            tx.update(&shared, |pool: &mut Pool| {
                pool.keeps_backups = false;
                Ok::<_, Error>(())
            })
        })
        .await;
    pool_of(&cloud, "repository", Backend::Files { dir: "/backups".into() }, &only, true).await;
    let volumes = [cloud.volume(Source::Blank).await, cloud.volume(Source::Blank).await];
    let away = volumes.iter().find(|id| cloud.get(*id).status.carrier.as_ref() != Some(&only[0])).expect("work is spread").clone();
    let made = add_backup(&cloud, &away, None).await;
    assert_eq!(cloud.get(&made).phase, BackupPhase::Available);
    assert_eq!(cloud.get(&away).status.carrier.as_ref(), Some(&only[0]));
    cloud.kill(&only[0]);
    cloud
        .until("the other host has it", |view| view.get(&away).is_some_and(|volume| volume.status.carrier.as_ref() != Some(&only[0])))
        .await;
    let refused = add_backup(&cloud, &away, None).await;
    let BackupPhase::Failed(reason) = cloud.get(&refused).phase.clone() else { panic!("{:?}", cloud.get(&refused).phase) };
    assert!(reason.contains("does not reach the repository repository"), "{reason}");
    let (id, from) = (away.clone(), RestoreFrom::Backup(made));
    let restore = move |tx: &mut Tx| cloud::change_volume(tx, &id, |spec| spec.restore = Some(Restore { number: 1, from: from.clone() }));
    cloud.act(restore).await;
    cloud.until("it says why", |view| view.get(&away).is_some_and(|volume| matches!(volume.status.phase, VolumePhase::Failed(_)))).await;
    assert!(cloud.get(&away).is_settled() && cloud.get(&away).status.restored == 0);
}

/// A volume is asked for in a zone, by hosts of which a pool is reached.
#[tokio::test(start_paused = true)]
async fn the_zone_of_a_volume_is_one_of_its_pools_hosts() {
    let cloud = Cloud::with_hosts(2).await;
    let north = cloud.machines[1].host.clone();
    let hosts = [north.clone()];
    cloud
        .act(move |tx| {
            let mut aggregate = Aggregate::new(Meta::new(tx.new_id()).named("a"), 1, None);
            aggregate.hosts = hosts.clone().into();
            aggregate.metadata.insert("availability_zone".into(), "north".into());
            tx.insert(aggregate)?;
            cloud::create_pool(tx, "northern", &hosts, false)?;
            let shared = operate::find(&tx.view(), "shared")?;
            operate::disable(tx, &shared, Some("full".into()))
        })
        .await;
    let zoned = |zone: &'static str| {
        move |tx: &mut Tx| {
            let id = cloud::create_volume(tx, "v", Source::Blank, None)?;
            cloud::change_volume(tx, &id, |spec| spec.zone = Some(zone.into()))?;
            Ok(id)
        }
    };
    let id = cloud.act(zoned("north")).await;
    cloud.ready(&id).await;
    assert_eq!(cloud.get(&id).status.carrier.as_ref(), Some(&north));
    let nowhere = cloud.act(zoned("south")).await;
    cloud.until("a fault", |view| view.get(&nowhere).is_some_and(|volume| volume.status.fault.is_some())).await;
    let fault = cloud.get(&nowhere).status.fault.clone().unwrap().message;
    assert_eq!(
        fault,
        "No valid backend was found. 1 pool (shared): disabled: full, 1 pool (northern): no host of availability zone south reaches it."
    );
}
