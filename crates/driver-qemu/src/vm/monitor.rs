//! The task that watches one QEMU: its events, its connection, its process, and the length of its console log.
//!
//! A connection that breaks is made again as long as the process lives. What was missed meanwhile is asked for: QEMU keeps a guest that
//! ended paused in the state `shutdown` or `guest-panicked` until told to quit.

use super::{EventKind, RunState, Shared, Status};
use crate::console;
use crate::exit::{Ended, Exit, decide};
use crate::qmp::{CLOSED, Qmp, QmpEvent};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

const TRIM_EVERY: Duration = Duration::from_secs(10);
const SIGNAL_PATIENCE: Duration = Duration::from_millis(500);
/// After the process is gone, its last words may still be on their way through the socket.
const LAST_WORDS: Duration = Duration::from_millis(200);

pub(crate) async fn run(shared: Arc<Shared>, mut events: Receiver<QmpEvent>) {
    let mut connected = resync(&shared, &mut events).await;
    let mut trim = tokio::time::interval(TRIM_EVERY);
    let ended = loop {
        if !connected {
            tokio::select! {
                ended = shared.process.wait() => break ended,
                fresh = reconnect(&shared) => events = fresh,
            }
            connected = true;
        }
        tokio::select! {
            biased;
            event = events.recv() => match event {
                Ok(event) if event.name == CLOSED => connected = false,
                Ok(event) => apply(&shared, &event).await,
                Err(RecvError::Lagged(missed)) => {
                    tracing::warn!(server = %shared.id, missed, "QEMU floods events; asking for its state instead");
                    connected = resync(&shared, &mut events).await;
                }
                Err(RecvError::Closed) => connected = false,
            },
            ended = shared.process.wait() => break ended,
            _ = trim.tick() => trim_console(&shared),
        }
    };
    let _ = tokio::time::timeout(LAST_WORDS, drain(&shared, &mut events)).await;
    finish(&shared, ended);
}

