//! A control group per server, so that one guest's QEMU cannot take the host's processors, memory or process table. Best effort: a
//! machine without some controller still runs servers, and the reason is kept for `unkai doctor` and the log.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use uuid::Uuid;

#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub vcpus: u16,
    pub memory_bytes: u64,
    pub tasks: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Hierarchy {
    Unified(PathBuf),
    /// Controller and where it is mounted.
    Legacy(Vec<(String, PathBuf)>),
}

/// Files that a process writes "0" into to join, and what could not be had.
#[derive(Debug, Default)]
pub struct Prepared {
    pub join: Vec<OwnedFd>,
    pub problems: Vec<String>,
}

const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

pub fn prepare(parent: &str, id: Uuid, limits: Limits) -> Prepared {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut prepared = Prepared::default();
    match hierarchy(&mounts) {
        Some(Hierarchy::Unified(root)) => unified(&root, parent, id, limits, &mut prepared),
        Some(Hierarchy::Legacy(controllers)) => {
            for (controller, root) in controllers {
                let dir = root.join(parent).join(id.to_string());
                prepared.note(&controller, std::fs::create_dir_all(&dir));
                set_legacy(&controller, &dir, limits, &mut prepared);
                prepared.join(&dir);
            }
        }
        None => prepared.problems.push("no control groups are mounted".to_owned()),
    }
    prepared
}

/// Removes what [`prepare`] made. A group that still has a process stays; the next removal gets it.
pub fn remove(parent: &str, id: Uuid) {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let roots = match hierarchy(&mounts) {
        Some(Hierarchy::Unified(root)) => vec![root],
        Some(Hierarchy::Legacy(controllers)) => controllers.into_iter().map(|(_, root)| root).collect(),
        None => Vec::new(),
    };
    for root in roots {
        let dir = root.join(parent).join(id.to_string());
        if let Err(error) = std::fs::remove_dir(&dir)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::debug!(%error, dir = %dir.display(), "control group not removed");
        }
    }
}

fn hierarchy(mounts: &str) -> Option<Hierarchy> {
    let lines: Vec<Vec<&str>> = mounts.lines().map(|l| l.split(' ').collect()).filter(|f: &Vec<&str>| f.len() >= 4).collect();
    let legacy: Vec<(String, PathBuf)> = CONTROLLERS
        .iter()
        .filter_map(|controller| {
            let mount = lines.iter().find(|f| f[2] == "cgroup" && f[3].split(',').any(|o| o == *controller))?;
            Some((controller.to_string(), PathBuf::from(mount[1])))
        })
        .collect();
    if !legacy.is_empty() {
        return Some(Hierarchy::Legacy(legacy));
    }
    lines.iter().find(|f| f[2] == "cgroup2").map(|f| Hierarchy::Unified(PathBuf::from(f[1])))
}

fn unified(root: &Path, parent: &str, id: Uuid, limits: Limits, prepared: &mut Prepared) {
    let parent = root.join(parent);
    let dir = parent.join(id.to_string());
    prepared.note("cgroup", std::fs::create_dir_all(&dir));
    for above in [root, &parent] {
        for controller in CONTROLLERS {
            prepared.note(controller, std::fs::write(above.join("cgroup.subtree_control"), format!("+{controller}")));
        }
    }
    let weight = (u32::from(limits.vcpus) * 100).min(10_000);
    prepared.note("cpu", std::fs::write(dir.join("cpu.weight"), weight.to_string()));
    prepared.note("memory", std::fs::write(dir.join("memory.max"), limits.memory_bytes.to_string()));
    prepared.note("pids", std::fs::write(dir.join("pids.max"), limits.tasks.to_string()));
    prepared.join(&dir);
}

fn set_legacy(controller: &str, dir: &Path, limits: Limits, prepared: &mut Prepared) {
    let (file, value) = match controller {
        "cpu" => ("cpu.shares", u64::from(limits.vcpus) * 1024),
        "memory" => ("memory.limit_in_bytes", limits.memory_bytes),
        _ => ("pids.max", u64::from(limits.tasks)),
    };
    prepared.note(controller, std::fs::write(dir.join(file), value.to_string()));
}

impl Prepared {
    fn note(&mut self, what: &str, result: io::Result<()>) {
        if let Err(error) = result {
            self.problems.push(format!("{what}: {error}"));
        }
    }

    fn join(&mut self, dir: &Path) {
        let open: io::Result<File> = OpenOptions::new().write(true).open(dir.join("cgroup.procs"));
        match open {
            Ok(file) => self.join.push(file.into()),
            Err(error) => self.problems.push(format!("{}: {error}", dir.display())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_generations_are_found() {
        let legacy =
            "cgroup /sys/fs/cgroup/cpu cgroup rw,relatime,cpu 0 0\ncgroup /c/mem cgroup rw,memory 0 0\ncgroup2 /u cgroup2 rw 0 0\n";
        let want = vec![("cpu".to_owned(), PathBuf::from("/sys/fs/cgroup/cpu")), ("memory".to_owned(), PathBuf::from("/c/mem"))];
        assert_eq!(hierarchy(legacy), Some(Hierarchy::Legacy(want)));
        assert_eq!(hierarchy("cgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate 0 0\n"), Some(Hierarchy::Unified("/sys/fs/cgroup".into())));
        assert_eq!(hierarchy("proc /proc proc rw 0 0\nnonsense\n"), None);
    }
}
