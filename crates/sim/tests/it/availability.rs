//! What happens to highly available servers when a host is lost, and what would.

use unkai_control::availability;
use unkai_control::availability::survive::{Redundancy, survive};
use unkai_model::compute::{Availability, Failover, Phase, Run, Server, Verb};
use unkai_model::settings::Domain;
use unkai_model::{Error, Id};
use unkai_sim::cloud::{self, ControllerProcess};
use unkai_sim::host::Machine;
use unkai_store::Store;

use crate::life::{PACE, all_running, create, phase, store, until};

/// So much that a second one finds no room on a machine.
const LARGE_MIB: u64 = 400 << 10;

/// A highly available server of so much memory, on this machine and no other.
async fn available_on(store: &Store, machine: &Machine, ram_mib: u64) -> Id<Server> {
    let name = store.view().get(&machine.host).expect("the host is known").meta.name.clone();
    let body = move |tx: &mut unkai_store::Tx| {
        let id = cloud::create_server(tx, "ha")?;
        tx.update(&id, |server: &mut Server| {
            server.spec.launch.flavor.ram_mib = ram_mib;
            server.spec.availability = Availability::Ha;
            server.spec.wish.forced_host = Some(name.clone());
            Ok::<_, Error>(())
        })?;
        Ok::<_, Error>(id)
    };
    store.transact(body).await.expect("the server is taken")
}

fn machines(count: usize) -> Vec<Machine> {
    (1..=count).map(cloud::machine).collect()
}

/// It was placed on its lost host again and again, because that was named when it was created.
#[tokio::test(start_paused = true)]
async fn a_server_that_was_created_on_a_named_host_leaves_it_when_it_is_lost() {
    let (store, machines) = (store(), machines(2));
    let controller = ControllerProcess::start(&store);
    let mut agents: Vec<_> = machines.iter().map(|machine| cloud::attach(&controller, machine, PACE)).collect();
    create(&store, 2, 0).await;
    let id = available_on(&store, &machines[0], 512).await;
    all_running(&store, std::slice::from_ref(&id)).await;
    let generation = store.view().get(&id).unwrap().meta.generation;
    drop(agents.remove(0));
    machines[0].power_off();
    until(&store, "it is on the other host", |view| view.get(&id).is_some_and(|s| s.status.host.as_ref() == Some(&machines[1].host))).await;
    all_running(&store, std::slice::from_ref(&id)).await;
    assert_eq!(store.view().get(&id).unwrap().meta.generation, generation + 1, "it was decided once");
    let receipts: Vec<_> = store.view().all::<Failover>().collect();
    assert_eq!(receipts.len(), 1);
    assert!(!receipts[0].is_open() && receipts[0].to.as_ref() == Some(&machines[1].host));
}

#[tokio::test(start_paused = true)]
async fn what_would_not_survive_is_told_before_it_happens() {
    let (store, machines) = (store(), machines(3));
    let controller = ControllerProcess::start(&store);
    let _two: Vec<_> = machines[..2].iter().map(|machine| cloud::attach(&controller, machine, PACE)).collect();
    create(&store, 2, 0).await;
    let a = available_on(&store, &machines[0], LARGE_MIB).await;
    let b = available_on(&store, &machines[1], LARGE_MIB).await;
    all_running(&store, &[a.clone(), b.clone()]).await;
    let lost = survive(&store.view(), &[machines[0].host.clone()].into());
    assert_eq!(lost.iter().map(|lost| &lost.server).collect::<Vec<_>>(), [&a]);
    assert!(lost[0].reason.contains("would be dead") && lost[0].reason.contains("MEMORY_MB"), "{}", lost[0].reason);
    assert_eq!(Redundancy::of(&store.view()).missing(), 2);
    let _third = cloud::attach(&controller, &machines[2], PACE);
    until(&store, "a third host", |view| Redundancy::of(view).missing() == 0).await;
    let both = survive(&store.view(), &machines[..2].iter().map(|machine| machine.host.clone()).collect());
    assert_eq!(both.len(), 1, "the third host has room for one");
}

/// Nobody is left to be counted as missing when the server that waited for room is deleted.
#[tokio::test(start_paused = true)]
async fn receipts_go_with_their_server() {
    let (store, machines) = (store(), machines(1));
    let controller = ControllerProcess::start(&store);
    let agent = cloud::attach(&controller, &machines[0], PACE);
    create(&store, 1, 0).await;
    let id = available_on(&store, &machines[0], 512).await;
    all_running(&store, std::slice::from_ref(&id)).await;
    drop(agent);
    machines[0].power_off();
    until(&store, "it finds no host", |view| Redundancy::of(view).failing_over == 1).await;
    let fault = store.view().get(&id).unwrap().status.fault.clone().unwrap();
    assert!(fault.message.contains("no other can take it"), "{}", fault.message);
    let delete = id.clone();
    store.transact(move |tx| cloud::ask(tx, &delete, Run::Deleted, Verb::Delete)).await.unwrap();
    until(&store, "it is gone", |view| view.get(&id).is_none_or(|server| !server.is_live())).await;
    assert_eq!(Redundancy::of(&store.view()), Redundancy::default());
    assert_eq!(store.view().count::<Failover>(), 0);
}

