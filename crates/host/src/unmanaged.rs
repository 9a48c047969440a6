//! Virtual machines on this machine that are not ours: they are shown, and left alone.
//!
//! Processes tell of what runs, whoever started it; libvirt's definitions tell of domains that are off.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use unkai_model::compute::Unmanaged;

/// What runs or is defined here, except the servers below `ours`.
pub fn find(ours: &Path) -> Vec<Unmanaged> {
    let mut found = BTreeMap::new();
    for machine in processes(ours) {
        found.insert(machine.id.clone(), machine);
    }
    if Path::new("/run/libvirt/libvirt-sock").exists() || Path::new("/var/run/libvirt/libvirt-sock").exists() {
        for machine in domains(Path::new("/etc/libvirt/qemu")) {
            found.entry(machine.id.clone()).or_insert(machine);
        }
    }
    let mut found: Vec<_> = found.into_values().collect();
    found.sort();
    found
}

fn processes(ours: &Path) -> Vec<Unmanaged> {
    let ours = ours.to_string_lossy().into_owned();
    let pids = fs::read_dir("/proc").into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let words: Vec<String> = line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
        machine(pid, &words, &ours)
    })
    .collect()
}

/// A process's command line as a virtual machine, if it is one and not ours.
fn machine(pid: u32, words: &[String], ours: &str) -> Option<Unmanaged> {
    let program = words.first()?.rsplit('/').next()?;
    let is_qemu = program.starts_with("qemu-system-") || program == "qemu-kvm" || program == "kvm";
    if !is_qemu || words.iter().any(|word| word.contains(ours)) {
        return None;
    }
    let after = |option: &str| words.windows(2).find(|pair| pair[0] == option).map(|pair| pair[1].as_str());
    let name = after("-name").unwrap_or_default();
    let part = |text: &str, key: &str| text.split(',').find_map(|part| part.strip_prefix(key).map(str::to_owned));
    // libvirt always says `guest=`.
    let guest = part(name, "guest=");
    let by = if guest.is_some() { "libvirt" } else { "qemu" };
    let plain = name.split(',').next().filter(|name| !name.is_empty()).map(str::to_owned);
    let memory = after("-m").map(|text| part(text, "size=").unwrap_or_else(|| text.split(',').next().unwrap_or_default().to_owned()));
    let vcpus = after("-smp").map(|text| part(text, "cpus=").unwrap_or_else(|| text.split(',').next().unwrap_or_default().to_owned()));
    Some(Unmanaged {
        by: by.into(),
        name: guest.or(plain).unwrap_or_else(|| format!("process {pid}")),
        id: after("-uuid").map_or_else(|| format!("pid-{pid}"), str::to_owned),
        state: "running".into(),
        memory_mib: memory.as_deref().map_or(128, mebibytes),
        vcpus: vcpus.and_then(|text| text.parse().ok()).unwrap_or(1),
    })
}

/// As QEMU reads sizes of memory: mebibytes unless it says otherwise.
fn mebibytes(text: &str) -> u64 {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().unwrap_or(0);
    match text[digits.len()..].chars().next().map(|unit| unit.to_ascii_lowercase()) {
        Some('k') => number / 1024,
        Some('g') => number * 1024,
        Some('t') => number * 1024 * 1024,
        Some('b') => number >> 20,
        _ => number,
    }
}

fn domains(dir: &Path) -> Vec<Unmanaged> {
    let files = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    files
        .filter(|path| path.extension().is_some_and(|extension| extension == "xml"))
        .filter_map(|path| domain(&fs::read_to_string(path).ok()?))
        .collect()
}

/// The few facts of a domain's definition that are shown; libvirt writes each on a line of its own.
fn domain(xml: &str) -> Option<Unmanaged> {
    let element = |name: &str| {
        let start = xml.find(&format!("<{name}"))?;
        let text = &xml[start..];
        Some(text[text.find('>')? + 1..text.find("</")?].trim().to_owned())
    };
    Some(Unmanaged {
        by: "libvirt".into(),
        name: element("name")?,
        id: element("uuid")?,
        state: "off".into(),
        memory_mib: element("memory").and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024,
        vcpus: element("vcpu").and_then(|count| count.parse().ok()).unwrap_or(1),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn processes_are_recognised() {
        let bare = machine(7, &words("/usr/bin/qemu-system-x86_64 -name web -m 2G -smp 4 -uuid u1"), "/var/lib/unkai").unwrap();
        assert_eq!((bare.by.as_str(), bare.name.as_str(), bare.memory_mib, bare.vcpus), ("qemu", "web", 2048, 4));
        let nameless = machine(7, &words("qemu-system-aarch64 -m size=65536k"), "/var/lib/unkai").unwrap();
        assert_eq!((nameless.name.as_str(), nameless.id.as_str(), nameless.memory_mib), ("process 7", "pid-7", 64));
        let theirs = machine(7, &words("/usr/bin/kvm -name guest=db,debug-threads=on -uuid u2 -smp cpus=2,cores=1"), "/x").unwrap();
        assert_eq!((theirs.by.as_str(), theirs.name.as_str(), theirs.vcpus), ("libvirt", "db", 2));
        assert_eq!(machine(7, &words("qemu-system-x86_64 -qmp unix:/var/lib/unkai/servers/a/qmp"), "/var/lib/unkai/servers"), None);
        assert_eq!(machine(7, &words("vim qemu-system-x86_64"), "/x"), None);
    }

    #[test]
    fn definitions_are_read() {
        let xml = "<domain type='kvm'>\n  <name>mail</name>\n  <uuid>u3</uuid>\n  <memory unit='KiB'>1048576</memory>\n  <vcpu placement='static'>2</vcpu>\n</domain>";
        let domain = domain(xml).unwrap();
        assert_eq!((domain.name.as_str(), domain.state.as_str(), domain.memory_mib, domain.vcpus), ("mail", "off", 1024, 2));
    }
}
