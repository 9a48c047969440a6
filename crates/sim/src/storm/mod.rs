//! Storms: a cloud with everything that can fail failing, from one seed, and the promises held against what happened.
//!
//! Real controllers, store and link; simulated machines. Machines lose power, agents die, wires are cut, hold everything back or lag,
//! controllers die, processes stand still, disks are slow, clocks drift ([`mix`]). While that goes on, and after it has stopped, the
//! [`PROMISES`] hold: a [`Watcher`] looks at all machines all the time, the rest is looked at in the calm afterwards.

mod failures;
pub mod mix;
mod ports;
mod promises;
mod volumes;
mod watcher;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use unkai_model::compute::{Availability, Failover, Host, Run, Server, Verb};
use unkai_model::{Error, Id};
use unkai_store::{Store, Tx};

use crate::cloud::{self, ControllerProcess, Neighbours, Task};
use crate::host::Machine;
use crate::pause::Gate;
use crate::source::{Chance, Simulated};
use crate::storage::Storage;
use crate::wire::Wire;
use mix::Mix;
pub use promises::PROMISES;
use watcher::Watcher;

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
    /// Asked for over the storm, and there at its end.
    pub created: usize,
    pub servers: usize,
    pub revision: u64,
    /// What the storm took on the simulated clock.
    pub virtual_time: Duration,
    /// Those that servers run with at the end, and have run with on more than one host.
    pub volumes: usize,
    pub moved_volumes: usize,
    /// Broken promises, with the time each was seen.
    pub broken: Vec<String>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} failures, {} failovers, {} servers made and {} left", self.failures, self.failovers, self.created, self.servers)?;
        write!(f, ", {} volumes in use, {} moved", self.volumes, self.moved_volumes)?;
        write!(f, ", {} writes, {:.0} s of virtual time", self.revision, self.virtual_time.as_secs_f64())
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
    agent_gate: Gate,
    guard_gate: Gate,
}

struct Storm {
    plan: Plan,
    chance: Chance,
    began: Instant,
    source: Arc<Simulated>,
    store: Store,
    controllers: Arc<Mutex<Vec<Option<ControllerProcess>>>>,
    boxes: Vec<Rack>,
    storage: Storage,
    /// Servers that must be there, at least at this generation.
    acknowledged: BTreeMap<Id<Server>, u64>,
    outcome: Outcome,
}

/// Runs one storm within a runtime whose clock is paused.
pub async fn run(plan: Plan) -> Outcome {
    let source = Arc::new(Simulated::new(plan.seed));
    let store = Store::in_step_with(source.clone(), Some(Arc::new(Neighbours::default())));
    let controllers = (0..plan.mix.controllers).map(|_| Some(ControllerProcess::start(&store))).collect();
    let mut storm = Storm {
        chance: Chance::new(plan.seed ^ 0x5eed),
        began: Instant::now(),
        controllers: Arc::new(Mutex::new(controllers)),
        source,
        boxes: Vec::new(),
        storage: Storage::default(),
        acknowledged: BTreeMap::new(),
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
        let watcher = Watcher::start(self.boxes.iter().map(|one| one.machine.clone()).collect(), self.store.clone());
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
        let view = self.store.view();
        self.outcome.failovers = view.count::<Failover>();
        self.outcome.servers = view.all::<Server>().filter(|server| server.is_live()).count();
        (self.outcome.volumes, self.outcome.moved_volumes) = volumes::in_use(&view);
        self.outcome.revision = view.revision();
        self.outcome.virtual_time = self.began.elapsed();
    }

    async fn switch_on(&mut self) {
        for number in 1..=self.plan.hosts {
            let machine = Machine::with_clock(cloud::machine(number).host, self.draw_pace()).on(&self.storage);
            let (wire, _) = watch::channel(Wire::Carries);
            let (agent_gate, guard_gate) = Default::default();
            self.boxes.push(Rack { machine, wire, agent: None, guard: None, agent_gate, guard_gate });
            self.power_on(number - 1);
        }
        let hosts = self.plan.hosts;
        let store = self.store.clone();
        let mut watch = store.watch();
        while store.view().all::<Host>().filter(|host| host.takes_servers()).count() < hosts {
            watch.next().await;
        }
        let first = self.boxes[0].machine.host.clone();
        let made = store.transact(move |tx| {
            volumes::create_pools(tx, &first)?;
            ports::create_network(tx)
        });
        if let Err(error) = made.await {
            self.outcome.broken.push(error.to_string());
        }
    }

    async fn create(&mut self, count: usize) {
        for _ in 0..count {
            let (ha, draw, number) = (self.chance.percent(60), self.chance.below(100), self.acknowledged.len());
            let port = self.chance.percent(50).then(|| self.chance.draw());
            let made = self.store.transact(move |tx| {
                let id = volumes::create_server(tx, &format!("s{number}"), draw)?;
                port.map_or(Ok(()), |draw| ports::create(tx, &id, draw))?;
                tx.update(&id, |server: &mut Server| {
                    server.spec.availability = if ha { Availability::Ha } else { Availability::None };
                    server.spec.priority = i32::try_from(number % 3).unwrap_or(0);
                    Ok::<_, Error>(())
                })?;
                let generation = tx.require(&id)?.meta.generation;
                Ok::<_, Error>((id, generation))
            });
            match made.await {
                Ok((id, generation)) => {
                    self.outcome.created += 1;
                    self.acknowledged.insert(id, generation);
                }
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
        let Some(id) = self.acknowledged.keys().nth(picked).cloned() else { return };
        let (draw, of_volumes, used) = (self.chance.below(100), self.chance.below(100), id.clone());
        let changed = self.store.transact(move |tx| {
            volumes::use_it(tx, &id, of_volumes)?;
            let server = tx.require(&id)?;
            match (draw, server.spec.run) {
                (_, Run::Deleted) => return Ok(None),
                (0..=9, _) => {
                    cloud::ask(tx, &id, Run::Deleted, Verb::Delete)?;
                    return Ok(None);
                }
                (10..=19, Run::Running) => cloud::ask(tx, &id, Run::Stopped, Verb::Stop)?,
                (20..=39, Run::Stopped) => cloud::ask(tx, &id, Run::Running, Verb::Start)?,
                (40..=49, _) => turn(tx, &id)?,
                _ => {}
            }
            Ok::<_, Error>(Some(tx.require(&id)?.meta.generation))
        });
        match changed.await {
            Ok(Some(generation)) => drop(self.acknowledged.insert(used, generation)),
            Ok(None) => drop(self.acknowledged.remove(&used)),
            Err(_) => self.outcome.refused += 1,
        }
    }
}

/// The dial turns while it runs.
fn turn(tx: &mut Tx, id: &Id<Server>) -> Result<(), Error> {
    let turn = |server: &mut Server| {
        let ha = server.spec.availability == Availability::Ha;
        server.turn(if ha { Availability::None } else { Availability::Ha }, false);
        Ok::<_, Error>(())
    };
    tx.update(id, turn).map(drop)
}
