//! Storms: a cloud with everything that can fail failing, from one seed, and the promises held against what happened.
//!
//! Real controllers, store and link; simulated machines. Machines lose power, agents die, wires are cut or hold everything back,
//! controllers die, clocks drift. While that goes on, and after it has stopped, these hold:
//!
//! - no server that is started elsewhere when its host dies runs on two machines, at any moment ([`Watcher`]);
//! - no volume is written to by two servers, and none that runs under a lease is fenced off ([`Watcher`]);
//! - what was acknowledged is in the store ([`Tally`]);
//! - some time after the last failure every server that should run does, on a host that is up, and nothing waits for anything;
//! - then every volume is whole, and what is stored is what there are volumes for;
//! - sums in the store are those of its documents.

mod volumes;
mod watcher;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use unkai_control::availability;
use unkai_model::compute::{Availability, Failover, Host, Phase, Run, Server, Verb};
use unkai_model::{Error, Id};
use unkai_store::Store;

use crate::cloud::{self, ControllerProcess, Task};
use crate::host::{self, Agent, Machine};
use crate::source::{Chance, Simulated};
use crate::storage::Storage;
use crate::wire::{self, Wire};
use watcher::Watcher;

/// What a storm is made of: how many of 100 failures are of each sort.
#[derive(Debug, Clone, Copy)]
pub struct Mix {
    pub power: u64,
    pub agent: u64,
    pub cut: u64,
    pub partition: u64,
    pub controller: u64,
    /// Hosts' clocks run up to this many thousandths fast or slow.
    pub drift: u64,
}

/// The storms by name.
pub const STORMS: &[(&str, Mix)] = &[
    ("calm", Mix { power: 0, agent: 0, cut: 0, partition: 0, controller: 0, drift: 0 }),
    ("power", Mix { power: 100, agent: 0, cut: 0, partition: 0, controller: 0, drift: 0 }),
    ("partition", Mix { power: 0, agent: 0, cut: 30, partition: 70, controller: 0, drift: 5 }),
    ("controllers", Mix { power: 10, agent: 20, cut: 10, partition: 0, controller: 60, drift: 0 }),
    ("everything", Mix { power: 25, agent: 15, cut: 15, partition: 25, controller: 20, drift: 5 }),
];

#[derive(Debug, Clone)]
pub struct Plan {
    pub hosts: usize,
    pub servers: usize,
    pub seed: u64,
    pub mix: Mix,
    /// How long things go on failing.
    pub lasts: Duration,
}

/// What came of a storm.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    pub failures: usize,
    pub failovers: usize,
    pub refused: usize,
    pub revision: u64,
    /// Those that servers run with at the end, and have run with on more than one host.
    pub volumes: usize,
    pub moved_volumes: usize,
    /// Broken promises, with the time each was seen.
    pub broken: Vec<String>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} failures, {} failovers, revision {}", self.failures, self.failovers, self.revision)?;
        write!(f, ", {} volumes in use, {} moved", self.volumes, self.moved_volumes)?;
        self.broken.iter().try_for_each(|broken| write!(f, "\n  BROKEN {broken}"))
    }
}

const STEP: Duration = Duration::from_millis(40);
/// Silence, lease, a placement, two dials: after this nothing may still wait for the end of a failure.
const CALM: Duration = Duration::from_secs(90);

struct Rack {
    machine: Machine,
    wire: watch::Sender<Wire>,
    agent: Option<Task>,
    guard: Option<Task>,
}

struct Storm {
    plan: Plan,
    chance: Chance,
    began: Instant,
    store: Store,
    controller: Arc<Mutex<Option<ControllerProcess>>>,
    boxes: Vec<Rack>,
    storage: Storage,
    acknowledged: BTreeSet<Id<Server>>,
    outcome: Outcome,
}

/// Runs one storm within a runtime whose clock is paused.
pub async fn run(plan: Plan) -> Outcome {
    let store = Store::in_step(Arc::new(Simulated::new(plan.seed)));
    let mut storm = Storm {
        chance: Chance::new(plan.seed ^ 0x5eed),
        began: Instant::now(),
        controller: Arc::new(Mutex::new(Some(ControllerProcess::start(&store)))),
        boxes: Vec::new(),
        storage: Storage::default(),
        acknowledged: BTreeSet::new(),
        outcome: Outcome::default(),
        store,
        plan,
    };
    storm.rage().await;
    storm.outcome
}

/// Runs one storm in a runtime of its own.
pub fn run_alone(plan: Plan) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime starts");
    runtime.block_on(run(plan))
}

