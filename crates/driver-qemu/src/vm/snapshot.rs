//! A copy of a disk as it is at one moment, while the guest runs on: QEMU's backup job into a file that stands alone.

use super::hotplug::{forget, pass};
use super::{Shared, Vm};
use crate::command_line::{Below, Passed, below_node};
use crate::disks::remove_file;
use crate::error::{Error, Result};
use crate::given::{self, Storage};
use crate::layout::create_new;
use crate::qcow2;
use crate::qmp::Qmp;
use crate::spec::{Disk, Format};
use serde_json::{Value, json};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

const POLL: Duration = Duration::from_millis(40);
/// File systems stay frozen only until the job has started, normally a few milliseconds.
const AGENT_PATIENCE: Duration = Duration::from_millis(500);
const FREEZE_PATIENCE: Duration = Duration::from_secs(10);
const CANCEL_PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    pub done: u64,
    pub total: u64,
}

/// The file was written by the guest's QEMU: whoever uses it as an image examines it as if it had been uploaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    pub path: PathBuf,
    pub virtual_bytes: u64,
    /// The guest's agent froze its file systems for the moment. Otherwise the copy is as after a power failure.
    pub frozen: bool,
}

impl Vm {
    /// Copies a disk into `target`, which must not be there yet. The work goes on and is cleaned up even when the caller stops waiting.
    pub async fn snapshot_disk(
        &self,
        id: &str,
        target: &Path,
        format: Format,
        progress: Option<watch::Sender<Progress>>,
    ) -> Result<Snapshot> {
        let (shared, id, target) = (self.shared.clone(), id.to_owned(), target.to_path_buf());
        let work = tokio::spawn(async move {
            let result = take(&shared, &id, &target, format, progress).await;
            if result.is_err() {
                let _ = remove_file(&unfinished(&target));
            }
            result
        });
        work.await.map_err(|e| Error::Job { disk: "snapshot".into(), text: e.to_string() })?
    }
}

impl Vm {
    /// Copies a disk that was given, as it is at this moment, into an empty image of the same size: what is encrypted stays so. Whether the
    /// guest's file systems were frozen for the moment. Goes on when the caller stops waiting.
    pub async fn copy_disk(&self, id: &str, target: Storage, format: Format, progress: Option<watch::Sender<Progress>>) -> Result<bool> {
        let (shared, id) = (self.shared.clone(), id.to_owned());
        let work = tokio::spawn(async move { copy_given(&shared, &id, &target, format, progress).await });
        work.await.map_err(|e| Error::Job { disk: "copy".into(), text: e.to_string() })?
    }
}

async fn copy_given(
    shared: &Arc<Shared>,
    id: &str,
    target: &Storage,
    format: Format,
    progress: Option<watch::Sender<Progress>>,
) -> Result<bool> {
    let _operation = shared.operation.lock().await;
    shared.running()?;
    let disk = shared.ledger().spec.disks.iter().find(|d| d.id == id).cloned().ok_or_else(|| Error::NoDevice(id.to_owned()))?;
    let (qmp, job) = (shared.qmp(), job_of(&disk));
    clear(&qmp, &job).await;
    if let Storage::Node { secrets, .. } = target {
        // Those of the disk itself are there.
        for (id, secret) in secrets {
            let _ = qmp.execute("object-add", json!({"qom-type": "secret", "id": id, "data": secret.0})).await;
        }
    }
    let below = given::hand_over(&qmp, target, format, true, &job).await?;
    let copied = copy(shared, &qmp, &disk.image_node(), &job, &below, format, progress).await;
    clear(&qmp, &job).await;
    copied
}

/// The target has its name only when it is whole.
fn unfinished(target: &Path) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

async fn take(
    shared: &Arc<Shared>,
    id: &str,
    target: &Path,
    format: Format,
    progress: Option<watch::Sender<Progress>>,
) -> Result<Snapshot> {
    let _operation = shared.operation.lock().await;
    shared.running()?;
    let disk = shared.ledger().spec.disks.iter().find(|d| d.id == id).cloned().ok_or_else(|| Error::NoDevice(id.to_owned()))?;
    if target.exists() {
        let source = std::io::Error::from(std::io::ErrorKind::AlreadyExists);
        return Err(Error::Io { what: "create snapshot", path: target.to_path_buf(), source });
    }
    let qmp = shared.qmp();
    let virtual_bytes = virtual_size(&qmp, &disk.node()).await?;
    let part = unfinished(target);
    remove_file(&part)?;
    let file: OwnedFd = match format {
        Format::Qcow2 => qcow2::create(&part, virtual_bytes, None)?.into(),
        Format::Raw => {
            let file = create_new(&part)?;
            file.set_len(virtual_bytes).map_err(Error::io("size snapshot", &part))?;
            file.into()
        }
    };
    let job = job_of(&disk);
    clear(&qmp, &job).await;
    let below = Below::Passed(Passed { set: pass(&qmp, file, &job).await?, block_device: false });
    let copied = copy(shared, &qmp, &disk.node(), &job, &below, format, progress).await;
    clear(&qmp, &job).await;
    let frozen = copied?;
    let sync = std::fs::File::open(&part).and_then(|f| f.sync_all());
    sync.map_err(Error::io("sync snapshot", &part))?;
    std::fs::rename(&part, target).map_err(Error::io("rename snapshot to", target))?;
    Ok(Snapshot { path: target.to_path_buf(), virtual_bytes, frozen })
}

