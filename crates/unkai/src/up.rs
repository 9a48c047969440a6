//! `unkai up`: controller and agent in one process.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::UpArgs;
use crate::process::{Running, detach};
use crate::state::StateDir;
use crate::{controller, trial};

pub fn run(args: UpArgs) -> Result<()> {
    let state = StateDir::create(&args.state)?;
    if args.runs_servers() {
        state.require_searchable()?;
    }
    if let Some(running) = Running::read(&state.pid()) {
        bail!("the cloud in `{}` is up already, as process {}", state.path().display(), running.pid);
    }
    if args.detach {
        return detach(&state.log());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the async runtime")?;
    runtime.block_on(serve(state, args))
}

async fn serve(state: StateDir, args: UpArgs) -> Result<()> {
    Running::me()?.write(&state.pid())?;
    let images = unkai_image::Choices { download_from: args.web_download_from.clone(), ..unkai_image::Choices::default() };
    let images = unkai_image::Settings::new(images);
    let config = controller::Config { listen: args.listen, region: args.region.clone(), images };
    let running = controller::start(&state, config).await?;
    if !args.no_agent {
        trial::external_network(&running.store, &args.external).await?;
    }
    if args.runs_servers() {
        trial::start_agent(&state, &running, &args).await?;
    }
    trial::start_simulated(&running, args.simulated_hosts);
    println!("ready {}", running.url);
    std::io::stdout().flush().context("printing")?;
    let mut terminate = signal(SignalKind::terminate()).context("waiting for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("waiting for signals")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping; servers keep running");
    let _ = std::fs::remove_file(state.pid());
    let _ = std::fs::remove_file(state.socket());
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
