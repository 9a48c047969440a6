//! `unkai up`: controller and agent in one process.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{ControllerOnly, UpArgs};
use crate::process::{Running, detach};
use crate::state::StateDir;
use crate::{controller, trial};

pub fn run(args: UpArgs) -> Result<()> {
    let state = StateDir::create(&args.controller.state)?;
    if args.runs_servers() {
        state.require_searchable()?;
    }
    if let Some(running) = Running::read(&state.pid()) {
        bail!("the cloud in `{}` is up already, as process {}", state.path().display(), running.pid);
    }
    if args.controller.detach {
        return detach(&state.log());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the async runtime")?;
    runtime.block_on(serve(state, args))
}

/// `unkai controller`: the same without an agent.
pub fn run_controller(args: ControllerOnly) -> Result<()> {
    let external = args.external.unwrap_or_default();
    run(UpArgs {
        controller: args.controller,
        netns: None,
        underlay: None,
        no_agent: true,
        simulated_hosts: 0,
        external,
        external_device: None,
    })
}

async fn serve(state: StateDir, args: UpArgs) -> Result<()> {
    Running::me()?.write(&state.pid())?;
    let running = controller::start(&state, &args.controller).await?;
    if !args.external.is_empty() {
        trial::external_network(&running.store, &args.external).await?;
    }
    if args.runs_servers() {
        trial::start_agent(&state, &running, &args).await?;
    }
    trial::start_simulated(&running, args.simulated_hosts).await?;
    println!("ready {}", running.url);
    std::io::stdout().flush().context("printing")?;
    asked_to_end().await?;
    tracing::info!("stopping; servers keep running");
    let _ = std::fs::remove_file(state.pid());
    let _ = std::fs::remove_file(state.socket());
    Ok(())
}

/// Returns when somebody wants this process to end.
pub async fn asked_to_end() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("waiting for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("waiting for signals")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// `unkai store migrate`: with the controllers stopped; servers run on meanwhile.
pub fn migrate_store(from: &str, to: &str) -> Result<()> {
    if let Some(path) = from.strip_prefix("sqlite:")
        && !Path::new(path).exists()
    {
        bail!("there is no store in `{path}`");
    }
    let (mut source, mut target) = (unkai_store::engine::from_url(from)?, unkai_store::engine::from_url(to)?);
    let findings = unkai_store::check(&mut *source)?;
    if let Some(finding) = findings.first() {
        bail!("the source has {} problems (`unkai store check` lists them), the first: {finding}", findings.len());
    }
    let migrated = unkai_store::migrate(&mut *source, &mut *target)?;
    let findings = unkai_store::check(&mut *target)?;
    if let Some(finding) = findings.first() {
        bail!("the copy is not sound: {finding}");
    }
    println!("{} documents at revision {}", migrated.documents, migrated.revision);
    Ok(())
}

/// `unkai store check`.
pub fn check_store(dir: &Path) -> Result<()> {
    let state = StateDir::at(dir);
    if !state.store().exists() {
        bail!("there is no store in `{}`", dir.display());
    }
    let mut engine = unkai_store::engine::sqlite::Sqlite::open(&state.store())?;
    let findings = unkai_store::check(&mut engine)?;
    for finding in &findings {
        println!("{} {}: {}", finding.kind, finding.id, finding.problem);
    }
    if findings.is_empty() {
        println!("the store is sound");
        return Ok(());
    }
    bail!("{} problems found", findings.len())
}

/// `unkai image build`: the recipes are scripts beside the sources.
pub fn build_image(name: &str, out: &Path) -> Result<()> {
    let recipe = Path::new("images").join(name).join("build.sh");
    if name.contains(['/', '.']) || !recipe.exists() {
        bail!("there is no recipe `{}`; run this in the source tree", recipe.display());
    }
    let status =
        std::process::Command::new(&recipe).arg(out.join(name)).status().with_context(|| format!("running `{}`", recipe.display()))?;
    if !status.success() {
        bail!("`{}` failed ({status})", recipe.display());
    }
    Ok(())
}
