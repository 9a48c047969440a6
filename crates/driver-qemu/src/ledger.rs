//! What the driver remembers of a server, in `ledger.json` of its directory: enough to find and adopt its QEMU after the agent died
//! at any point. Written durably before and after every step that starts or ends a process.

use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::layout::{ServerDir, write_durably};
use crate::spec::LaunchSpec;
use serde::{Deserialize, Serialize};
use unkai_crashpoint::point;

const VERSION: u32 = 1;
/// No honest ledger is near this.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Desired {
    Running,
    Stopped,
}

/// A process, by more than its number, which the kernel reuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    pub pid: i32,
    /// Clock ticks after boot, field 22 of `/proc/PID/stat`.
    pub started: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    version: u32,
    pub spec: LaunchSpec,
    /// The agent's own; the driver only keeps it.
    pub generation: u64,
    pub desired: Desired,
    /// The unprivileged user QEMU runs as.
    pub owner: Option<u32>,
    /// Absent while no process is known; a launch that was interrupted is found by its command line.
    pub process: Option<ProcessId>,
    /// The guest's memory is in the saved state file; the next launch restores it.
    pub suspended: bool,
    /// The process waits for, or holds, a guest that came from another host and has not been started here yet.
    #[serde(default)]
    pub receiving: bool,
    /// How the last process ended.
    pub last_exit: Option<Exit>,
}

impl Ledger {
    pub fn new(spec: LaunchSpec, generation: u64, owner: Option<u32>) -> Ledger {
        Ledger {
            version: VERSION,
            spec,
            generation,
            desired: Desired::Stopped,
            owner,
            process: None,
            suspended: false,
            receiving: false,
            last_exit: None,
        }
    }

    pub fn read(dir: &ServerDir) -> Result<Ledger> {
        let path = dir.ledger();
        let broken = |problem: String| Error::Ledger { path: dir.ledger(), problem };
        let size = std::fs::metadata(&path).map_err(Error::io("read ledger", &path))?.len();
        if size > MAX_BYTES {
            return Err(broken(format!("{size} bytes")));
        }
        let bytes = std::fs::read(&path).map_err(Error::io("read ledger", &path))?;
        #[derive(Deserialize)]
        struct Header {
            version: u32,
        }
        let header: Header = serde_json::from_slice(&bytes).map_err(|e| broken(e.to_string()))?;
        if header.version != VERSION {
            return Err(broken(format!("version {} is not {VERSION}, the one this program writes", header.version)));
        }
        serde_json::from_slice(&bytes).map_err(|e| broken(e.to_string()))
    }

    pub fn write(&self, dir: &ServerDir) -> Result<()> {
        let bytes = serde_json::to_vec_pretty(self).map_err(|e| Error::Ledger { path: dir.ledger(), problem: e.to_string() })?;
        point("qemu: before the ledger is written");
        write_durably(&dir.ledger(), &bytes)?;
        point("qemu: the ledger is written");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::ExitReason;
    use uuid::Uuid;

    fn spec() -> LaunchSpec {
        serde_json::from_str(r#"{"id": "00000000-0000-0000-0000-000000001234", "name": "x", "vcpus": 1, "memory_mib": 64}"#).unwrap()
    }

    #[test]
    fn what_is_written_is_read() {
        let temp = tempfile::tempdir().unwrap();
        let dir = ServerDir::new(temp.path(), Uuid::from_u128(1));
        dir.create(None).unwrap();
        let mut ledger = Ledger::new(spec(), u64::MAX, Some(70000));
        ledger.process = Some(ProcessId { pid: 7, started: 99 });
        ledger.last_exit = Some(Exit::now(ExitReason::HostKill { signal: Some(9) }));
        ledger.write(&dir).unwrap();
        assert_eq!(Ledger::read(&dir).unwrap(), ledger);
        ledger.suspended = true;
        ledger.write(&dir).unwrap();
        assert!(Ledger::read(&dir).unwrap().suspended);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_foreign_or_broken_ledger_is_named() {
        let temp = tempfile::tempdir().unwrap();
        let dir = ServerDir::new(temp.path(), Uuid::from_u128(1));
        dir.create(None).unwrap();
        for (text, part) in [("{\"version\": 9}", "version 9"), ("{", "EOF"), ("", "EOF"), ("{\"version\": 1}", "spec")] {
            std::fs::write(dir.ledger(), text).unwrap();
            let error = Ledger::read(&dir).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("ledger.json"), "{error}");
        }
    }
}
