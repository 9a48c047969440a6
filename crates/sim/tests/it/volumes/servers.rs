//! Volumes of servers: attached, detached, booted from, taken along.

use super::*;

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

/// Two servers have one volume; neither fences the other off.
#[tokio::test(start_paused = true)]
async fn a_volume_for_several_servers_is_had_by_both() {
    let cloud = Cloud::with_hosts(2).await;
    let id = cloud.volume(Source::Blank).await;
    let several = id.clone();
    let (a, b) = cloud
        .act(move |tx| {
            cloud::change_volume(tx, &several, |spec| spec.multi_attach = true)?;
            Ok((cloud::create_server(tx, "a")?, cloud::create_server(tx, "b")?))
        })
        .await;
    for server in [&a, &b] {
        cloud.running(server).await;
        let (volume, to) = (id.clone(), server.clone());
        let attachment = cloud.act(move |tx| cloud::attach_volume(tx, &volume, &to, "/dev/vdb")).await;
        cloud.until("it is attached", |view| view.get(&attachment).is_some_and(|found| found.state == AttachState::Attached)).await;
    }
    assert_ne!(cloud.get(&a).status.host, cloud.get(&b).status.host);
    assert_eq!(cloud.get(&id).status.carrier, cloud.get(&a).status.host, "the first one's host goes on carrying it");
    let item = cloud.told(cloud.get(&b).status.host.as_ref().unwrap()).into_iter().find_map(|item| match item {
        Item::Server(item) if item.id == b => Some(item),
        _ => None,
    });
    assert!(item.unwrap().volumes[0].shared);
    // It is restarted under its older generation.
    let reboot = a.clone();
    cloud.act(move |tx| cloud::ask(tx, &reboot, Run::Stopped, Verb::Stop)).await;
    cloud.until("it is off", |view| phase(view, &a) == Some(Phase::Stopped(StopReason::Asked))).await;
    let start = a.clone();
    cloud.act(move |tx| cloud::ask(tx, &start, Run::Running, Verb::Start)).await;
    cloud.running(&a).await;
}

/// What is to end with its server does not when somebody else needs it.
#[tokio::test(start_paused = true)]
async fn a_volume_with_a_snapshot_outlives_its_server() {
    let cloud = Cloud::with_hosts(1).await;
    let server = cloud.server_on_volume("s", None).await;
    cloud.running(&server).await;
    let volume = cloud.attachment(&server).volume.clone();
    add_snapshot(&cloud, &volume).await;
    let end = server.clone();
    cloud.act(move |tx| cloud::ask(tx, &end, Run::Deleted, Verb::Delete)).await;
    cloud.until("the server is gone", |view| view.get(&server).is_none_or(|server| !server.is_live())).await;
    assert!(!cloud.get(&volume).spec.deleted);
    assert_eq!(cloud.store.view().count::<Attachment>(), 0);
}
