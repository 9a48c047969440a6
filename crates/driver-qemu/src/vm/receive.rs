//! The arriving half of a move: a machine without running processors takes disks and memory of a guest that runs on another host.
//!
//! The guest computes here only after [`Vm::start_received`], which is for whoever knows that it stands still there for good.

use super::{RunState, Vm};
use crate::disks::remove_file;
use crate::error::{Error, Result};
use crate::ledger::Desired;
use serde_json::{Value, json};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Duration;

const POLL: Duration = Duration::from_millis(20);

impl Vm {
    /// Lets disks be written through a socket, each under the name of its node; answers where that is.
    pub async fn export_disks(&self, disks: &[String]) -> Result<PathBuf> {
        let _operation = self.shared.operation.lock().await;
        self.shared.running()?;
        let path = self.shared.dir.nbd_socket();
        remove_file(&path)?;
        let listener = UnixListener::bind(&path).map_err(Error::io("make socket", &path))?;
        let qmp = self.shared.qmp();
        qmp.execute_with_fd("getfd", json!({"fdname": "nbd"}), OwnedFd::from(listener)).await?;
        qmp.execute("nbd-server-start", json!({"addr": {"type": "fd", "data": {"str": "nbd"}}})).await?;
        let spec = self.spec();
        for id in disks {
            let disk = spec.disks.iter().find(|disk| disk.id == *id).ok_or_else(|| Error::NoDevice(id.clone()))?;
            let node = disk.node();
            let export = json!({"type": "nbd", "id": format!("e-{node}"), "node-name": node, "name": node, "writable": true});
            qmp.execute("block-export-add", export).await?;
        }
        Ok(path)
    }

    /// Begins to take the guest's memory from a stream socket.
    pub async fn receive(&self, memory: OwnedFd) -> Result<()> {
        let _operation = self.shared.operation.lock().await;
        self.shared.running()?;
        let qmp = self.shared.qmp();
        qmp.execute_with_fd("getfd", json!({"fdname": "arriving"}), memory).await?;
        qmp.execute("migrate-incoming", json!({"uri": "fd:arriving"})).await.map(drop)
    }

    /// The whole guest is here.
    pub async fn has_received(&self) -> Result<bool> {
        self.shared.running()?;
        let state = self.shared.qmp().run("query-migrate").await?;
        match state["status"].as_str().unwrap_or("none") {
            "completed" => Ok(true),
            "failed" | "cancelled" => {
                let text = state["error-desc"].as_str().unwrap_or("QEMU gives no reason").to_owned();
                Err(Error::Job { disk: "memory".to_owned(), text })
            }
            _ => Ok(false),
        }
    }

    /// Waits until the whole guest is here.
    pub async fn received(&self) -> Result<()> {
        while !self.has_received().await? {
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// From here on this is the guest. It runs, unless it stood still where it came from.
    pub async fn start_received(&self, run: bool) -> Result<()> {
        let _operation = self.shared.operation.lock().await;
        self.shared.running()?;
        let qmp = self.shared.qmp();
        let status = qmp.run("query-status").await?;
        if run && status["status"] != "running" {
            qmp.run("cont").await?;
            self.reach(RunState::Running).await?;
        }
        self.shared.record(|ledger| {
            ledger.receiving = false;
            ledger.desired = Desired::Running;
        })?;
        let exports = qmp.run("query-block-exports").await?;
        if exports.as_array().is_some_and(|exports: &Vec<Value>| !exports.is_empty()) {
            qmp.run("nbd-server-stop").await?;
        }
        remove_file(&self.shared.dir.nbd_socket())
    }
}
