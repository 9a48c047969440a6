//! Why a QEMU process ended: decided from what QEMU announced, what we asked for, and what the kernel says, in this order.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitReason {
    /// The guest powered itself off, asked to by ACPI or not.
    GuestShutdown,
    /// The guest's kernel panicked.
    GuestPanic,
    /// This driver ended it.
    Stopped,
    /// Somebody on the host killed it: an operator, or the kernel for want of memory.
    HostKill { signal: Option<i32> },
    /// QEMU gave up; its own words.
    QemuError { text: String },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    pub reason: ExitReason,
    pub at: Timestamp,
}

impl Exit {
    pub fn now(reason: ExitReason) -> Exit {
        Exit { reason, at: Timestamp::now() }
    }
}

/// How the process itself ended, where that can be known: only its parent is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Code(i32),
    Signal(i32),
    Unknown,
}

/// What was seen while the process lived.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// `reason` of QEMU's SHUTDOWN event.
    pub shutdown: Option<String>,
    pub panicked: bool,
    pub asked: bool,
}

/// Signals a program gets for its own faults, not from somebody else.
const FAULTS: [i32; 6] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT, libc::SIGSYS];

pub fn decide(seen: &Seen, ended: Ended, log_tail: &str) -> ExitReason {
    if seen.panicked || seen.shutdown.as_deref() == Some("guest-panic") {
        return ExitReason::GuestPanic;
    }
    match seen.shutdown.as_deref() {
        Some("guest-shutdown" | "guest-reset" | "subsystem-reset") => return ExitReason::GuestShutdown,
        Some("host-signal") => return ExitReason::HostKill { signal: terminating_signal(log_tail) },
        Some("host-error") => return ExitReason::QemuError { text: last_words(log_tail) },
        _ => {}
    }
    if seen.asked {
        return ExitReason::Stopped;
    }
    match ended {
        Ended::Signal(signal) if FAULTS.contains(&signal) => {
            ExitReason::QemuError { text: format!("QEMU crashed with signal {signal}: {}", last_words(log_tail)) }
        }
        Ended::Signal(signal) => ExitReason::HostKill { signal: Some(signal) },
        Ended::Code(0) => match terminating_signal(log_tail) {
            Some(signal) => ExitReason::HostKill { signal: Some(signal) },
            None => ExitReason::Stopped,
        },
        Ended::Code(code) => ExitReason::QemuError { text: format!("exit status {code}: {}", last_words(log_tail)) },
        Ended::Unknown => ExitReason::HostKill { signal: terminating_signal(log_tail) },
    }
}

/// QEMU writes "terminating on signal N from pid P" before it obeys one.
fn terminating_signal(log: &str) -> Option<i32> {
    let (_, after) = log.rsplit_once("terminating on signal ")?;
    after.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// The last lines of the log, bounded, for a person.
pub fn last_words(log: &str) -> String {
    let lines: Vec<&str> = log.lines().filter(|l| !l.trim().is_empty()).collect();
    let text = lines[lines.len().saturating_sub(3)..].join("; ");
    let text: String = text.chars().filter(|c| !c.is_control()).take(600).collect();
    if text.is_empty() { "QEMU said nothing".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        use Ended::*;
        use ExitReason::*;
        let seen =
            |shutdown: &str, panicked, asked| Seen { shutdown: (!shutdown.is_empty()).then(|| shutdown.to_owned()), panicked, asked };
        let error = |text: &str| QemuError { text: text.to_owned() };
        let term = "2026-01-01T00:00:00.000000Z qemu-system-x86_64: terminating on signal 15 from pid 77 (kill)\n";
        let table = [
            // the guest's own doing wins over the quit that follows it
            (seen("guest-shutdown", false, false), Code(0), "", GuestShutdown),
            (seen("guest-shutdown", false, true), Code(0), "", GuestShutdown),
            (seen("guest-shutdown", false, false), Unknown, "", GuestShutdown),
            (seen("guest-shutdown", false, false), Signal(9), "", GuestShutdown),
            (seen("", true, true), Code(0), "", GuestPanic),
            (seen("guest-panic", false, false), Code(0), "", GuestPanic),
            (seen("host-qmp-quit", false, true), Code(0), "", Stopped),
            (seen("", false, true), Signal(9), "", Stopped),
            (seen("", false, true), Unknown, "", Stopped),
            (seen("", false, false), Code(0), "", Stopped),
            // somebody else's
            (seen("", false, false), Signal(9), "", HostKill { signal: Some(9) }),
            (seen("host-signal", false, false), Code(0), term, HostKill { signal: Some(15) }),
            (seen("", false, false), Code(0), term, HostKill { signal: Some(15) }),
            (seen("", false, false), Unknown, "", HostKill { signal: None }),
            (seen("", false, false), Unknown, term, HostKill { signal: Some(15) }),
            // QEMU's
            (seen("", false, false), Code(1), "a\n\nno space\n", error("exit status 1: a; no space")),
            (seen("", false, false), Signal(6), "Assertion\n", error("QEMU crashed with signal 6: Assertion")),
            (seen("host-error", false, false), Code(1), "", error("QEMU said nothing")),
        ];
        for (seen, ended, log, reason) in table {
            assert_eq!(decide(&seen, ended, log), reason, "{seen:?} {ended:?} {log}");
        }
    }
}
