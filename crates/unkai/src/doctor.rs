//! `unkai doctor`: what this machine offers, what is missing, and the command that mends it.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

/// One finding. `Missing` stops servers from running; `Lacking` makes them slower or fewer.
enum Verdict {
    Good(String),
    Lacking { what: String, mend: String },
    Missing { what: String, mend: String },
}

pub fn run() -> Result<()> {
    let mut missing = 0;
    for (name, verdict) in checks() {
        match verdict {
            Verdict::Good(what) => println!("good     {name:<15} {what}"),
            Verdict::Lacking { what, mend } => println!("lacking  {name:<15} {what}; {mend}"),
            Verdict::Missing { what, mend } => {
                missing += 1;
                println!("missing  {name:<15} {what}; {mend}");
            }
        }
    }
    if missing > 0 {
        bail!("{missing} things are missing");
    }
    Ok(())
}

fn checks() -> Vec<(&'static str, Verdict)> {
    vec![
        ("user", root()),
        ("virtualisation", virtualisation()),
        ("qemu", program("qemu-system-x86_64", &["--version"], "qemu-system-x86")),
        ("qemu-img", program("qemu-img", &["--version"], "qemu-utils")),
        ("nftables", program("nft", &["--version"], "nftables")),
        ("namespaces", namespaces()),
        ("tun", device("/dev/net/tun", "modprobe tun")),
        ("bridge rules", bridge_rules()),
        ("memory", memory()),
        ("disk", disk()),
    ]
}

fn root() -> Verdict {
    if nix::unistd::geteuid().is_root() {
        return Verdict::Good("root".into());
    }
    Verdict::Missing { what: "the agent needs root to make namespaces and devices".into(), mend: "run it with sudo".into() }
}

fn virtualisation() -> Verdict {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flagged = cpu.split_whitespace().any(|word| word == "vmx" || word == "svm");
    match (flagged, Path::new("/dev/kvm").exists()) {
        (true, true) => Verdict::Good("KVM".into()),
        (true, false) => {
            Verdict::Lacking { what: "the processor can, /dev/kvm is not there".into(), mend: "modprobe kvm_intel or kvm_amd".into() }
        }
        (false, _) => {
            Verdict::Lacking { what: "no vmx or svm: software emulation, slower".into(), mend: "use a machine with virtualisation".into() }
        }
    }
}

fn program(name: &str, arguments: &[&str], package: &str) -> Verdict {
    match Command::new(name).args(arguments).output() {
        Ok(output) => Verdict::Good(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned()),
        Err(_) => Verdict::Missing { what: format!("{name} is not installed"), mend: format!("apt-get install {package}") },
    }
}

fn namespaces() -> Verdict {
    if Path::new("/proc/self/ns/net").exists() {
        return Verdict::Good("network namespaces".into());
    }
    Verdict::Missing { what: "the kernel has no network namespaces".into(), mend: "use a kernel with CONFIG_NET_NS".into() }
}

fn device(path: &str, mend: &str) -> Verdict {
    if Path::new(path).exists() {
        return Verdict::Good(path.into());
    }
    Verdict::Missing { what: format!("{path} is not there"), mend: mend.into() }
}

fn bridge_rules() -> Verdict {
    if Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables").exists() {
        return Verdict::Good("br_netfilter".into());
    }
    Verdict::Missing { what: "br_netfilter is not loaded: security groups cannot be stateful".into(), mend: "modprobe br_netfilter".into() }
}

fn memory() -> Verdict {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available =
        text.lines().find_map(|line| line.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    match available.map(|kib| kib / 1024) {
        Some(mib) if mib >= 1024 => Verdict::Good(format!("{mib} MiB available")),
        other => Verdict::Lacking { what: format!("{} MiB available", other.unwrap_or(0)), mend: "few servers will fit".into() },
    }
}

fn disk() -> Verdict {
    let free = nix::sys::statvfs::statvfs("/var/lib").map(|s| (s.blocks_available() * s.fragment_size()) >> 30);
    match free {
        Ok(gib) if gib >= 5 => Verdict::Good(format!("{gib} GiB free in /var/lib")),
        Ok(gib) => Verdict::Lacking { what: format!("{gib} GiB free in /var/lib"), mend: "give --state a larger disk".into() },
        Err(e) => Verdict::Lacking { what: format!("/var/lib: {e}"), mend: "give --state a disk".into() },
    }
}
