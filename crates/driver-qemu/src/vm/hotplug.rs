//! Devices that come and go while the guest runs. What is plugged is in the ledger, so a restored or restarted guest finds it again.

use super::Vm;
use crate::command_line::{Below, Passed, disk_device, disk_nodes, nic_device};
use crate::disks;
use crate::error::{Error, Result};
use crate::given::{self, Given};
use crate::qmp::Qmp;
use crate::spec::{Bus, Disk, LaunchSpec, Nic, Source};
use serde_json::{Value, json};
use std::os::fd::OwnedFd;
use std::time::Duration;

/// A guest may ignore a request that came while it was starting.
const ASK_AGAIN: Duration = Duration::from_secs(5);

impl Vm {
    /// Adds a network interface over an open tap. Nothing changes when the port is plugged already.
    pub async fn plug_nic(&self, nic: Nic, tap: OwnedFd) -> Result<()> {
        let _operation = self.shared.operation.lock().await;
        self.shared.running()?;
        nic.validate()?;
        let qmp = self.shared.qmp();
        if device_exists(&qmp, &nic.device()).await? {
            return Ok(());
        }
        let (nic, spec) = self.place(|spec| spec.nics.push(nic.clone()), |spec| spec.nics.last().cloned())?;
        let (name, netdev) = (format!("tap-{}", nic.port), nic.netdev());
        qmp.execute_with_fd("getfd", json!({"fdname": name}), tap).await?;
        let added = qmp.execute("netdev_add", json!({"type": "tap", "id": netdev, "fd": name, "vhost": false})).await;
        if let Err(error) = added {
            let _ = qmp.execute("closefd", json!({"fdname": name})).await;
            return Err(error);
        }
        if let Err(error) = qmp.execute("device_add", nic_device(&nic)).await {
            undo(&qmp, "netdev_del", json!({"id": netdev})).await;
            return Err(error);
        }
        self.shared.record(|ledger| ledger.spec = spec)
    }

    /// Removes a network interface, with the guest's consent within `deadline`. Nothing changes when there is none.
    pub async fn unplug_nic(&self, port: &str, deadline: Duration) -> Result<()> {
        let _operation = self.shared.operation.lock().await;
        self.shared.running()?;
        let qmp = self.shared.qmp();
        release(&qmp, &format!("nic-{port}"), deadline).await?;
        absent_is_fine(qmp.execute("netdev_del", json!({"id": format!("net-{port}")})).await)?;
        self.shared.record(|ledger| ledger.spec.nics.retain(|n| n.port != port))
    }

    /// Adds a disk. A file of the server's own is made first; one of somebody else's is given. Nothing changes when it is plugged already.
    pub async fn plug_disk(&self, disk: Disk, given: Option<Given>) -> Result<()> {
        let _operation = self.shared.operation.lock().await;
        self.shared.running()?;
        disk.validate()?;
        if disk.bus != Bus::Virtio {
            return Err(Error::Invalid(format!("disk {}: IDE drives cannot be plugged into a running server", disk.id)));
        }
        let qmp = self.shared.qmp();
        if device_exists(&qmp, &disk.device()).await? {
            return Ok(());
        }
        let (disk, spec) = self.place(|spec| spec.disks.push(disk.clone()), |spec| spec.disks.last().cloned())?;
        let owner = self.shared.ledger().owner;
        disks::prepare(&disk, &self.shared.dir, owner, &self.shared.config.tools)?;
        match self.connect(&qmp, &disk, given.as_slice()).await {
            Ok(()) => self.shared.record(|ledger| ledger.spec = spec),
            Err(error) => {
                forget(&qmp, &disk.node()).await;
                given::untell(&qmp, &disk).await;
                Err(error)
            }
        }
    }

    async fn connect(&self, qmp: &Qmp, disk: &Disk, given: &[Given]) -> Result<()> {
        let given = given::of(disk, given)?;
        let below = match (given, disks::open_base(disk)?) {
            (Some(given), _) => {
                given::tell(qmp, &given.secrets(disk)).await?;
                Some(given::hand_over(qmp, &given.storage, disk.source.format(), !disk.read_only, &disk.node()).await?)
            }
            (None, Some(base)) => {
                Some(Below::Passed(Passed { set: pass(qmp, base.fd, &disk.node()).await?, block_device: base.block_device }))
            }
            (None, None) => None,
        };
        let own_path = self.shared.dir.disk(&disk.id).display().to_string();
        let nodes = disk_nodes(disk, &own_path, below.as_ref());
        plug_nodes(qmp, &nodes, disk_device(disk, &mut 0)).await
    }

    /// Removes a disk, with the guest's consent within `deadline`. Its file stays. Nothing changes when there is none.
    pub async fn unplug_disk(&self, id: &str, deadline: Duration) -> Result<()> {
        let _operation = self.shared.operation.lock().await;
        self.shared.running()?;
        let Some(disk) = self.spec().disks.into_iter().find(|d| d.id == id) else { return Ok(()) };
        let qmp = self.shared.qmp();
        release(&qmp, &disk.device(), deadline).await?;
        for node in disk_nodes(&disk, "", None).iter().rev() {
            absent_is_fine(qmp.execute("blockdev-del", json!({"node-name": node["node-name"]})).await)?;
        }
        forget(&qmp, &disk.node()).await;
        given::untell(&qmp, &disk).await;
        self.shared.record(|ledger| ledger.spec.disks.retain(|d| d.id != id))
    }

