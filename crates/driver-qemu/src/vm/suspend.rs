//! Suspend to disk: memory and devices go to a file, the process ends; the next launch with the same devices takes them up again.
//!
//! The ledger says "suspended" only when the file is whole and durable, and stops saying so only when the restored guest runs, so a crash
//! between leaves either a running guest or one that can be restored.

use super::{RunState, Vm};
use crate::disks::remove_file;
use crate::error::{Error, Result};
use crate::layout::create_new;
use crate::ledger::Desired;
use crate::qmp::Qmp;
use serde_json::json;
use std::path::Path;
use std::time::Duration;

const POLL: Duration = Duration::from_millis(20);

impl Vm {
    /// Saves the guest and ends its process. On failure the guest runs on.
    pub async fn suspend(&self) -> Result<()> {
        let _operation = self.shared.operation.lock().await;
        self.shared.running()?;
        let was_running = self.status().state == RunState::Running;
        let path = self.shared.dir.saved_state();
        if let Err(error) = self.save(&path).await {
            let _ = remove_file(&path);
            if was_running {
                let _ = self.shared.qmp().run("cont").await;
            }
            return Err(error);
        }
        self.shared.intent().seen.asked = true;
        self.shared.end().await;
        self.exited().await;
        Ok(())
    }

    async fn save(&self, path: &Path) -> Result<()> {
        let qmp = self.shared.qmp();
        // The same machine must be there for the restored guest, also under a newer QEMU.
        let kind = qmp.execute("qom-get", json!({"path": "/machine", "property": "type"})).await?;
        let machine = kind.as_str().and_then(|k| k.strip_suffix("-machine")).map(str::to_owned);
        remove_file(path)?;
        let file = create_new(path)?;
        let for_qemu = file.try_clone().map_err(Error::system("duplicate a file descriptor"))?;
        qmp.run("stop").await?;
        qmp.execute("migrate-set-parameters", json!({"max-bandwidth": 1u64 << 40})).await?;
        qmp.execute_with_fd("getfd", json!({"fdname": "suspend"}), for_qemu.into()).await?;
        qmp.execute("migrate", json!({"uri": "fd:suspend"})).await?;
        settled(&qmp).await?;
        file.sync_all().map_err(Error::io("sync saved state", path))?;
        self.shared.record(|ledger| {
            ledger.suspended = true;
            ledger.desired = Desired::Stopped;
            ledger.spec.machine = machine;
        })
    }

    /// The other half, in a process started to wait for a saved state.
    pub(crate) async fn restore(&self) -> Result<()> {
        let path = self.shared.dir.saved_state();
        let file = std::fs::File::open(&path).map_err(Error::io("open saved state", &path))?;
        let qmp = self.shared.qmp();
        qmp.execute_with_fd("getfd", json!({"fdname": "resume"}), file.into()).await?;
        qmp.execute("migrate-incoming", json!({"uri": "fd:resume"})).await?;
        settled(&qmp).await?;
        qmp.run("cont").await?;
        self.reach(RunState::Running).await?;
        self.shared.record(|ledger| ledger.suspended = false)?;
        remove_file(&path)
    }
}

/// Waits for a migration to end, in either direction.
async fn settled(qmp: &Qmp) -> Result<()> {
    loop {
        let state = qmp.run("query-migrate").await?;
        match state["status"].as_str().unwrap_or("none") {
            "completed" => return Ok(()),
            "failed" | "cancelled" => {
                let text = state["error-desc"].as_str().unwrap_or("QEMU gives no reason").to_owned();
                return Err(Error::Job { disk: "saved state".to_owned(), text });
            }
            _ => tokio::time::sleep(POLL).await,
        }
    }
}
