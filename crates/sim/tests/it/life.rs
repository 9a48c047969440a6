//! What a server goes through, over the real road: store, control, link, a simulated host, and back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use unkai_link::item::{HostId, Item};
use unkai_model::compute::{Aggregate, Host, Phase, Reachability, Run, Server, StopReason, Verb};
use unkai_model::image::{Content, DiskFormat, Image, ImageSpec, ImageState};
use unkai_model::{Error, Id, Meta};
use unkai_sim::cloud::{self, ControllerProcess};
use unkai_sim::source::Simulated;
use unkai_store::{Store, View};

pub const PACE: Duration = Duration::from_millis(30);

pub fn store() -> Store {
    Store::in_step(Arc::new(Simulated::new(1)))
}

/// Waits for a state of the store.
pub async fn until(store: &Store, what: &str, reached: impl Fn(&View) -> bool) {
    let mut watch = store.watch();
    let waiting = async {
        while !reached(&store.view()) {
            watch.next().await;
        }
    };
    // Simulated time: it costs nothing to be patient.
    let reached = tokio::time::timeout(Duration::from_secs(600), waiting).await;
    assert!(
        reached.is_ok(),
        "not reached: {what}; servers: {:#?}",
        store.view().all::<Server>().map(|s| s.status.clone()).collect::<Vec<_>>()
    );
}

pub fn phase(view: &View, id: &Id<Server>) -> Option<Phase> {
    view.get(id).filter(|server| server.is_settled()).map(|server| server.status.observed.phase.clone())
}

/// Creates servers once `hosts` hosts can take them.
pub async fn create(store: &Store, hosts: usize, count: usize) -> Vec<Id<Server>> {
    until(store, "the hosts are there", |view| view.count::<Host>() == hosts).await;
    let made = store.transact(move |tx| (0..count).map(|n| cloud::create_server(tx, &format!("s{n}"))).collect::<Result<Vec<_>, Error>>());
    made.await.unwrap()
}

pub async fn all_running(store: &Store, servers: &[Id<Server>]) {
    until(store, "all run", |view| servers.iter().all(|id| phase(view, id) == Some(Phase::Running))).await;
}

