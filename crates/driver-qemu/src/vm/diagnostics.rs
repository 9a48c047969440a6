//! Numbers about a running guest: processor time, memory, disks. Network counters are the tap's and belong to the network driver.

use super::{RunState, Vm};
use crate::error::Result;
use serde_json::{Value, json};
use std::time::Duration;

#[derive(Debug, Clone, PartialEq)]
pub struct Diagnostics {
    pub state: RunState,
    pub uptime: Duration,
    pub vcpus: Vec<VcpuTime>,
    pub memory_bytes: u64,
    /// Less than `memory_bytes` when the balloon is inflated.
    pub memory_actual_bytes: Option<u64>,
    pub resident_bytes: u64,
    pub disks: Vec<DiskCounters>,
    pub nics: Vec<NicFact>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct VcpuTime {
    pub index: u64,
    pub time: Duration,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct DiskCounters {
    pub disk: String,
    pub read_bytes: u64,
    pub read_requests: u64,
    pub write_bytes: u64,
    pub write_requests: u64,
    pub errors: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct NicFact {
    pub port: String,
    pub mac: String,
}

impl Vm {
    pub async fn diagnostics(&self) -> Result<Diagnostics> {
        self.shared.running()?;
        let qmp = self.shared.qmp();
        let spec = self.spec();
        let cpus = qmp.run("query-cpus-fast").await?;
        let stats = qmp.execute("query-blockstats", json!({})).await?;
        let memory = qmp.run("query-memory-size-summary").await?;
        let balloon = qmp.run("query-balloon").await.ok();
        let pid = self.pid();
        Ok(Diagnostics {
            state: self.status().state,
            uptime: uptime(self.shared.process.id.started),
            vcpus: cpus.as_array().into_iter().flatten().map(|cpu| vcpu(pid, cpu)).collect(),
            memory_bytes: memory["base-memory"].as_u64().unwrap_or(0),
            memory_actual_bytes: balloon.and_then(|b| b["actual"].as_u64()),
            resident_bytes: resident(pid),
            disks: spec.disks.iter().map(|d| counters(&d.id, &d.device(), &stats)).collect(),
            nics: spec.nics.iter().map(|n| NicFact { port: n.port.clone(), mac: n.mac.clone() }).collect(),
        })
    }

    /// Sets the balloon's target: the guest gives memory back, or may use it again.
    pub async fn balloon(&self, bytes: u64) -> Result<()> {
        self.shared.qmp().execute("balloon", json!({"value": bytes})).await.map(drop)
    }
}

fn counters(disk: &str, device: &str, stats: &Value) -> DiskCounters {
    let found = stats.as_array().into_iter().flatten().find(|s| {
        // "/machine/peripheral/disk-root/virtio-backend" or without the last part
        s["qdev"].as_str().is_some_and(|path| path.split('/').any(|part| part == device))
    });
    let number = |name: &str| found.and_then(|s| s["stats"][name].as_u64()).unwrap_or(0);
    DiskCounters {
        disk: disk.to_owned(),
        read_bytes: number("rd_bytes"),
        read_requests: number("rd_operations"),
        write_bytes: number("wr_bytes"),
        write_requests: number("wr_operations"),
        errors: number("failed_rd_operations") + number("failed_wr_operations") + number("failed_flush_operations"),
    }
}

fn vcpu(pid: i32, cpu: &Value) -> VcpuTime {
    let thread = cpu["thread-id"].as_u64().unwrap_or(0);
    let stat = std::fs::read_to_string(format!("/proc/{pid}/task/{thread}/stat")).unwrap_or_default();
    VcpuTime { index: cpu["cpu-index"].as_u64().unwrap_or(0), time: ticks(cpu_ticks(&stat)) }
}

/// User and system time, fields 14 and 15.
fn cpu_ticks(stat: &str) -> u64 {
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    after.split_whitespace().skip(11).take(2).filter_map(|f| f.parse::<u64>().ok()).sum()
}

fn ticks(count: u64) -> Duration {
    // SAFETY: no pointers.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) }.max(1) as u64;
    Duration::from_millis(count * 1000 / per_second)
}

fn uptime(started: u64) -> Duration {
    let text = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    let now = text.split_whitespace().next().and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    Duration::try_from_secs_f64(now).unwrap_or_default().saturating_sub(ticks(started))
}

fn resident(pid: i32) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    // SAFETY: no pointers.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) }.max(1) as u64;
    statm.split_whitespace().nth(1).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0) * page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_of_a_thread() {
        assert_eq!(cpu_ticks("7 (CPU 0/TCG) R 1 1 1 0 -1 64 1 1 0 0 150 50 0 0 20 0 1 0 4242 1 1"), 200);
        assert_eq!(cpu_ticks(""), 0);
    }

    #[test]
    fn counters_are_found_by_device() {
        let stats = json!([
            {"qdev": "/machine/peripheral/disk-swap/virtio-backend", "stats": {"rd_bytes": 1}},
            {"qdev": "/machine/peripheral/disk-root/virtio-backend", "stats": {"rd_bytes": 5, "wr_operations": 2, "failed_wr_operations": 1}},
        ]);
        let got = counters("root", "disk-root", &stats);
        assert_eq!((got.read_bytes, got.write_requests, got.errors), (5, 2, 1));
        assert_eq!(counters("x", "disk-x", &stats), DiskCounters { disk: "x".into(), ..DiskCounters::default() });
    }
}
