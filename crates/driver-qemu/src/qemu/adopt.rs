//! After a restart of the agent: what is on disk, what runs, and taking it over.

use super::{Entry, Qemu};
use crate::error::{Error, Result};
use crate::ledger::{Ledger, ProcessId};
use crate::process::{self, Process};
use crate::qmp::Qmp;
use crate::vm::{RunState, Vm};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::task::JoinSet;
use uuid::Uuid;

const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// A server as it was found.
#[derive(Debug)]
pub struct Found {
    pub id: Uuid,
    pub ledger: Option<Ledger>,
    pub state: FoundState,
}

#[derive(Debug)]
pub enum FoundState {
    /// Its process runs and is adopted.
    Running(Vm),
    Stopped,
    Suspended,
    /// Its directory or its process cannot be used as it is; [`Qemu::remove`] clears it.
    Broken {
        problem: String,
    },
    /// A process that uses our directory, of a server that is not defined; [`Qemu::remove`] ends it.
    Orphan(ProcessId),
}

impl Qemu {
    /// Everything there is, adopted where it runs. Called once at start; may be repeated.
    pub async fn discover(&self) -> Vec<Found> {
        let defined: BTreeSet<Uuid> = self.defined().into_iter().collect();
        let mut looks = JoinSet::new();
        for id in defined.clone() {
            let this = self.clone();
            looks.spawn(async move { this.look(id).await });
        }
        let mut found = looks.join_all().await;
        for (id, process) in process::scan(&self.inner.config.dir) {
            if !defined.contains(&id) {
                found.push(Found { id, ledger: None, state: FoundState::Orphan(process) });
            }
        }
        found.sort_by_key(|f| f.id);
        found
    }

    async fn look(&self, id: Uuid) -> Found {
        let ledger = self.ledger(id);
        let broken = |error: Error| FoundState::Broken { problem: error.to_string() };
        let state = match &ledger {
            Err(error) => FoundState::Broken { problem: error.to_string() },
            Ok(_) => match self.adopt(id).await {
                Ok(Some(vm)) => FoundState::Running(vm),
                Ok(None) if self.ledger(id).is_ok_and(|l| l.suspended) => FoundState::Suspended,
                Ok(None) => FoundState::Stopped,
                Err(error) => broken(error),
            },
        };
        Found { id, ledger: self.ledger(id).ok(), state }
    }

    /// Takes over the server's process, if it runs.
    pub async fn adopt(&self, id: Uuid) -> Result<Option<Vm>> {
        let entry = self.entry(id);
        let mut entry = entry.lock().await;
        self.adopt_into(&mut entry, id).await
    }

    pub(super) async fn adopt_into(&self, entry: &mut Entry, id: Uuid) -> Result<Option<Vm>> {
        if let Some(vm) = entry.vm.clone() {
            match vm.status().state {
                RunState::Exited => entry.vm = None,
                // about to be gone: what follows must not race with it
                RunState::Ending => {
                    vm.exited().await;
                    entry.vm = None;
                }
                RunState::Running | RunState::Paused => return Ok(Some(vm)),
            }
        }
        let mut ledger = self.ledger(id)?;
        let Some(process) = self.live_process(&ledger) else { return Ok(None) };
        let qmp = Qmp::connect(&self.dir(id).qmp_socket(), CONNECT_PATIENCE).await?;
        let status = qmp.run("query-status").await?;
        if ledger.suspended {
            if status["status"] != "running" {
                // Died between saving and ending, or while restoring. The saved state is whole; the process is not needed.
                process.kill();
                process.wait().await;
                return Ok(None);
            }
            ledger.suspended = false;
        }
        if ledger.process != Some(process.id) || status["status"] == "running" {
            ledger.process = Some(process.id);
            ledger.write(&self.dir(id))?;
        }
        let vm = self.watch(entry, ledger, process, qmp);
        if status["status"] != "running" {
            // The monitor finds the same: a paused guest, or one that ended while nobody looked and whose process goes now.
            let _ = vm.watch().wait_for(|s| s.state != RunState::Running).await;
            if matches!(vm.status().state, RunState::Ending | RunState::Exited) {
                vm.exited().await;
                entry.vm = None;
                return Ok(None);
            }
        }
        Ok(Some(vm))
    }

    /// The process of the ledger, or, if the agent died before noting it, the one whose command line is this server's.
    pub(super) fn live_process(&self, ledger: &Ledger) -> Option<Process> {
        let id = ledger.spec.id;
        if let Some(process) = ledger.process.and_then(|noted| Process::adopt(noted, id)) {
            return Some(process);
        }
        let running = process::scan(&self.inner.config.dir);
        running.into_iter().filter(|(server, _)| *server == id).find_map(|(_, process)| Process::adopt(process, id))
    }
}