/// Applies what is still in the pipe, up to its end.
async fn drain(shared: &Arc<Shared>, events: &mut Receiver<QmpEvent>) {
    loop {
        match events.try_recv() {
            Ok(event) if event.name == CLOSED => return,
            Ok(event) => note(shared, &event),
            Err(TryRecvError::Lagged(_)) => {}
            Err(TryRecvError::Closed) => return,
            Err(TryRecvError::Empty) if shared.qmp().is_closed() => return,
            Err(TryRecvError::Empty) => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
}

async fn reconnect(shared: &Arc<Shared>) -> Receiver<QmpEvent> {
    let mut pause = Duration::from_millis(50);
    loop {
        tokio::time::sleep(pause).await;
        match Qmp::connect(&shared.dir.qmp_socket(), Duration::from_secs(5)).await {
            Ok(qmp) => {
                let mut events = qmp.events();
                *super::lock(&shared.qmp) = qmp;
                if resync(shared, &mut events).await {
                    return events;
                }
            }
            Err(error) => {
                tracing::warn!(server = %shared.id, %error, "no connection to QEMU; trying again");
                pause = (pause * 2).min(Duration::from_secs(5));
            }
        }
    }
}

/// Makes the status what QEMU says it is now. False when the connection is gone.
async fn resync(shared: &Arc<Shared>, events: &mut Receiver<QmpEvent>) -> bool {
    // An answer is older than an event that came after the question: then it is asked again.
    let status = loop {
        let status = match shared.qmp().run("query-status").await {
            Ok(value) => value["status"].as_str().unwrap_or_default().to_owned(),
            Err(error) => {
                tracing::debug!(server = %shared.id, %error, "state not known");
                return !shared.qmp().is_closed();
            }
        };
        // Events that came before the answer know more than the answer: a signal, too, leads to the state "shutdown".
        let mut overtaken = false;
        while let Ok(event) = events.try_recv() {
            if event.name == CLOSED {
                return false;
            }
            apply(shared, &event).await;
            overtaken = true;
        }
        if !overtaken {
            break status;
        }
    };
    match status.as_str() {
        "shutdown" if shared.intent().seen.shutdown.is_some() => {}
        "shutdown" => guest_ended(shared, "guest-shutdown").await,
        "guest-panicked" => panicked(shared).await,
        other => {
            if let Some(state) = run_state(other) {
                set_state(shared, state);
            }
        }
    }
    true
}

pub(crate) fn run_state(status: &str) -> Option<RunState> {
    match status {
        "running" => Some(RunState::Running),
        "paused" | "prelaunch" | "inmigrate" | "io-error" | "postmigrate" | "finish-migrate" | "save-vm" | "restore-vm" | "watchdog"
        | "internal-error" | "debug" | "colo" => Some(RunState::Paused),
        // the guest sleeps by itself (ACPI S3) and wakes by itself
        "suspended" => Some(RunState::Running),
        "shutdown" | "guest-panicked" => Some(RunState::Ending),
        _ => None,
    }
}

/// What an event says about how the process will have ended. Pure bookkeeping.
fn note(shared: &Shared, event: &QmpEvent) {
    let text = |pointer: &str| event.data.pointer(pointer).and_then(Value::as_str);
    match event.name.as_str() {
        // The first one counts: our quit after a guest's shutdown is announced too.
        "SHUTDOWN" => {
            shared.intent().seen.shutdown.get_or_insert_with(|| text("/reason").unwrap_or("unknown").to_owned());
        }
        "GUEST_PANICKED" => shared.intent().seen.panicked = true,
        _ => {}
    }
}

async fn apply(shared: &Arc<Shared>, event: &QmpEvent) {
    tracing::debug!(server = %shared.id, event = %event.name, data = %event.data, "QEMU says");
    let text = |name: &str| event.data.get(name).and_then(Value::as_str).unwrap_or_default();
    let flag = |name: &str| event.data.get(name).and_then(Value::as_bool).unwrap_or(false);
    match event.name.as_str() {
        "SHUTDOWN" if text("reason").starts_with("guest-") || text("reason") == "subsystem-reset" => {
            guest_ended(shared, text("reason")).await
        }
        "SHUTDOWN" => {
            note(shared, event);
            // QEMU obeys a signal by itself, but was seen to wait for ever on a command of ours that came at that moment.
            shared.make_sure(SIGNAL_PATIENCE);
        }
        "GUEST_PANICKED" => panicked(shared).await,
        "STOP" => set_state(shared, RunState::Paused),
        "RESUME" => set_state(shared, RunState::Running),
        "RESET" => {
            shared.resets.send_modify(|n| *n += 1);
            shared.emit(EventKind::Reset { by_guest: flag("guest") });
        }
        "BLOCK_IO_ERROR" => {
            let disk = [text("node-name"), text("device")].into_iter().find(|t| !t.is_empty()).unwrap_or("unknown").to_owned();
            let paused = text("action") == "stop";
            tracing::warn!(server = %shared.id, %disk, reason = text("reason"), paused, "disk error");
            shared.emit(EventKind::DiskError { disk, no_space: flag("nospace"), paused });
        }
        _ => {}
    }
}

async fn guest_ended(shared: &Arc<Shared>, reason: &str) {
    let reboot = std::mem::take(&mut shared.intent().reboot);
    if reboot {
        match restart(shared).await {
            Ok(()) => return,
            Err(error) => tracing::warn!(server = %shared.id, %error, "the second half of a reboot failed; the server is off"),
        }
    }
    shared.intent().seen.shutdown = Some(reason.to_owned());
    set_state(shared, RunState::Ending);
    shared.end().await;
}

/// From the state `shutdown` to running again, in the same process.
async fn restart(shared: &Arc<Shared>) -> crate::Result<()> {
    let qmp = shared.qmp();
    qmp.run("system_reset").await?;
    // The reset happens in QEMU's main loop a moment later; until then it refuses to continue.
    for _ in 0..500 {
        if qmp.run("cont").await.is_ok() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    qmp.run("cont").await.map(drop)
}

async fn panicked(shared: &Arc<Shared>) {
    shared.intent().seen.panicked = true;
    set_state(shared, RunState::Ending);
    shared.end().await;
}

fn set_state(shared: &Shared, state: RunState) {
    let changed = shared.status.send_if_modified(|status| {
        let ending = status.state == RunState::Ending || status.state == RunState::Exited;
        let change = status.state != state && !ending;
        if change {
            status.state = state;
        }
        change
    });
    match state {
        RunState::Running if changed => shared.emit(EventKind::Resumed),
        RunState::Paused if changed => shared.emit(EventKind::Paused),
        _ => {}
    }
}

fn finish(shared: &Arc<Shared>, ended: Ended) {
    let log = console::tail(&shared.dir.qemu_log(), Some(20), 16 * 1024).unwrap_or_default();
    let exit = Exit::now(decide(&shared.intent().seen, ended, &String::from_utf8_lossy(&log)));
    tracing::info!(server = %shared.id, pid = shared.process.id.pid, reason = ?exit.reason, "QEMU ended");
    shared.record_regardless(|ledger| {
        ledger.process = None;
        ledger.last_exit = Some(exit.clone());
    });
    if let Some(parent) = &shared.config.cgroup_parent {
        crate::cgroup::remove(parent, shared.id);
    }
    shared.status.send_replace(Status { state: RunState::Exited, exit: Some(exit.clone()) });
    shared.emit(EventKind::Exited(exit));
}

fn trim_console(shared: &Shared) {
    for log in [shared.dir.console_log(), shared.dir.qemu_log()] {
        if let Err(error) = console::trim(&log, shared.config.console_bytes) {
            tracing::debug!(server = %shared.id, %error, log = %log.display(), "trim log");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_of_qemu_is_placed() {
        // RunState in QEMU's schema; "colo" and "preconfig" never happen here
        for (name, state) in [
            ("running", RunState::Running),
            ("suspended", RunState::Running),
            ("paused", RunState::Paused),
            ("io-error", RunState::Paused),
            ("shutdown", RunState::Ending),
            ("guest-panicked", RunState::Ending),
        ] {
            assert_eq!(run_state(name), Some(state));
        }
        assert_eq!(run_state("something-new"), None);
    }
}
