//! What this machine offers to guests: hardware virtualisation or software emulation, and the reason.

use serde::{Deserialize, Serialize};
use std::fs::OpenOptions;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Accel {
    Kvm,
    Tcg,
}

/// The accelerator to use and why, in words for an operator.
pub fn detect() -> (Accel, String) {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let device = OpenOptions::new().read(true).write(true).open("/dev/kvm").map(drop);
    decide(&cpuinfo, device.map_err(|e| e.to_string()))
}

/// A /dev/kvm that opens is not enough: some machines show one without the processor being able to virtualise.
fn decide(cpuinfo: &str, device: Result<(), String>) -> (Accel, String) {
    let flag = cpuinfo.lines().filter(|l| l.starts_with("flags")).flat_map(str::split_whitespace).find(|f| matches!(*f, "vmx" | "svm"));
    match (flag, device) {
        (Some(flag), Ok(())) => (Accel::Kvm, format!("processor flag {flag} and /dev/kvm opens")),
        (Some(flag), Err(e)) => (Accel::Tcg, format!("processor flag {flag}, but /dev/kvm does not open: {e}")),
        (None, _) => (Accel::Tcg, "the processor offers neither vmx nor svm".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kvm_needs_flag_and_device() {
        let vmx = "processor : 0\nflags\t\t: fpu vmx sse\n";
        assert_eq!(decide(vmx, Ok(())).0, Accel::Kvm);
        assert_eq!(decide(vmx, Err("Permission denied".into())).0, Accel::Tcg);
        assert_eq!(decide("flags : fpu sse\nbugs: vmx\n", Ok(())).0, Accel::Tcg);
        assert_eq!(decide("", Ok(())).0, Accel::Tcg);
    }
}
