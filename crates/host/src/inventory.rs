//! What this machine is and has.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;

use jiff::Timestamp;
use unkai_link::report::Inventory;

pub fn read(
    dir: &Path,
    address: Option<IpAddr>,
    underlay: Option<IpAddr>,
    physical: BTreeSet<String>,
    qemu_version: u64,
    kvm: bool,
) -> Inventory {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    Inventory {
        host_name: machine_name(),
        agent_version: env!("CARGO_PKG_VERSION").into(),
        vcpus: std::thread::available_parallelism().map_or(1, |n| n.get() as i64),
        memory_mib: memory_mib(&fs::read_to_string("/proc/meminfo").unwrap_or_default()),
        disk_gib: disk_gib(dir),
        cpu_model: line(&cpu, "model name").unwrap_or_else(|| "unknown".into()),
        cpu_arch: std::env::consts::ARCH.into(),
        traits: traits(&cpu, kvm),
        hypervisor: if kvm { "QEMU (KVM)".into() } else { "QEMU".into() },
        hypervisor_version: qemu_version,
        address,
        underlay,
        booted: booted(&fs::read_to_string("/proc/stat").unwrap_or_default()),
        physical_networks: physical,
        facts: facts(Path::new("/sys")),
        unmanaged: Vec::new(),
    }
}

/// Processors' nodes, disks and network devices, in words for operators.
fn facts(sys: &Path) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    let read = |path: std::path::PathBuf| fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
    for node in entries(&sys.join("devices/system/node")).filter(|name| name.starts_with("node") && name[4..].parse::<u32>().is_ok()) {
        let dir = sys.join("devices/system/node").join(&node);
        let memory = fs::read_to_string(dir.join("meminfo")).unwrap_or_default();
        let kib = memory.lines().find_map(|line| line.split_once("MemTotal:")?.1.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
        facts.insert(format!("numa.{node}"), format!("processors {}, {} MiB", read(dir.join("cpulist")), kib.unwrap_or(0) / 1024));
    }
    for disk in entries(&sys.join("block")).filter(|name| !name.starts_with("loop") && !name.starts_with("ram")) {
        let dir = sys.join("block").join(&disk);
        let sectors: u64 = read(dir.join("size")).parse().unwrap_or(0);
        let kind = if read(dir.join("queue/rotational")) == "1" { "rotating" } else { "solid" };
        if sectors > 0 {
            facts.insert(format!("disk.{disk}"), format!("{} MiB, {kind}", sectors / 2048));
        }
    }
    // Devices of hardware only: what has a device behind it, not what we and others make.
    for nic in entries(&sys.join("class/net")).filter(|name| sys.join("class/net").join(name).join("device").exists()) {
        let dir = sys.join("class/net").join(&nic);
        let speed =
            read(dir.join("speed")).parse::<i64>().ok().filter(|mbps| *mbps > 0).map_or(String::new(), |mbps| format!(", {mbps} Mbit/s"));
        facts.insert(
            format!("nic.{nic}"),
            format!("{}, mtu {}, {}{speed}", read(dir.join("address")), read(dir.join("mtu")), read(dir.join("operstate"))),
        );
    }
    facts
}

fn entries(dir: &Path) -> impl Iterator<Item = String> {
    fs::read_dir(dir).into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().into_string().ok())
}

pub fn machine_name() -> String {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_else(|| "host".into())
}

/// The address of this machine that packets to the controller carry; nothing is sent.
pub fn address_towards(controller: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = if controller.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(controller).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}

/// The hypervisor's version as one number, 10000002 for 10.0.2; 0 when it cannot be run.
pub async fn qemu_version() -> u64 {
    let output = tokio::process::Command::new("qemu-system-x86_64").arg("--version").output().await;
    output.ok().and_then(|output| version_number(&String::from_utf8_lossy(&output.stdout))).unwrap_or(0)
}

fn version_number(text: &str) -> Option<u64> {
    let version = text.split_whitespace().skip_while(|word| *word != "version").nth(1)?;
    let mut parts = version.split('.').map(|part| part.parse::<u64>().ok());
    Some(parts.next()?? * 1_000_000 + parts.next()?? * 1_000 + parts.next().flatten().unwrap_or(0))
}

fn line(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| line.strip_prefix(name)?.split_once(':').map(|(_, value)| value.trim().to_owned()))
}

fn memory_mib(meminfo: &str) -> i64 {
    line(meminfo, "MemTotal").and_then(|value| value.strip_suffix(" kB")?.trim().parse::<i64>().ok()).map_or(0, |kib| kib / 1024)
}

fn disk_gib(dir: &Path) -> i64 {
    nix::sys::statvfs::statvfs(dir).map_or(0, |s| ((s.blocks() * s.fragment_size()) >> 30) as i64)
}

fn booted(stat: &str) -> Option<Timestamp> {
    let seconds = stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<i64>().ok())?;
    Timestamp::from_second(seconds).ok()
}

/// Processor flags as the field's standard traits name them.
fn traits(cpuinfo: &str, kvm: bool) -> BTreeSet<String> {
    const FLAGS: [(&str, &str); 12] = [
        ("aes", "HW_CPU_X86_AESNI"),
        ("avx", "HW_CPU_X86_AVX"),
        ("avx2", "HW_CPU_X86_AVX2"),
        ("avx512f", "HW_CPU_X86_AVX512F"),
        ("bmi1", "HW_CPU_X86_BMI"),
        ("bmi2", "HW_CPU_X86_BMI2"),
        ("fma", "HW_CPU_X86_FMA3"),
        ("sse4_1", "HW_CPU_X86_SSE41"),
        ("sse4_2", "HW_CPU_X86_SSE42"),
        ("ssse3", "HW_CPU_X86_SSSE3"),
        ("svm", "HW_CPU_X86_SVM"),
        ("vmx", "HW_CPU_X86_VMX"),
    ];
    let flags: BTreeSet<String> = line(cpuinfo, "flags").unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    let mut traits: BTreeSet<String> = FLAGS.iter().filter(|(flag, _)| flags.contains(*flag)).map(|(_, name)| (*name).to_owned()).collect();
    traits.insert(if kvm { "CUSTOM_ACCEL_KVM".into() } else { "CUSTOM_ACCEL_TCG".into() });
    traits.insert("COMPUTE_NODE".into());
    traits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_read_from_proc() {
        let cpu = "processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu aes avx2 svm\n";
        assert_eq!(line(cpu, "model name").as_deref(), Some("AMD EPYC"));
        let found = traits(cpu, false);
        assert!(found.contains("HW_CPU_X86_AESNI") && found.contains("HW_CPU_X86_SVM") && !found.contains("HW_CPU_X86_AVX"));
        assert_eq!(memory_mib("MemTotal:       24689664 kB\nMemFree: 1 kB\n"), 24111);
        assert_eq!(version_number("QEMU emulator version 10.0.2 (Debian 1:10.0.2)"), Some(10_000_002));
        assert_eq!(booted("cpu 1\nbtime 1700000000\n").unwrap().as_second(), 1_700_000_000);
    }
}
