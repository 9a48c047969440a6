//! One controller with thousands of hosts: the real store (in memory), link, control loops and API routes in this process, and simulated
//! hosts in another one, over sockets without TLS.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use axum::Router;
use axum::body::Body;
use http::{Request, Response};
use http_body_util::BodyExt;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixListener;
use tokio::process::{Child, ChildStdin, Command};
use tower::ServiceExt;
use unkai_control::Controller;
use unkai_control::placement::{self, Order};
use unkai_link::server::LinkServer;
use unkai_model::compute::{Availability, Failover, Host, Run, Server, Verb};
use unkai_model::identity::Project;
use unkai_model::{Error, Id};
use unkai_openstack::{Cloud, Parts};
use unkai_sim::cloud::{self, NoImages};
use unkai_sim::fleet;
use unkai_store::{Store, System, Tx, View};

use super::figures::{Meter, Times, memory};
use crate::bridge::LinkTunnels;
use crate::controller::routes_with;

const PASSWORD: &str = "simulated";
const URL: &str = "https://simulated.invalid";
/// Servers are spread over so many projects.
const PROJECTS: usize = 100;
/// Servers asked for in one transaction.
const TOGETHER: usize = 200;
const STEADY: Duration = Duration::from_secs(30);
const CHURN: Duration = Duration::from_secs(20);
/// Changes of servers asked for each second while reports are measured.
const CHANGES: usize = 100;
const DECISIONS: usize = 5_000;
const PAGES: usize = 1_000;
/// Nothing here takes longer.
const PATIENCE: Duration = Duration::from_secs(900);

/// The other process.
pub fn fleet(socket: &Path, hosts: usize) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting a runtime")?;
    let commands = tokio::io::BufReader::new(tokio::io::stdin());
    runtime.block_on(fleet::run(socket, hosts, commands)).context("running the hosts")
}

pub fn run(hosts: usize, servers: usize) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting a runtime")?;
    let dir = std::env::temp_dir().join(format!("unkai-sim-{}", std::process::id()));
    std::fs::create_dir(&dir).with_context(|| format!("making `{}`", dir.display()))?;
    let measured = runtime.block_on(measure(&dir, hosts, servers));
    // Only a socket and what the image service keeps.
    let removed = std::fs::remove_dir_all(&dir).with_context(|| format!("removing `{}`", dir.display()));
    measured.and(removed)
}

async fn measure(dir: &Path, hosts: usize, servers: usize) -> Result<()> {
    println!("one controller, {hosts} hosts, {servers} servers in {PROJECTS} projects, all of them highly available");
    let mut bench = Bench::start(dir, hosts).await?;
    bench.create(servers).await?;
    bench.steady().await?;
    bench.churn().await?;
    bench.decisions().await?;
    bench.pages().await?;
    bench.lose_hosts().await?;
    let (_, most) = memory()?;
    println!("memory at most: {most} MiB");
    Ok(())
}

struct Bench {
    store: Store,
    api: Router,
    hosts: usize,
    projects: Vec<Id<Project>>,
    commands: ChildStdin,
    _fleet: Child,
}