#[tokio::test(start_paused = true)]
async fn a_server_is_placed_started_stopped_and_deleted() {
    let store = store();
    let controller = ControllerProcess::start(&store);
    let machine = cloud::machine(1);
    let _agent = cloud::attach(&controller, &machine, PACE);
    let servers = create(&store, 1, 3).await;
    all_running(&store, &servers).await;
    assert_eq!(machine.servers().len(), 3);
    let id = servers[0].clone();
    let stop = id.clone();
    store.transact(move |tx| cloud::ask(tx, &stop, Run::Stopped, Verb::Stop)).await.unwrap();
    until(&store, "it is stopped", |view| phase(view, &id) == Some(Phase::Stopped(StopReason::Asked))).await;
    let delete = id.clone();
    store.transact(move |tx| cloud::ask(tx, &delete, Run::Deleted, Verb::Delete)).await.unwrap();
    until(&store, "it is gone", |view| view.get(&id).is_none_or(|server| !server.is_live())).await;
    assert_eq!(machine.servers().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn servers_wait_for_a_host_without_an_agent_and_say_why() {
    let store = store();
    let _controller = ControllerProcess::start(&store);
    let servers = create(&store, 0, 1).await;
    until(&store, "a fault", |view| view.get(&servers[0]).is_some_and(|server| server.status.fault.is_some())).await;
    let fault = store.view().get(&servers[0]).unwrap().status.fault.clone().unwrap();
    assert!(fault.message.contains("No valid host"), "{}", fault.message);
}

#[tokio::test(start_paused = true)]
async fn a_dead_controller_stops_nothing_and_the_next_one_finds_all_as_it_was() {
    let store = store();
    let controller = ControllerProcess::start(&store);
    let machine = cloud::machine(1);
    let agent = cloud::attach(&controller, &machine, PACE);
    let servers = create(&store, 1, 5).await;
    all_running(&store, &servers).await;
    drop((controller, agent));
    let before = machine.servers();
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(machine.servers(), before);
    let controller = ControllerProcess::start(&store);
    let _agent = cloud::attach(&controller, &machine, PACE);
    until(&store, "the host is up", |view| view.all::<Host>().all(|host| host.status.reachability == Reachability::Up)).await;
    all_running(&store, &servers).await;
    assert_eq!(machine.servers(), before);
}

#[tokio::test(start_paused = true)]
async fn a_silent_host_is_suspect_then_lost_then_up_again() {
    let store = store();
    let controller = ControllerProcess::start(&store);
    let machine = cloud::machine(1);
    let agent = cloud::attach(&controller, &machine, PACE);
    let is = |wanted: Reachability| move |view: &View| view.all::<Host>().any(|host| host.status.reachability == wanted);
    until(&store, "up", is(Reachability::Up)).await;
    drop(agent);
    until(&store, "suspect", is(Reachability::Suspect)).await;
    until(&store, "lost", is(Reachability::Lost)).await;
    let _agent = cloud::attach(&controller, &machine, PACE);
    until(&store, "up again", is(Reachability::Up)).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_returning_host_still_has_and_nobody_wants_goes() {
    let store = store();
    let controller = ControllerProcess::start(&store);
    let machine = cloud::machine(1);
    let agent = cloud::attach(&controller, &machine, PACE);
    let servers = create(&store, 1, 2).await;
    all_running(&store, &servers).await;
    drop((agent, controller));
    let controller = ControllerProcess::start(&store);
    let other = cloud::machine(2);
    let _other = cloud::attach(&controller, &other, PACE);
    until(&store, "the host is lost", |view| view.get(&machine.host).is_some_and(|host| host.status.reachability == Reachability::Lost))
        .await;
    let id = servers[0].clone();
    // As if it had been moved away meanwhile.
    let moved = store.transact(move |tx| {
        tx.update(&id, |server: &mut Server| {
            server.status.host = None;
            Ok::<_, Error>(())
        })
    });
    moved.await.unwrap();
    until(&store, "it runs on the other host", |view| {
        view.get(&servers[0]).is_some_and(|server| server.status.host.as_ref() == Some(&other.host))
            && phase(view, &servers[0]) == Some(Phase::Running)
    })
    .await;
    let _agent = cloud::attach(&controller, &machine, PACE);
    let only: BTreeSet<_> = [servers[1].clone()].into();
    until(&store, "the host is up", |view| view.get(&machine.host).is_some_and(|host| host.status.reachability == Reachability::Up)).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(machine.servers().into_keys().collect::<BTreeSet<_>>(), only);
}

#[tokio::test(start_paused = true)]
async fn one_seed_is_one_history() {
    let mut histories = BTreeSet::new();
    for _ in 0..3 {
        let store = Store::in_step(Arc::new(Simulated::new(7)));
        let controller = ControllerProcess::start(&store);
        let machines: Vec<_> = (1..4).map(cloud::machine).collect();
        let _agents: Vec<_> = machines.iter().map(|machine| cloud::attach(&controller, machine, PACE)).collect();
        let servers = create(&store, 3, 20).await;
        all_running(&store, &servers).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        let places = store.view().all::<Server>().map(|server| format!("{server:?}")).collect::<Vec<_>>().join("\n");
        histories.insert((store.view().revision(), places));
    }
    assert_eq!(histories.len(), 1, "the same seed went different ways");
}

/// Hosts are told to have the images of their aggregates, again for every request, and not those that no server could start from.
#[tokio::test(start_paused = true)]
async fn images_of_an_aggregate_are_for_its_hosts() {
    let store = store();
    let controller = ControllerProcess::start(&store);
    let (inside, outside) = (cloud::machine(1), cloud::machine(2));
    let _agents = [&inside, &outside].map(|machine| cloud::attach(&controller, machine, PACE));
    until(&store, "the hosts are there", |view| view.count::<Host>() == 2).await;
    let host = inside.host.clone();
    let made = store.transact(move |tx| {
        let mut active = Image::new(Meta::new(Id::new("active")), ImageSpec { disk_format: Some(DiskFormat::Raw), ..ImageSpec::default() });
        active.status.state = ImageState::Active;
        active.status.content = Some(Content { file: "f".into(), size: 1, virtual_size: None, md5: "m".into(), sha512: "s".into() });
        tx.insert(active)?;
        tx.insert(Image::new(Meta::new(Id::new("queued")), ImageSpec::default()))?;
        let mut aggregate = Aggregate::new(Meta::new(tx.new_id()).named("a"), 1, None);
        aggregate.hosts.insert(host.clone());
        aggregate.images = ["active", "queued", "deleted"].map(Id::new).into();
        aggregate.image_requests = 3;
        tx.insert(aggregate).map(|aggregate| aggregate.meta.id.clone())
    });
    let aggregate = made.await.unwrap();
    let told = |host: &HostId| unkai_control::assign::assigned(&store.view(), host);
    let [Item::Image(item)] = &told(&inside.host)[..] else { panic!("{:?}", told(&inside.host)) };
    assert_eq!((item.image.id.as_str(), item.request), ("active", 3));
    assert_eq!(told(&outside.host), []);
    let leaves = store.transact(move |tx| {
        tx.update(&aggregate, |aggregate: &mut Aggregate| {
            aggregate.hosts.clear();
            Ok::<_, Error>(())
        })
    });
    leaves.await.unwrap();
    assert_eq!(told(&inside.host), []);
}