    /// Grows a disk under the running guest.
    pub async fn resize_disk(&self, id: &str, bytes: u64) -> Result<()> {
        let _operation = self.shared.operation.lock().await;
        self.shared.running()?;
        let disk = self.spec().disks.into_iter().find(|d| d.id == id).ok_or_else(|| Error::NoDevice(id.to_owned()))?;
        self.shared.qmp().execute("block_resize", json!({"node-name": disk.node(), "size": bytes})).await?;
        self.shared.record(|ledger| {
            for disk in ledger.spec.disks.iter_mut().filter(|d| d.id == id) {
                match &mut disk.source {
                    Source::Overlay { bytes: size, .. }
                    | Source::Blank { bytes: size }
                    | Source::Ephemeral { bytes: size, .. }
                    | Source::Swap { bytes: size } => *size = bytes,
                    Source::Given { .. } => {}
                }
            }
        })
    }

    /// The specification with one device more, and that device with its slot.
    fn place<T>(&self, add: impl FnOnce(&mut LaunchSpec), last: impl FnOnce(&LaunchSpec) -> Option<T>) -> Result<(T, LaunchSpec)> {
        let mut spec = self.spec();
        add(&mut spec);
        spec.assign_slots()?;
        spec.validate()?;
        let device = last(&spec).ok_or(Error::NoSlot)?;
        Ok((device, spec))
    }
}

async fn plug_nodes(qmp: &Qmp, nodes: &[Value], device: Value) -> Result<()> {
    let mut made: Vec<&Value> = Vec::new();
    let mut outcome = Ok(());
    for node in nodes {
        outcome = qmp.execute("blockdev-add", node.clone()).await.map(drop);
        if outcome.is_err() {
            break;
        }
        made.push(&node["node-name"]);
    }
    if outcome.is_ok() {
        outcome = qmp.execute("device_add", device).await.map(drop);
    }
    if outcome.is_err() {
        for name in made.into_iter().rev() {
            undo(qmp, "blockdev-del", json!({"node-name": name})).await;
        }
    }
    outcome
}

/// Gives QEMU an open file; returns the number of its descriptor set. `label` finds it again.
pub(crate) async fn pass(qmp: &Qmp, fd: OwnedFd, label: &str) -> Result<i64> {
    let reply = qmp.execute_with_fd("add-fd", json!({"opaque": label}), fd).await?;
    reply["fdset-id"].as_i64().ok_or_else(|| Error::Refused {
        command: "add-fd".into(),
        class: String::new(),
        text: "no fdset-id in the answer".into(),
    })
}

/// Closes QEMU's copies of descriptors passed under this label.
pub(super) async fn forget(qmp: &Qmp, label: &str) {
    let Ok(sets) = qmp.run("query-fdsets").await else { return };
    for set in sets.as_array().into_iter().flatten() {
        let ours = set["fds"].as_array().into_iter().flatten().any(|fd| fd["opaque"] == label);
        if ours {
            undo(qmp, "remove-fd", json!({"fdset-id": set["fdset-id"]})).await;
        }
    }
}

async fn undo(qmp: &Qmp, command: &str, arguments: Value) {
    if let Err(error) = absent_is_fine(qmp.execute(command, arguments).await) {
        tracing::warn!(%error, "cleaning up in QEMU");
    }
}

fn absent_is_fine(result: Result<Value>) -> Result<()> {
    match result {
        Err(error) if !error.is_absent() => Err(error),
        _ => Ok(()),
    }
}

async fn device_exists(qmp: &Qmp, device: &str) -> Result<bool> {
    let list = qmp.execute("qom-list", json!({"path": "/machine/peripheral"})).await?;
    Ok(list.as_array().into_iter().flatten().any(|entry| entry["name"] == device))
}

/// Asks the guest for a device until it is gone.
async fn release(qmp: &Qmp, device: &str, deadline: Duration) -> Result<()> {
    let mut events = qmp.events();
    let gone = async {
        loop {
            if !device_exists(qmp, device).await? {
                return Ok(());
            }
            match qmp.execute("device_del", json!({"id": device})).await {
                // "already in the process of unplug" is an answer too
                Ok(_) | Err(Error::Refused { .. }) => {}
                Err(error) => return Err(error),
            }
            let deleted = async {
                while let Ok(event) = events.recv().await {
                    if event.name == "DEVICE_DELETED" && event.data["device"] == device {
                        break;
                    }
                }
            };
            let _ = tokio::time::timeout(ASK_AGAIN, deleted).await;
        }
    };
    match tokio::time::timeout(deadline, gone).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Error::NotReleased { device: device.to_owned(), within: deadline }),
    }
}
