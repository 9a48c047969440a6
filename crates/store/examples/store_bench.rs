//! Figures of a store: durable transactions per second, pages, memory and start-up.
//!
//!     cargo run --release -p unkai-store --example store_bench -- sqlite:/path/to/new.db [documents]
//!     cargo run --release -p unkai-store --example store_bench -- postgres://user@host/empty_database [documents]
//!
//! The store must be new or empty. Documents resemble ports: about 700 bytes, two indexes, two claims, two sums, one reference.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use unkai_model::{Derived, Error, Id, Kind, Meta, meta_accessors};
use unkai_store::{Registry, Store, System, Tx, View};

const WRITERS: usize = 64;
const SECONDS: u64 = 5;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Network {
    meta: Meta<Network>,
}

impl Kind for Network {
    const NAME: &'static str = "bench_network";
    meta_accessors!();
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Port {
    meta: Meta<Port>,
    network: Id<Network>,
    device: String,
    mac: String,
    address: String,
    groups: Vec<String>,
    description: String,
    up: bool,
}

impl Kind for Port {
    const NAME: &'static str = "bench_port";
    meta_accessors!();
    fn derive(&self, d: &mut Derived) {
        d.index("network", self.network.as_str());
        d.index("device", &self.device);
        d.claim("mac", &self.mac);
        d.claim("address", &self.address);
        d.tally("ports", "project", 1);
        d.tally("addresses", self.network.as_str(), 1);
        d.refers(&self.network);
    }
}

fn network() -> Id<Network> {
    Id::new("3f0f24a5-9b2a-4a39-9d0b-9a3c35c8a8c1")
}

fn port(tx: &Tx, n: usize) -> Port {
    Port {
        meta: Meta::new(tx.new_id::<Port>()).named(format!("port-{n}")).owned_by("8c5d1c9f5e9b4f6f9a0d4d3b2a1c0e9f"),
        network: network(),
        device: format!("9f1b5b7e-0000-4000-8000-{:012x}", n / 2),
        mac: format!("fa:16:{:02x}:{:02x}:{:02x}:{:02x}", n >> 24 & 255, n >> 16 & 255, n >> 8 & 255, n & 255),
        address: format!("network/10.{}.{}.{}", n >> 16 & 255, n >> 8 & 255, n & 255),
        groups: vec!["4e1cfb8c-1c52-4d6e-a9b0-0a6f3f2f9f10".into(), "b5f5c3f1-7a0a-4cf2-8a2c-2f0b9d8f7e6d".into()],
        description: "a port of about the size that ports have; ".repeat(5),
        up: false,
    }
}

fn open(url: &str) -> Store {
    let engine = unkai_store::engine::from_url(url).unwrap_or_else(|e| panic!("{e}"));
    let registry = Registry::empty().with::<Network>().with::<Port>();
    Store::open_with(engine, registry, Arc::new(System)).unwrap_or_else(|e| panic!("{e}"))
}

/// Resident bytes of this process.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// CPU time of this process, all threads.
fn cpu() -> Duration {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).expect("a process may ask this about itself");
    let total = usage.user_time() + usage.system_time();
    Duration::from_micros((total.tv_sec() * 1_000_000 + total.tv_usec()) as u64)
}

fn summary(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    format!("p50 {:.2?}  p99 {:.2?}  max {:.2?}", at(0.5), at(0.99), at(1.0))
}

/// `writers` tasks, each with one transaction at a time.
async fn throughput<F>(store: &Store, name: &str, writers: usize, body: F)
where
    F: Fn(&mut Tx, usize) -> Result<(), Error> + Clone + Send + Sync + 'static,
{
    let (started, cpu_before) = (Instant::now(), cpu());
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..writers {
        let (store, body) = (store.clone(), body.clone());
        tasks.spawn(async move {
            let mut times = Vec::new();
            let mut n = writer;
            while started.elapsed() < Duration::from_secs(SECONDS) {
                let (body, begun) = (body.clone(), Instant::now());
                store.transact(move |tx: &mut Tx| body(tx, n)).await.unwrap_or_else(|e| panic!("{e}"));
                times.push(begun.elapsed());
                n += writers;
            }
            times
        });
    }
    let times: Vec<Duration> = tasks.join_all().await.into_iter().flatten().collect();
    let (rate, each) = (times.len() as f64 / started.elapsed().as_secs_f64(), (cpu() - cpu_before) / times.len() as u32);
    println!("{name:<44} {rate:>8.0}/s  {}  CPU {each:.1?} each", summary(times));
}