impl Bench {
    async fn start(dir: &Path, hosts: usize) -> Result<Self> {
        let store = Store::in_memory(Arc::new(System));
        let (api, projects) = api(&store, dir).await?;
        let link = LinkServer::new(store.clone(), Controller::new(store.clone(), Arc::new(NoImages)));
        tokio::spawn(unkai_control::run(store.clone(), link.clone()));
        let socket = dir.join("link");
        let listener = UnixListener::bind(&socket).with_context(|| format!("listening at `{}`", socket.display()))?;
        tokio::spawn(accept(listener, link));
        let meter = Meter::start()?;
        let program = std::env::current_exe().context("finding this program")?;
        let mut fleet = Command::new(program)
            .args(["sim", "--hosts", &hosts.to_string(), "--fleet"])
            .arg(&socket)
            .stdin(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("starting the hosts' process")?;
        let commands = fleet.stdin.take().context("the hosts' process has no input")?;
        until("all hosts are up", || store.view().all::<Host>().filter(|host| host.takes_servers()).count() == hosts).await?;
        say("all hosts connected", &meter)?;
        Ok(Bench { store, api, hosts, projects, commands, _fleet: fleet })
    }

    async fn create(&self, servers: usize) -> Result<()> {
        let meter = Meter::start()?;
        for first in (0..servers).step_by(TOGETHER) {
            let projects = self.projects.clone();
            let body =
                move |tx: &mut Tx| (first..servers.min(first + TOGETHER)).try_for_each(|number| create(tx, &projects, number).map(drop));
            self.store.transact(body).await.context("making servers")?;
        }
        say("servers accepted", &meter)?;
        until("all servers run", || all_run(&self.store.view())).await?;
        say("servers accepted, placed, and running by their hosts' reports", &meter)
    }

    /// Nothing but signs of life: every host asks for its lease every two seconds.
    async fn steady(&self) -> Result<()> {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let (before, meter) = (self.store.view().revision(), Meter::start()?);
        tokio::time::sleep(STEADY).await;
        let changes = self.store.view().revision() - before;
        say(&format!("steady: {} heartbeats a second, {changes} writes", self.hosts / 2), &meter)
    }

    /// Servers stop and start, which their hosts report.
    async fn churn(&self) -> Result<()> {
        let ids: Vec<Id<Server>> = self.store.view().all::<Server>().map(|server| server.meta.id.clone()).collect();
        let meter = Meter::start()?;
        let mut tick = tokio::time::interval(Duration::from_secs(1) / CHANGES as u32);
        // Far apart, so that each is of another host; twice around, so that what stopped starts again.
        let half = CHANGES * CHURN.as_secs() as usize / 2;
        for number in 0..2 * half {
            tick.tick().await;
            let id = ids[(number % half) * 7919 % ids.len()].clone();
            self.store.transact(move |tx| turn(tx, &id)).await.context("changing a server")?;
        }
        say(&format!("busy: {} heartbeats and {CHANGES} changes of servers a second, reported", self.hosts / 2), &meter)?;
        until("all servers run again", || all_run(&self.store.view())).await
    }

    /// One decision a transaction, as when servers are asked for one by one.
    async fn decisions(&self) -> Result<()> {
        let (order, mut times) = (Arc::new(Order::default()), Times::default());
        let (meter, before) = (Meter::start()?, self.store.view().count::<Server>());
        for number in 0..DECISIONS {
            let (order, projects) = (order.clone(), self.projects.clone());
            let body = move |tx: &mut Tx| {
                let id = create(tx, &projects, before + number)?;
                let began = Instant::now();
                placement::place(tx, &order, std::slice::from_ref(&id))?;
                let took = began.elapsed();
                ensure_placed(tx, &id)?;
                Ok::<_, Error>(took)
            };
            times.add(self.store.transact(body).await.context("placing a server")?);
        }
        let (passed, _) = meter.read()?;
        let rate = DECISIONS as f64 / passed.as_secs_f64();
        println!("placement, one server a transaction: {rate:.0}/s, decided and charged in {}", times.summary());
        let view = self.store.view();
        let (mut times, order) = (Times::default(), Order::default());
        order.lock().refresh(&view, true);
        let began = Instant::now();
        for server in view.all::<Server>().take(DECISIONS) {
            let one = Instant::now();
            placement::find(&view, &order.lock(), &server).map_err(|none| anyhow::anyhow!("{none}"))?;
            times.add(one.elapsed());
        }
        println!("placement, decisions alone: {:.0}/s, {}", DECISIONS as f64 / began.elapsed().as_secs_f64(), times.summary());
        until("all servers run", || all_run(&self.store.view())).await
    }

    /// Pages of 100 through the routes, the token checked each time, beside the heartbeats.
    async fn pages(&self) -> Result<()> {
        let token = self.token().await?;
        let own: Vec<_> = self.store.view().by_index::<Server>("project", self.projects[0].as_str()).map(|s| s.meta.id.clone()).collect();
        let all: Vec<_> = self.store.view().all::<Server>().map(|server| server.meta.id.clone()).collect();
        for (what, query, ids) in [("of one project", "", &own), ("of the whole cloud", "&all_tenants=1", &all)] {
            for (path, name) in [("servers", "ids and names"), ("servers/detail", "details")] {
                let mut times = Times::default();
                let count = if ids.len() > 10_000 { PAGES / 10 } else { PAGES };
                for number in 0..count {
                    let marker = &ids[number * 7919 % ids.len()];
                    let began = Instant::now();
                    let answer = self.get(&token, &format!("/compute/v2.1/{path}?limit=100&marker={marker}{query}")).await?;
                    times.add(began.elapsed());
                    ensure!(answer.starts_with(b"{\"servers\":["), "a page is {}", String::from_utf8_lossy(&answer));
                }
                println!("list, page of 100, {name}, {} servers {what}: {}", ids.len(), times.summary());
            }
        }
        Ok(())
    }

    async fn token(&self) -> Result<String> {
        let domain = json!({"id": "default"});
        let user = json!({"name": "admin", "domain": domain, "password": PASSWORD});
        let body = json!({"auth": {
            "identity": {"methods": ["password"], "password": {"user": user}},
            "scope": {"project": {"name": "admin", "domain": domain}},
        }});
        let request = Request::post("/identity/v3/auth/tokens").header("content-type", "application/json");
        let answer = self.call(request.body(Body::from(body.to_string()))?).await?;
        ensure!(answer.status() == 201, "logging in: {}", answer.status());
        let token = answer.headers().get("x-subject-token").context("an answer without a token")?;
        Ok(token.to_str().context("a token")?.to_owned())
    }

    async fn get(&self, token: &str, path: &str) -> Result<bytes::Bytes> {
        let answer = self.call(Request::get(path).header("x-auth-token", token).body(Body::empty())?).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await.context("reading an answer")?.to_bytes();
        ensure!(status == 200, "{path}: {status}: {}", String::from_utf8_lossy(&body));
        Ok(body)
    }

    async fn call(&self, request: Request<Body>) -> Result<Response<Body>> {
        self.api.clone().oneshot(request).await.context("calling the API")
    }

    /// As many hosts die at once as have 1,000 servers.
    async fn lose_hosts(&mut self) -> Result<()> {
        let view = self.store.view();
        let per_host = view.count::<Server>().div_ceil(self.hosts).max(1);
        let lost = (1_000 / per_host).clamp(1, self.hosts / 2);
        let there = |number| view.by_index::<Server>("host", cloud::machine(number).host.as_str()).count();
        let servers: usize = (1..=lost).map(there).sum();
        let meter = Meter::start()?;
        self.commands.write_all(format!("kill 1 {lost}\n").as_bytes()).await.context("telling the hosts' process")?;
        until("what ran there runs elsewhere", || {
            let view = self.store.view();
            view.all::<Failover>().filter(|failover| !failover.is_open()).count() >= servers && all_run(&view)
        })
        .await?;
        say(&format!("{lost} hosts lost: noticed, fenced, their leases over, and their {servers} servers running elsewhere"), &meter)?;
        let mut times = Times::default();
        for failover in self.store.view().all::<Failover>() {
            let booted = failover.booted.context("a failover that is over has no end")?;
            times.add(booted.duration_since(failover.fenced).unsigned_abs());
        }
        println!("each of them running after nothing of it could run on its lost host: {}", times.summary());
        Ok(())
    }
}

/// The routes of all dialects, and the projects.
async fn api(store: &Store, dir: &Path) -> Result<(Router, Vec<Id<Project>>)> {
    let identity = Arc::new(unkai_identity::Identity::new(store));
    let cloud = Cloud::new(Parts {
        store: store.clone(),
        auth: identity.clone(),
        tunnels: Arc::new(LinkTunnels::default()),
        url: URL.into(),
        region: "RegionOne".into(),
        state_dir: dir.to_path_buf(),
    });
    let options = unkai_identity::BootstrapOptions { admin_password: Some(PASSWORD.into()), region: "RegionOne".into(), url: URL.into() };
    unkai_identity::bootstrap(store, options).await?;
    unkai_compute::admin::bootstrap(store).await?;
    store.transact(unkai_control::volume::operate::standard_type).await?;
    let projects = store.transact(|tx| {
        let admin = tx.all::<Project>().find(|project| project.meta.name == "admin");
        let admin = admin.ok_or_else(|| Error::internal("there is no project admin"))?;
        let domain = admin.domain.clone().ok_or_else(|| Error::internal("the project admin is in no domain"))?;
        let mut projects = vec![admin.meta.id.clone()];
        for number in 1..PROJECTS {
            let id: Id<Project> = tx.new_hex_id();
            projects.push(tx.insert(Project::new(id, &format!("p{number}"), &domain, &domain))?.meta.id.clone());
        }
        Ok::<_, Error>(projects)
    });
    let projects = projects.await.context("making projects")?;
    let routes = routes_with(&cloud, unkai_identity::routes_with(identity), unkai_image::Settings::default());
    Ok((routes.into_router(cloud), projects))
}

async fn accept(listener: UnixListener, link: Arc<LinkServer>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let link = link.clone();
        tokio::spawn(async move {
            if let Ok(host) = fleet::name(&mut stream).await {
                link.serve(stream, host).await;
            }
        });
    }
}

