//! `unkai down`: stop the control plane, and the servers only when asked.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use crate::process::Running;
use crate::state::StateDir;

const GRACE: Duration = Duration::from_secs(20);

pub fn run(dir: &Path, servers: bool) -> Result<()> {
    let state = StateDir::at(dir);
    match Running::read(&state.pid()) {
        Some(running) => stop(&running)?,
        None => println!("no control plane runs in `{}`", dir.display()),
    }
    if servers {
        let runtime = tokio::runtime::Runtime::new().context("starting the async runtime")?;
        let stopped = runtime.block_on(unkai_host::stop_everything(&state.agent()))?;
        println!("{stopped} servers stopped");
    }
    Ok(())
}

fn stop(running: &Running) -> Result<()> {
    running.signal(Signal::SIGTERM)?;
    let began = Instant::now();
    while running.is_alive() {
        if began.elapsed() > GRACE {
            bail!("process {} does not end", running.pid);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    println!("the control plane has stopped");
    Ok(())
}