/// Pages of 100 from random places, as an API would make them: an index, a marker, and what it renders.
fn pages(name: &str, view: impl Fn() -> View, ids: &[Id<Port>]) {
    let mut place = 12345usize;
    let mut times = Vec::new();
    for _ in 0..2000 {
        place = place.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let marker = &ids[(place >> 20) % ids.len()];
        let begun = Instant::now();
        let view = view();
        let page: Vec<Arc<Port>> = view.by_index_after("network", network().as_str(), marker).take(100).collect();
        times.push(begun.elapsed());
        assert!(page.iter().all(|port| port.meta.id > *marker));
    }
    println!("{name:<44} {}", summary(times));
}

async fn fill(store: &Store, documents: usize) {
    let begun = Instant::now();
    for portion in 0..documents.div_ceil(1000) {
        let range = portion * 1000..documents.min((portion + 1) * 1000);
        let body = move |tx: &mut Tx| range.clone().try_for_each(|n| tx.insert(port(tx, n + 1_000_000)).map(drop));
        store.transact(body).await.unwrap_or_else(|e| panic!("{e}"));
    }
    println!("{:<44} {:>8.0}/s", format!("insert {documents} documents, 1,000 at once"), documents as f64 / begun.elapsed().as_secs_f64());
}

async fn prepare(url: &str, documents: usize) {
    let store = open(url);
    assert_eq!(store.view().revision(), 0, "the store must be empty");
    store.transact(|tx: &mut Tx| tx.insert(Network { meta: Meta::new(network()) }).map(drop)).await.unwrap_or_else(|e| panic!("{e}"));
    fill(&store, documents).await;
    store.stop().await;
}

async fn measure(url: &str, documents: usize) {
    let (before, begun) = (resident(), Instant::now());
    let store = open(url);
    let took = begun.elapsed();
    let held = resident().saturating_sub(before) / documents as u64;
    println!("{:<44} {took:.2?}, {held} bytes of memory each", format!("open with {documents} documents"));

    let ids: Vec<Id<Port>> = store.view().all::<Port>().map(|port| port.meta.id.clone()).collect();
    pages(&format!("page of 100 of {documents}"), || store.view(), &ids);
    let offset = 2_000_000;
    throughput(&store, "insert, 1 writer", 1, move |tx, n| tx.insert(port(tx, offset + n)).map(drop)).await;
    throughput(&store, "insert, 64 writers", WRITERS, move |tx, n| tx.insert(port(tx, 4_000_000 + n)).map(drop)).await;
    let targets = Arc::new(ids.clone());
    let update = move |tx: &mut Tx, n: usize| {
        let flip = |port: &mut Port| -> Result<(), Error> {
            port.up = !port.up;
            Ok(())
        };
        tx.update(&targets[n * 7919 % targets.len()], flip).map(drop)
    };
    let done = Arc::new(AtomicBool::new(false));
    let reader = std::thread::spawn({
        let (store, done, ids) = (store.clone(), done.clone(), ids);
        move || {
            pages("page of 100, while 64 write", || store.view(), &ids);
            while !done.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    });
    throughput(&store, "update, 64 writers", WRITERS, update).await;
    done.store(true, Ordering::Relaxed);
    let _ = reader.join();
    let mut reads = Vec::new();
    for _ in 0..1000 {
        let begun = Instant::now();
        store.read().await.unwrap_or_else(|e| panic!("{e}"));
        reads.push(begun.elapsed());
    }
    println!("{:<44} {}", "read() with nothing new", summary(reads));
    store.stop().await;
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(url) = arguments.first() else {
        eprintln!("usage: store_bench URL [documents]");
        std::process::exit(2);
    };
    let documents = arguments.get(1).and_then(|n| n.parse().ok()).unwrap_or(100_000);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.unwrap_or_else(|e| panic!("starting the runtime: {e}"));
    if arguments.get(2).is_some_and(|phase| phase == "measure") {
        return runtime.block_on(measure(url, documents));
    }
    runtime.block_on(prepare(url, documents));
    // In a fresh process, so that memory is what opening and serving take.
    let program = std::env::current_exe().unwrap_or_else(|e| panic!("finding this program: {e}"));
    let status = std::process::Command::new(program).args([url, &documents.to_string(), "measure"]).status();
    std::process::exit(status.ok().and_then(|status| status.code()).unwrap_or(1));
}
