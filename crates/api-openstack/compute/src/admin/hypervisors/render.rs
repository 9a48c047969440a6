//! A host as the versions show a hypervisor, and the sums over all.

use serde_json::{Value, json};
use unkai_model::Timestamp;
use unkai_model::compute::{Host, Server};
use unkai_store::View;

use crate::Microversion;
use crate::admin::services::Service;

/// What of a host exists and what is given out.
pub struct Usage {
    pub vcpus: i64,
    pub vcpus_used: i64,
    pub memory_mb: i64,
    pub memory_mb_used: i64,
    pub local_gb: i64,
    pub local_gb_used: i64,
    pub running_vms: usize,
    /// Servers that are being made or changed.
    pub current_workload: usize,
}

impl Usage {
    pub fn of(view: &View, host: &Host) -> Self {
        let total = |class: &str| host.capacity.get(class).map_or(0, |capacity| capacity.total);
        let reserved = |class: &str| host.capacity.get(class).map_or(0, |capacity| capacity.reserved);
        let used = |class: &'static str| view.tally(class, host.meta.id.as_str()) + reserved(class);
        let (mut running_vms, mut current_workload) = (0, 0);
        for server in view.by_index::<Server>("host", host.meta.id.as_str()) {
            running_vms += 1;
            current_workload += usize::from(!server.is_settled());
        }
        Usage {
            vcpus: total("VCPU"),
            vcpus_used: view.tally("VCPU", host.meta.id.as_str()),
            memory_mb: total("MEMORY_MB"),
            memory_mb_used: used("MEMORY_MB"),
            local_gb: total("DISK_GB"),
            local_gb_used: used("DISK_GB"),
            running_vms,
            current_workload,
        }
    }

    pub fn add(&mut self, other: &Usage) {
        self.vcpus += other.vcpus;
        self.vcpus_used += other.vcpus_used;
        self.memory_mb += other.memory_mb;
        self.memory_mb_used += other.memory_mb_used;
        self.local_gb += other.local_gb;
        self.local_gb_used += other.local_gb_used;
        self.running_vms += other.running_vms;
        self.current_workload += other.current_workload;
    }

    pub fn none() -> Self {
        Usage {
            vcpus: 0,
            vcpus_used: 0,
            memory_mb: 0,
            memory_mb_used: 0,
            local_gb: 0,
            local_gb_used: 0,
            running_vms: 0,
            current_workload: 0,
        }
    }

    pub fn render(&self) -> Value {
        json!({
            "vcpus": self.vcpus,
            "vcpus_used": self.vcpus_used,
            "memory_mb": self.memory_mb,
            "memory_mb_used": self.memory_mb_used,
            "free_ram_mb": self.memory_mb - self.memory_mb_used,
            "local_gb": self.local_gb,
            "local_gb_used": self.local_gb_used,
            "free_disk_gb": self.local_gb - self.local_gb_used,
            "disk_available_least": self.local_gb - self.local_gb_used,
            "running_vms": self.running_vms,
            "current_workload": self.current_workload,
        })
    }
}

pub fn brief(view: &View, host: &Host, version: Microversion) -> Value {
    let service = Service::compute(view, host);
    let id = if version.at_least(53) { json!(host.meta.id) } else { json!(host.number) };
    json!({ "id": id, "hypervisor_hostname": host.meta.name, "state": service.state(), "status": service.status() })
}

pub fn full(view: &View, host: &Host, version: Microversion) -> Value {
    let mut shown = brief(view, host, version);
    let service = Service::compute(view, host);
    let status = &host.status;
    shown["hypervisor_type"] = json!(if status.hypervisor.is_empty() { "QEMU" } else { &status.hypervisor });
    shown["hypervisor_version"] = json!(status.hypervisor_version);
    shown["host_ip"] = json!(status.address.map(|address| address.to_string()).unwrap_or_default());
    let service_id = if version.at_least(53) { json!(service.id) } else { json!(service.number) };
    shown["service"] = json!({ "id": service_id, "host": service.host, "disabled_reason": service.reason() });
    if version.at_least(88) {
        shown["uptime"] = json!(uptime(host, Timestamp::now()));
        return shown;
    }
    if let (Value::Object(shown), Value::Object(usage)) = (&mut shown, Usage::of(view, host).render()) {
        shown.extend(usage);
    }
    let cpu = json!({ "arch": status.cpu_arch, "model": status.cpu_model });
    shown["cpu_info"] = if version.at_least(28) { cpu } else { json!(cpu.to_string()) };
    shown
}

pub fn servers(view: &View, host: &Host) -> Vec<Value> {
    let servers = view.by_index::<Server>("host", host.meta.id.as_str());
    servers.map(|server| json!({ "uuid": server.meta.id, "name": server.meta.name })).collect()
}

/// As the command of that name begins its line; none while the host does not answer.
pub fn uptime(host: &Host, now: Timestamp) -> Option<String> {
    let booted = host.status.booted.filter(|_| host.is_up())?;
    let minutes = (now.as_second() - booted.as_second()).max(0) / 60;
    let (days, hours, minutes) = (minutes / 1440, minutes / 60 % 24, minutes % 60);
    let clock = &unkai_openstack::iso_z(now)[11..19];
    let plural = if days == 1 { "day" } else { "days" };
    Some(format!(" {clock} up {days} {plural}, {hours:>2}:{minutes:02}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use unkai_model::compute::Reachability;

    #[test]
    fn uptime_counts_from_the_boot_of_a_host_that_answers() {
        let host = serde_json::json!({"meta": {"id": "h", "name": "h"}, "status": {"booted": "2026-01-01T00:00:00Z"}});
        let mut host: Host = serde_json::from_value(host).unwrap();
        let now = "2026-01-03T01:05:09Z".parse().unwrap();
        assert_eq!(uptime(&host, now), None);
        host.status.reachability = Reachability::Up;
        assert_eq!(uptime(&host, now).as_deref(), Some(" 01:05:09 up 2 days,  1:05"));
    }
}