fn job_of(disk: &Disk) -> String {
    format!("snap-{}", disk.node().trim_start_matches("d-").chars().take(20).collect::<String>())
}

/// Ends a job, and lets go of what it wrote to: at its end, and before the next when an agent died in between.
async fn clear(qmp: &Qmp, job: &str) {
    let ended = async {
        while let Ok(jobs) = qmp.run("query-jobs").await {
            let Some(state) = jobs.as_array().into_iter().flatten().find(|j| j["id"] == job) else { return };
            let command = if state["status"] == "concluded" { "job-dismiss" } else { "job-cancel" };
            let _ = qmp.execute(command, json!({"id": job})).await;
            tokio::time::sleep(POLL).await;
        }
    };
    if tokio::time::timeout(CANCEL_PATIENCE, ended).await.is_err() {
        tracing::warn!(job, "a job of QEMU does not end");
    }
    for node in [job.to_owned(), format!("{job}-f")] {
        let _ = qmp.execute("blockdev-del", json!({"node-name": node})).await;
    }
    forget(qmp, job).await;
}

async fn virtual_size(qmp: &Qmp, node: &str) -> Result<u64> {
    let nodes = qmp.execute("query-named-block-nodes", json!({"flat": true})).await?;
    let found = nodes.as_array().into_iter().flatten().find(|n| n["node-name"] == node);
    found.and_then(|n| n.pointer("/image/virtual-size")).and_then(Value::as_u64).ok_or_else(|| Error::NoDevice(node.to_owned()))
}

async fn copy(
    shared: &Arc<Shared>,
    qmp: &Qmp,
    node: &str,
    job: &str,
    below: &Below,
    format: Format,
    progress: Option<watch::Sender<Progress>>,
) -> Result<bool> {
    let file = format!("{job}-f");
    qmp.execute("blockdev-add", below_node(&file, below, false)).await?;
    let mut image = json!({"driver": format.name(), "node-name": job, "file": file});
    if format == Format::Qcow2 {
        image["backing"] = Value::Null;
    }
    qmp.execute("blockdev-add", image).await?;
    let frozen = freeze(shared).await;
    let started =
        qmp.execute("blockdev-backup", json!({"job-id": job, "device": node, "target": job, "sync": "full", "auto-dismiss": false})).await;
    if frozen {
        thaw(shared).await;
    }
    started?;
    loop {
        let jobs = qmp.run("query-jobs").await?;
        let Some(state) = jobs.as_array().into_iter().flatten().find(|j| j["id"] == job) else {
            return Err(Error::Job { disk: node.to_owned(), text: "the job is gone".to_owned() });
        };
        if let Some(progress) = &progress {
            let number = |name: &str| state[name].as_u64().unwrap_or(0);
            progress.send_replace(Progress { done: number("current-progress"), total: number("total-progress") });
        }
        if state["status"] == "concluded" {
            let error = state["error"].as_str().map(str::to_owned);
            qmp.execute("job-dismiss", json!({"id": job})).await?;
            return match error {
                Some(text) => Err(Error::Job { disk: node.to_owned(), text }),
                None => Ok(frozen),
            };
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn freeze(shared: &Shared) -> bool {
    let Ok(mut agent) = crate::GuestAgent::connect(&shared.dir.agent_socket(), AGENT_PATIENCE).await else { return false };
    match agent.execute("guest-fsfreeze-freeze", json!({}), FREEZE_PATIENCE).await {
        Ok(_) => true,
        Err(error) => {
            tracing::warn!(server = %shared.id, %error, "file systems are not frozen for the snapshot");
            // it may have frozen some
            thaw(shared).await;
            false
        }
    }
}

async fn thaw(shared: &Shared) {
    let thawed = async {
        let mut agent = crate::GuestAgent::connect(&shared.dir.agent_socket(), FREEZE_PATIENCE).await?;
        agent.execute("guest-fsfreeze-thaw", json!({}), FREEZE_PATIENCE).await
    };
    if let Err(error) = thawed.await {
        tracing::error!(server = %shared.id, %error, "the guest's file systems may still be frozen");
    }
}
