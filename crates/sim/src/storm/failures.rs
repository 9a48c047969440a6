//! What fails in a storm, and how it comes back.

use std::sync::MutexGuard;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use unkai_control::availability;
use unkai_model::Error;

use super::mix::Failure;
use super::{STEP, Storm};
use crate::cloud::{ControllerProcess, Task};
use crate::host::{self, Agent};
use crate::wire::{self, Wire};

/// The most by which the time of day is set.
const HOUR_MS: u64 = 3_600_000;

impl Storm {
    pub(super) async fn fail(&mut self) {
        let victim = self.chance.below(self.boxes.len() as u64) as usize;
        if let Some(failure) = self.plan.mix.draw(&mut self.chance) {
            self.outcome.failures += 1;
            self.strike(failure, victim).await;
        }
        // What failed before comes back, one thing at a time.
        let healed = self.chance.below(self.boxes.len() as u64) as usize;
        if self.chance.percent(70) && healed != victim {
            self.heal(healed);
        }
        if self.chance.percent(60) {
            let number = self.chance.below(self.plan.mix.controllers as u64) as usize;
            self.revive(number);
        }
    }

    async fn strike(&mut self, failure: Failure, victim: usize) {
        tracing::info!(at = ?self.began.elapsed(), ?failure, host = %self.boxes[victim].machine.host, "strikes");
        let seconds = |chance: &mut crate::source::Chance, most: u64| Duration::from_millis(200 + chance.below(most * 1000));
        match failure {
            Failure::Power => {
                let one = &mut self.boxes[victim];
                (one.agent, one.guard) = (None, None);
                one.machine.power_off();
            }
            Failure::Agent => self.boxes[victim].agent = None,
            Failure::Cut => drop(self.boxes[victim].wire.send_replace(Wire::Cut)),
            Failure::Partition => drop(self.boxes[victim].wire.send_replace(Wire::Holds)),
            Failure::Lag => {
                let late = seconds(&mut self.chance, 4);
                self.boxes[victim].wire.send_replace(Wire::Lags(late));
            }
            Failure::Repeat => self.boxes[victim].machine.repeat(),
            Failure::Slow => {
                let slow = seconds(&mut self.chance, 12);
                self.boxes[victim].machine.set_slow(slow);
            }
            Failure::StoppedAgent => {
                // Its connection lives on in the kernel, and keeps what comes.
                self.boxes[victim].wire.send_replace(Wire::Holds);
                self.boxes[victim].agent_gate.close();
            }
            Failure::StoppedMachine => {
                let one = &self.boxes[victim];
                one.wire.send_replace(Wire::Holds);
                one.machine.freeze();
                one.agent_gate.close();
                one.guard_gate.close();
            }
            Failure::Controller => {
                let number = self.chance.below(self.plan.mix.controllers as u64) as usize;
                self.lock_controllers()[number] = None;
            }
            Failure::StoppedController => {
                let number = self.chance.below(self.plan.mix.controllers as u64) as usize;
                if let Some(controller) = &self.lock_controllers()[number] {
                    controller.gate.close();
                }
            }
            Failure::Clock => self.clock(victim).await,
        }
    }

    async fn clock(&mut self, victim: usize) {
        match self.chance.below(3) {
            0 => {
                let pace = self.draw_pace();
                self.boxes[victim].machine.set_clock(pace);
            }
            1 => {
                let millis = self.chance.below(2 * HOUR_MS) as i64 - HOUR_MS as i64;
                self.source.step(millis);
            }
            _ => self.set_times().await,
        }
    }

    pub(super) fn draw_pace(&mut self) -> f64 {
        let drift = self.plan.mix.drift;
        1.0 + (self.chance.below(2 * drift + 1) as f64 - drift as f64) / 1000.0
    }

    /// Leases longer than the silence, and shorter.
    pub(super) async fn set_times(&mut self) {
        let (silence, lease) = (3_000 + self.chance.below(7_000), 3_000 + self.chance.below(9_000));
        let change = availability::Change { silence_ms: Some(silence), lease_ms: Some(lease), ..Default::default() };
        if let Err(error) = self.store.transact(move |tx| availability::set(tx, &change)).await {
            self.outcome.broken.push(error.to_string());
        }
    }

    pub(super) fn power_on(&mut self, number: usize) {
        let one = &mut self.boxes[number];
        one.guard.get_or_insert_with(|| Task::spawn(one.guard_gate.clone().hold(one.machine.clone().guard())));
        let controllers = self.controllers.clone();
        let agent = Agent { machine: one.machine.clone(), inventory: host::inventory(one.machine.host.as_str()), pace: STEP };
        let (host, wire) = (one.machine.host.clone(), one.wire.subscribe());
        let tries = AtomicUsize::new(number);
        let dial = move || {
            let controllers = controllers.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            let controller = &controllers[tries.fetch_add(1, Ordering::Relaxed) % controllers.len()];
            let stream = controller.as_ref().and_then(|controller| wire::connect_over(controller, &host, wire.clone()));
            std::future::ready(stream.ok_or_else(|| Error::unavailable("nobody answers")))
        };
        one.agent = Some(Task::spawn(one.agent_gate.clone().hold(agent.run(dial))));
    }

    fn lock_controllers(&self) -> MutexGuard<'_, Vec<Option<ControllerProcess>>> {
        self.controllers.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn revive(&self, number: usize) {
        self.lock_controllers()[number].get_or_insert_with(|| ControllerProcess::start(&self.store)).gate.open();
    }

    fn heal(&mut self, number: usize) {
        let one = &self.boxes[number];
        tracing::info!(at = ?self.began.elapsed(), host = %one.machine.host, "healed");
        one.guard_gate.open();
        one.agent_gate.open();
        one.machine.thaw();
        one.machine.set_slow(Duration::ZERO);
        one.wire.send_replace(Wire::Carries);
        if one.agent.is_none() {
            self.power_on(number);
        }
    }

    pub(super) fn mend(&mut self) {
        (0..self.plan.mix.controllers).for_each(|number| self.revive(number));
        (0..self.boxes.len()).for_each(|number| self.heal(number));
    }
}
