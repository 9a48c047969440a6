//! `unkai sim`: storms in a simulated cloud, from seeds.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use unkai_sim::storm::{self, Outcome, PROMISES, Plan, mix};

use crate::cli::duration;

#[derive(Args)]
pub struct SimArgs {
    /// The storms by name.
    #[arg(long)]
    list: bool,
    /// Which storm; `--list` names them.
    #[arg(long, default_value = "everything")]
    storm: String,
    /// Everything that is drawn comes from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// So many seeds, from that one on.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=1000))]
    hosts: u64,
    /// Servers at the beginning; more are made and deleted meanwhile. Two for each host by default.
    #[arg(long)]
    servers: Option<u64>,
    /// For how long things go on failing, on the simulated clock.
    #[arg(long, default_value = "120s", value_parser = duration)]
    lasts: Duration,
}

pub fn run(args: &SimArgs) -> Result<()> {
    if args.list {
        list();
        return Ok(());
    }
    let kind = mix::find(&args.storm).with_context(|| format!("there is no storm `{}`; `unkai sim --list` names them", args.storm))?;
    let servers = args.servers.unwrap_or(2 * args.hosts);
    let plan = |seed| Plan { hosts: args.hosts as usize, servers: servers as usize, seed, mix: kind.mix, lasts: args.lasts };
    println!("storm {}: {}", kind.name, kind.about);
    println!("{} hosts, {servers} servers, {} controllers, {} s", args.hosts, kind.mix.controllers, args.lasts.as_secs());
    let last = args.seed.checked_add(args.seeds - 1).context("the last seed is too large")?;
    let began = Instant::now();
    let sum = run_all(args.seed, last, &plan)?;
    println!("invariants, all checked in every seed:");
    PROMISES.iter().for_each(|promise| println!("  {promise}"));
    println!(
        "{} seeds in {:.1} s: {} failures, {} failovers, {} servers made, {} writes, {:.0} s of virtual time",
        args.seeds,
        began.elapsed().as_secs_f64(),
        sum.failures,
        sum.failovers,
        sum.created,
        sum.revision,
        sum.virtual_time.as_secs_f64()
    );
    if sum.broken.is_empty() {
        return Ok(());
    }
    let seeds: Vec<_> = sum.broken.iter().map(String::as_str).collect();
    bail!("{} of {} seeds broke an invariant: {}", seeds.len(), args.seeds, seeds.join(", "))
}

fn list() {
    for kind in mix::KINDS {
        println!("{:12} {}", kind.name, kind.about);
    }
}

/// Runs the seeds on as many threads as there are processors, and shows each in order as soon as it can be. The sum names in `broken` the
/// seeds that broke something.
fn run_all(first: u64, last: u64, plan: &(impl Fn(u64) -> Plan + Sync)) -> Result<Outcome> {
    let next = AtomicU64::new(first);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (done, results) = channel();
    std::thread::scope(|scope| {
        for _ in 0..threads.min((last - first + 1) as usize) {
            let (next, done) = (&next, done.clone());
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > last || seed < first {
                        return;
                    }
                    let began = Instant::now();
                    let outcome = storm::run_alone(plan(seed));
                    if done.send((seed, outcome, began.elapsed())).is_err() {
                        return;
                    }
                }
            });
        }
        drop(done);
        show(first, &results, plan)
    })
}

fn show(first: u64, results: &std::sync::mpsc::Receiver<(u64, Outcome, Duration)>, plan: &impl Fn(u64) -> Plan) -> Result<Outcome> {
    let (mut sum, mut early, mut due) = (Outcome::default(), BTreeMap::new(), first);
    for (seed, outcome, took) in results {
        early.insert(seed, (outcome, took));
        while let Some((outcome, took)) = early.remove(&due) {
            println!("seed {due}: {outcome}, {:.2} s", took.as_secs_f64());
            match outcome.broken.first() {
                None => println!("seed {due}: all well"),
                Some(broken) => {
                    println!("seed {due}: BROKEN {broken}");
                    outcome.broken.iter().skip(1).for_each(|more| println!("  and {more}"));
                    println!("  again: {}", command(&plan(due)));
                    sum.broken.push(due.to_string());
                }
            }
            sum.failures += outcome.failures;
            sum.failovers += outcome.failovers;
            sum.created += outcome.created;
            sum.revision += outcome.revision;
            sum.virtual_time += outcome.virtual_time;
            due += 1;
        }
    }
    // A thread that panicked has said so itself; its seed is missing.
    if early.is_empty() { Ok(sum) } else { bail!("seed {due} came to no end: {}", command(&plan(due))) }
}

/// What runs this seed again.
fn command(plan: &Plan) -> String {
    let name = mix::KINDS.iter().find(|kind| kind.mix == plan.mix).map_or("everything", |kind| kind.name);
    let (hosts, servers, lasts, seed) = (plan.hosts, plan.servers, plan.lasts.as_secs(), plan.seed);
    format!("unkai sim --storm {name} --hosts {hosts} --servers {servers} --lasts {lasts}s --seed {seed}")
}