fn create(tx: &mut Tx, projects: &[Id<Project>], number: usize) -> Result<Id<Server>, Error> {
    let id = cloud::create_server(tx, &format!("server-{number}"))?;
    tx.update(&id, |server: &mut Server| {
        server.meta.project = Some(projects[number % projects.len()].clone());
        server.spec.availability = Availability::Ha;
        Ok::<_, Error>(())
    })?;
    Ok(id)
}

fn ensure_placed(tx: &Tx, id: &Id<Server>) -> Result<(), Error> {
    match &tx.require(id)?.status.host {
        Some(_) => Ok(()),
        None => Err(Error::internal("a server was not placed")),
    }
}

/// What runs is to stop, what is off is to run.
fn turn(tx: &mut Tx, id: &Id<Server>) -> Result<(), Error> {
    match tx.require(id)?.spec.run {
        Run::Running => cloud::ask(tx, id, Run::Stopped, Verb::Stop),
        _ => cloud::ask(tx, id, Run::Running, Verb::Start),
    }
}

fn all_run(view: &View) -> bool {
    view.all::<Server>().all(|server| server.status.host.is_some() && server.is_settled())
}

async fn until(what: &str, mut so: impl FnMut() -> bool) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while !so() {
        if Instant::now() > end {
            bail!("waited {} s in vain until {what}", PATIENCE.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    Ok(())
}

fn say(what: &str, meter: &Meter) -> Result<()> {
    let ((passed, processor), (now, _)) = (meter.read()?, memory()?);
    let share = 100.0 * processor.as_secs_f64() / passed.as_secs_f64();
    println!(
        "{what}: {:.1} s, {:.1} s of processor time ({share:.0} % of one core), memory {now} MiB",
        passed.as_secs_f64(),
        processor.as_secs_f64()
    );
    Ok(())
}