impl Storm {
    async fn rage(&mut self) {
        self.set_times().await;
        self.switch_on().await;
        let watcher = Watcher::start(self.boxes.iter().map(|one| one.machine.clone()).collect());
        self.create(self.plan.servers).await;
        self.settle("at the beginning").await;
        let end = Instant::now() + self.plan.lasts;
        while Instant::now() < end {
            let pause = Duration::from_millis(100 + self.chance.below(6_000));
            tokio::time::sleep(pause).await;
            self.fail().await;
            self.use_it().await;
        }
        self.mend();
        self.settle("after the storm").await;
        self.outcome.broken.extend(watcher.broken());
        self.check_books();
        self.outcome.failovers = self.store.view().count::<Failover>();
        (self.outcome.volumes, self.outcome.moved_volumes) = volumes::in_use(&self.store.view());
        self.outcome.revision = self.store.view().revision();
    }

    /// Leases longer than the silence, and shorter.
    async fn set_times(&mut self) {
        let (silence, lease) = (3_000 + self.chance.below(7_000), 3_000 + self.chance.below(9_000));
        if let Err(error) = self.store.transact(move |tx| availability::set(tx, Some(silence), Some(lease))).await {
            self.outcome.broken.push(error.to_string());
        }
    }

    async fn switch_on(&mut self) {
        for number in 1..=self.plan.hosts {
            let drift = self.chance.below(2 * self.plan.mix.drift + 1) as f64 - self.plan.mix.drift as f64;
            let machine = Machine::with_clock(cloud::machine(number).host, 1.0 + drift / 1000.0).on(&self.storage);
            let (wire, _) = watch::channel(Wire::Carries);
            self.boxes.push(Rack { machine, wire, agent: None, guard: None });
            self.power_on(number - 1);
        }
        let hosts = self.plan.hosts;
        let store = self.store.clone();
        let mut watch = store.watch();
        while store.view().all::<Host>().filter(|host| host.takes_servers()).count() < hosts {
            watch.next().await;
        }
        let first = self.boxes[0].machine.host.clone();
        if let Err(error) = store.transact(move |tx| volumes::create_pools(tx, &first)).await {
            self.outcome.broken.push(error.to_string());
        }
    }

    fn power_on(&mut self, number: usize) {
        let one = &mut self.boxes[number];
        one.guard.get_or_insert_with(|| Task::spawn(one.machine.clone().guard()));
        let controller = self.controller.clone();
        let agent = Agent { machine: one.machine.clone(), inventory: host::inventory(one.machine.host.as_str()), pace: STEP };
        let (host, wire) = (one.machine.host.clone(), one.wire.subscribe());
        let dial = move || {
            let controller = controller.lock().unwrap_or_else(|p| p.into_inner());
            let stream = controller.as_ref().and_then(|controller| wire::connect_over(controller, &host, wire.clone()));
            std::future::ready(stream.ok_or_else(|| Error::unavailable("nobody answers")))
        };
        one.agent = Some(Task::spawn(agent.run(dial)));
    }

    async fn create(&mut self, count: usize) {
        for _ in 0..count {
            let (ha, draw, number) = (self.chance.percent(60), self.chance.below(100), self.acknowledged.len());
            let made = self.store.transact(move |tx| {
                let id = volumes::create_server(tx, &format!("s{number}"), draw)?;
                tx.update(&id, |server: &mut Server| {
                    server.spec.availability = if ha { Availability::Ha } else { Availability::None };
                    server.spec.priority = i32::try_from(number % 3).unwrap_or(0);
                    Ok::<_, Error>(())
                })?;
                Ok::<_, Error>(id)
            });
            match made.await {
                Ok(id) => drop(self.acknowledged.insert(id)),
                Err(_) => self.outcome.refused += 1,
            }
        }
    }

    /// Somebody uses the cloud meanwhile.
    async fn use_it(&mut self) {
        if self.chance.percent(30) {
            self.create(1).await;
        }
        let picked = self.chance.below(self.acknowledged.len().max(1) as u64) as usize;
        let Some(id) = self.acknowledged.iter().nth(picked).cloned() else { return };
        let (draw, of_volumes) = (self.chance.below(100), self.chance.below(100));
        let changed = self.store.transact(move |tx| {
            volumes::use_it(tx, &id, of_volumes)?;
            let server = tx.require(&id)?;
            match (draw, server.spec.run) {
                (_, Run::Deleted) => Ok(None),
                (0..=9, _) => cloud::ask(tx, &id, Run::Deleted, Verb::Delete).map(|()| Some(id.clone())),
                (10..=19, Run::Running) => cloud::ask(tx, &id, Run::Stopped, Verb::Stop).map(|()| None),
                (20..=39, Run::Stopped) => cloud::ask(tx, &id, Run::Running, Verb::Start).map(|()| None),
                (40..=49, _) => tx
                    .update(&id, |server: &mut Server| {
                        // The dial turns while it runs.
                        let ha = server.spec.availability == Availability::Ha;
                        server.turn(if ha { Availability::None } else { Availability::Ha }, false);
                        Ok::<_, Error>(())
                    })
                    .map(|_| None),
                _ => Ok(None),
            }
        });
        if let Ok(Some(deleted)) = changed.await {
            self.acknowledged.remove(&deleted);
        }
    }

