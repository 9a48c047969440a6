//! Power: every call may be repeated, and ends in the state it names.

use super::{RunState, Vm};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::ledger::Desired;
use serde_json::json;
use std::time::Duration;

/// A guest that is still starting misses the first press of its power button.
const PRESS_AGAIN: Duration = Duration::from_secs(8);
const STATE_CHANGE: Duration = Duration::from_secs(10);

impl Vm {
    /// Asks the guest to shut down; after `deadline` it is switched off.
    pub async fn stop(&self, deadline: Duration) -> Result<Exit> {
        let _operation = self.shared.operation.lock().await;
        self.shared.record_regardless(|ledger| ledger.desired = Desired::Stopped);
        let reacts = self.status().state == RunState::Running;
        if reacts && let Some(exit) = self.shut_down(deadline).await? {
            return Ok(exit);
        }
        self.switch_off().await
    }

    /// Switches the machine off at once.
    pub async fn kill(&self) -> Result<Exit> {
        self.shared.record_regardless(|ledger| ledger.desired = Desired::Stopped);
        self.switch_off().await
    }

    async fn switch_off(&self) -> Result<Exit> {
        self.shared.intent().seen.asked = true;
        self.shared.end().await;
        Ok(self.exited().await)
    }

    /// Presses the power button until the guest is off or the time is over.
    async fn shut_down(&self, deadline: Duration) -> Result<Option<Exit>> {
        let off = async {
            loop {
                match self.shared.qmp().run("system_powerdown").await {
                    Ok(_) | Err(Error::Disconnected(_)) => {}
                    Err(e) => return Err(e),
                }
                if let Some(exit) = self.exited_within(PRESS_AGAIN).await {
                    return Ok(exit);
                }
            }
        };
        tokio::time::timeout(deadline, off).await.ok().transpose()
    }

    /// Restarts the machine as the reset button does.
    pub async fn reset(&self) -> Result<()> {
        let _operation = self.shared.operation.lock().await;
        self.hard_reset().await
    }

    async fn hard_reset(&self) -> Result<()> {
        self.shared.running()?;
        let mut resets = self.shared.resets.subscribe();
        resets.mark_unchanged();
        self.shared.qmp().run("system_reset").await?;
        let _ = tokio::time::timeout(STATE_CHANGE, resets.changed()).await;
        if self.status().state == RunState::Paused {
            self.shared.qmp().run("cont").await?;
            self.reach(RunState::Running).await?;
        }
        Ok(())
    }

    /// Asks the guest to shut down and starts it again, in the same process; after `deadline` the reset button is pressed.
    pub async fn soft_reboot(&self, deadline: Duration) -> Result<()> {
        let _operation = self.shared.operation.lock().await;
        self.shared.running()?;
        if self.status().state != RunState::Running {
            return self.hard_reset().await;
        }
        let mut resets = self.shared.resets.subscribe();
        resets.mark_unchanged();
        self.shared.intent().reboot = true;
        let restarted = async {
            loop {
                self.shared.qmp().run("system_powerdown").await?;
                if let Ok(changed) = tokio::time::timeout(PRESS_AGAIN, resets.changed()).await {
                    return changed.map_err(|_| Error::NotRunning(self.shared.id));
                }
            }
        };
        let outcome = tokio::time::timeout(deadline, restarted).await;
        // `restart` took the intent if the guest shut down; if it did not, it must not be taken by a later shutdown.
        let still_waiting = std::mem::take(&mut self.shared.intent().reboot);
        match outcome {
            Ok(Ok(())) if !still_waiting => self.reach(RunState::Running).await,
            Ok(Err(error)) => Err(error),
            // the guest rebooted by itself, or did not react
            Ok(Ok(())) => Ok(()),
            Err(_) => self.hard_reset().await,
        }
    }

    pub async fn pause(&self) -> Result<()> {
        let _operation = self.shared.operation.lock().await;
        self.shared.running()?;
        self.shared.qmp().run("stop").await?;
        self.reach(RunState::Paused).await
    }

    /// Undoes [`Vm::pause`], and continues a guest that stands still after a disk error.
    pub async fn resume(&self) -> Result<()> {
        let _operation = self.shared.operation.lock().await;
        self.shared.running()?;
        self.shared.qmp().run("cont").await?;
        self.reach(RunState::Running).await
    }

    /// Presses Ctrl-Alt-Del on the guest's keyboard.
    pub async fn ctrl_alt_del(&self) -> Result<()> {
        let key = |code: &str| json!({"type": "qcode", "data": code});
        let keys = [key("ctrl"), key("alt"), key("delete")];
        self.shared.qmp().execute("send-key", json!({"keys": keys})).await.map(drop)
    }

    pub(crate) async fn reach(&self, state: RunState) -> Result<()> {
        let mut status = self.shared.status.subscribe();
        let reached = status.wait_for(|s| s.state == state || s.state == RunState::Exited);
        match tokio::time::timeout(STATE_CHANGE, reached).await {
            Ok(Ok(status)) if status.state == state => Ok(()),
            Ok(_) => Err(Error::NotRunning(self.shared.id)),
            Err(_) => Err(Error::Timeout { command: format!("change to {state:?}"), within: STATE_CHANGE }),
        }
    }
}