/// Among many hosts the order is not made anew for each decision; a host that joins later is known all the same.
#[tokio::test(start_paused = true)]
async fn a_host_that_joins_many_others_is_given_servers() {
    let (store, machines) = (store(), machines(71));
    let controller = ControllerProcess::start(&store);
    let _agents: Vec<_> = machines[..70].iter().map(|machine| cloud::attach(&controller, machine, PACE)).collect();
    let first = create(&store, 70, 70).await;
    all_running(&store, &first).await;
    let _last = cloud::attach(&controller, &machines[70], PACE);
    let second = create(&store, 71, 1).await;
    all_running(&store, &second).await;
    assert_eq!(phase(&store.view(), &second[0]), Some(Phase::Running));
    assert_eq!(store.view().get(&second[0]).unwrap().status.host.as_ref(), Some(&machines[70].host), "it has the most room");
}

/// An ordinary server of so much memory, or one that may be preempted.
async fn large(store: &Store, preemptible: bool) -> Id<Server> {
    let body = move |tx: &mut unkai_store::Tx| {
        let id = cloud::create_server(tx, "large")?;
        tx.update(&id, |server: &mut Server| {
            server.spec.launch.flavor.ram_mib = LARGE_MIB;
            server.spec.preemptible = preemptible;
            Ok::<_, Error>(())
        })?;
        Ok::<_, Error>(id)
    };
    store.transact(body).await.expect("the server is taken")
}

async fn reserve(store: &Store, strict: bool) {
    let change = availability::Change { reserve: Some(Some(Domain::Host)), strict: Some(strict), ..Default::default() };
    store.transact(move |tx| availability::set(tx, &change)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn room_is_kept_for_a_loss_and_lent_until_it_happens() {
    let (store, machines) = (store(), machines(3));
    reserve(&store, false).await;
    let controller = ControllerProcess::start(&store);
    let mut agents: Vec<_> = machines.iter().map(|machine| cloud::attach(&controller, machine, PACE)).collect();
    create(&store, 3, 0).await;
    let precious = available_on(&store, &machines[0], LARGE_MIB).await;
    all_running(&store, std::slice::from_ref(&precious)).await;
    let host = |id: &Id<Server>| store.view().get(id).unwrap().status.host.clone();
    let spare = store.view().get(&precious).unwrap().status.spare.clone().expect("room is kept");
    assert_ne!(spare, machines[0].host);

    let ordinary = large(&store, false).await;
    all_running(&store, std::slice::from_ref(&ordinary)).await;
    assert_ne!(host(&ordinary).as_ref(), Some(&spare), "it is placed beside what is kept");
    let refused = large(&store, false).await;
    until(&store, "there is no room for it", |view| view.get(&refused).is_some_and(|server| server.status.fault.is_some())).await;
    let fault = store.view().get(&refused).unwrap().status.fault.clone().unwrap().message;
    assert!(fault.contains("kept for servers of other hosts"), "{fault}");
    let lent = large(&store, true).await;
    all_running(&store, std::slice::from_ref(&lent)).await;
    assert_eq!(host(&lent).as_ref(), Some(&spare));
    assert_eq!(Redundancy::of(&store.view()).missing(), 0, "what is lent can be had back");

    drop(agents.remove(0));
    machines[0].power_off();
    until(&store, "it is where room was kept", |view| view.get(&precious).unwrap().status.host.as_ref() == Some(&spare)).await;
    all_running(&store, std::slice::from_ref(&precious)).await;
    let preempted = store.view().get(&lent).unwrap();
    assert!(preempted.status.preempted.is_some() && preempted.spec.run == Run::Stopped);
    until(&store, "it is off", |view| matches!(phase(view, &lent), Some(Phase::Stopped(_)))).await;
    assert_eq!(store.view().get(&precious).unwrap().status.spare, None, "no host has room for a second loss");
    assert_eq!(Redundancy::of(&store.view()).missing(), 1);

    let delete = precious.clone();
    store.transact(move |tx| cloud::ask(tx, &delete, Run::Deleted, Verb::Delete)).await.unwrap();
    all_running(&store, std::slice::from_ref(&lent)).await;
    assert_eq!(store.view().get(&lent).unwrap().status.preempted, None);
}

/// One host cannot keep room for two, and the redundancy of what moved is built anew when there is a host for it.
#[tokio::test(start_paused = true)]
async fn a_server_that_no_room_can_be_kept_for_is_refused_when_that_is_wanted() {
    let (store, machines) = (store(), machines(3));
    reserve(&store, true).await;
    let controller = ControllerProcess::start(&store);
    let mut agents: Vec<_> = machines[..2].iter().map(|machine| cloud::attach(&controller, machine, PACE)).collect();
    create(&store, 2, 0).await;
    let first = available_on(&store, &machines[0], LARGE_MIB).await;
    all_running(&store, std::slice::from_ref(&first)).await;
    let second = available_on(&store, &machines[0], LARGE_MIB).await;
    until(&store, "it is refused", |view| view.get(&second).is_some_and(|server| server.status.fault.is_some())).await;
    let fault = store.view().get(&second).unwrap().status.fault.clone().unwrap().message;
    assert!(fault.starts_with("No room can be kept for the loss of its host."), "{fault}");

    drop(agents.remove(0));
    machines[0].power_off();
    until(&store, "it is on the other host", |view| view.get(&first).unwrap().status.host.as_ref() == Some(&machines[1].host)).await;
    all_running(&store, std::slice::from_ref(&first)).await;
    assert!(store.view().get(&first).unwrap().lacks_spare());
    agents.push(cloud::attach(&controller, &machines[2], PACE));
    until(&store, "room is kept anew", |view| view.get(&first).unwrap().status.spare.as_ref() == Some(&machines[2].host)).await;
    assert_eq!(Redundancy::of(&store.view()).missing(), 0);
}