    async fn fail(&mut self) {
        let mix = self.plan.mix;
        let victim = self.chance.below(self.boxes.len() as u64) as usize;
        let draw = self.chance.below(100);
        let until = |limit: u64| draw < limit;
        self.outcome.failures += 1;
        if until(mix.power) {
            let one = &mut self.boxes[victim];
            (one.agent, one.guard) = (None, None);
            one.machine.power_off();
        } else if until(mix.power + mix.agent) {
            self.boxes[victim].agent = None;
        } else if until(mix.power + mix.agent + mix.cut) {
            self.boxes[victim].wire.send_replace(Wire::Cut);
        } else if until(mix.power + mix.agent + mix.cut + mix.partition) {
            self.boxes[victim].wire.send_replace(Wire::Holds);
        } else if until(mix.power + mix.agent + mix.cut + mix.partition + mix.controller) {
            self.lock_controller().take();
        } else {
            self.outcome.failures -= 1;
        }
        // What failed before comes back, one thing at a time.
        let healed = self.chance.below(self.boxes.len() as u64) as usize;
        if self.chance.percent(70) && healed != victim {
            self.heal(healed);
        }
        if self.chance.percent(60) {
            self.revive();
        }
    }

    fn lock_controller(&self) -> std::sync::MutexGuard<'_, Option<ControllerProcess>> {
        self.controller.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn revive(&self) {
        self.lock_controller().get_or_insert_with(|| ControllerProcess::start(&self.store));
    }

    fn heal(&mut self, number: usize) {
        self.boxes[number].wire.send_replace(Wire::Carries);
        if self.boxes[number].agent.is_none() {
            self.power_on(number);
        }
    }

    fn mend(&mut self) {
        self.revive();
        (0..self.boxes.len()).for_each(|number| self.heal(number));
    }

    /// After a calm time nothing waits.
    async fn settle(&mut self, when: &str) {
        let end = Instant::now() + CALM;
        loop {
            let unsettled = self.unsettled();
            if unsettled.is_empty() {
                return;
            }
            if Instant::now() >= end {
                let at = self.began.elapsed();
                self.outcome.broken.extend(unsettled.into_iter().map(|what| format!("{when}, at {at:?}: {what}")));
                return;
            }
            tokio::time::sleep(STEP).await;
        }
    }

    /// What is not as wanted, in words.
    fn unsettled(&self) -> Vec<String> {
        let view = self.store.view();
        let running: BTreeMap<Id<Server>, usize> = self.running();
        let mut wrong = Vec::new();
        for id in &self.acknowledged {
            let Some(server) = view.get(id) else {
                wrong.push(format!("the acknowledged server {id} is lost"));
                continue;
            };
            let count = running.get(id).copied().unwrap_or(0);
            if server.status.host.is_none() && server.status.fault.is_some() {
                // There was no host for it when it was asked for, and its owner was told.
                continue;
            }
            match server.spec.run {
                Run::Running if count != 1 || !server.is_settled() => {
                    let (host, phase) = (&server.status.host, &server.status.observed.phase);
                    wrong.push(format!(
                        "server {id} should run once, runs {count} times; host {host:?}, {phase:?}, {:?}",
                        server.status.fault
                    ));
                }
                Run::Stopped if count != 0 || !matches!(server.status.observed.phase, Phase::Stopped(_)) => {
                    wrong.push(format!("server {id} should be off, runs {count} times"));
                }
                _ => {}
            }
        }
        wrong.extend(
            view.all::<Server>().filter(|s| s.spec.run == Run::Deleted && s.is_live()).map(|s| format!("{} is not gone yet", s.meta.id)),
        );
        wrong.extend(view.all::<Host>().filter(|h| h.fence.is_some()).map(|h| format!("host {} is still fenced", h.meta.id)));
        wrong.extend(view.all::<Failover>().filter(|f| f.is_open()).map(|f| format!("failover {} is open", f.meta.id)));
        wrong.extend(volumes::unsettled(&view, &self.storage));
        wrong
    }

    fn running(&self) -> BTreeMap<Id<Server>, usize> {
        let mut running = BTreeMap::new();
        for one in &self.boxes {
            for (id, instance) in one.machine.servers() {
                *running.entry(id).or_default() += usize::from(instance.is_running());
            }
        }
        running
    }

    /// The store's sums are those of its documents.
    fn check_books(&mut self) {
        let view = self.store.view();
        for host in view.all::<Host>() {
            let id = host.meta.id.as_str();
            let servers = view.by_index::<Server>("host", id);
            let memory: i64 = servers.map(|server| server.spec.launch.flavor.ram_mib as i64).sum();
            if memory != view.tally("MEMORY_MB", id) {
                self.outcome.broken.push(format!("host {id} is charged {} MiB for servers of {memory}", view.tally("MEMORY_MB", id)));
            }
        }
    }
}
