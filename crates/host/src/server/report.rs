//! From the machine's state to the words of a report.

use unkai_driver_qemu::ExitReason;
use unkai_link::item::ServerItem;
use unkai_model::compute::{Phase, Run, StopReason};

use super::plan::{Local, Power};

/// What to report once nothing is left to do.
pub fn phase(item: &ServerItem, local: &Local) -> Phase {
    if matches!(item.run, Run::Deleted | Run::Offloaded) {
        return Phase::Gone;
    }
    match local.power {
        Power::Running => Phase::Running,
        Power::Paused => Phase::Paused,
        Power::Suspended => Phase::Suspended,
        Power::Off => Phase::Stopped(local.exit.clone().unwrap_or_default()),
    }
}

/// Why a guest went off, as its owner is told. None when it was asked to.
pub fn stop_reason(reason: &ExitReason) -> Option<StopReason> {
    match reason {
        ExitReason::Stopped => None,
        ExitReason::GuestShutdown => Some(StopReason::GuestShutdown),
        ExitReason::GuestPanic => Some(StopReason::GuestPanic),
        ExitReason::HostKill { signal: Some(signal) } => Some(StopReason::Killed(format!("killed by signal {signal}"))),
        ExitReason::HostKill { signal: None } => Some(StopReason::Killed("killed".into())),
        ExitReason::QemuError { text } => Some(StopReason::Killed(text.clone())),
    }
}
