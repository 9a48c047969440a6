//! The sorts of failures, and the storms that are made of them.

use crate::source::Chance;

/// What a storm is made of: how many of 100 failures are of each sort.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mix {
    /// A machine loses power, and its agent with it.
    pub power: u64,
    /// An agent dies.
    pub agent: u64,
    /// A wire closes what runs over it.
    pub cut: u64,
    /// A wire holds everything back.
    pub partition: u64,
    /// A wire carries everything, late.
    pub lag: u64,
    /// An agent says again what it has said, and begins again with what it was told.
    pub repeat: u64,
    /// A machine's steps take seconds.
    pub slow: u64,
    /// An agent is stopped for a while; its guests and the guard of its leases go on.
    pub stopped_agent: u64,
    /// A whole machine stands still for a while, guests and guard with it.
    pub stopped_machine: u64,
    /// A controller dies.
    pub controller: u64,
    /// A controller is stopped for a while.
    pub stopped_controller: u64,
    /// A host's clock begins to run at another speed, or the cloud's time of day jumps, or an operator sets other times.
    pub clock: u64,
    /// Hosts' clocks run up to this many thousandths fast or slow.
    pub drift: u64,
    /// So many controllers share the store.
    pub controllers: usize,
}

const CALM: Mix = Mix {
    power: 0,
    agent: 0,
    cut: 0,
    partition: 0,
    lag: 0,
    repeat: 0,
    slow: 0,
    stopped_agent: 0,
    stopped_machine: 0,
    controller: 0,
    stopped_controller: 0,
    clock: 0,
    drift: 0,
    controllers: 1,
};

/// A kind of storm.
#[derive(Debug)]
pub struct Kind {
    pub name: &'static str,
    pub about: &'static str,
    pub mix: Mix,
}

pub const KINDS: &[Kind] = &[
    Kind { name: "calm", about: "nothing fails", mix: CALM },
    Kind { name: "power", about: "machines lose power", mix: Mix { power: 100, ..CALM } },
    Kind {
        name: "partition",
        about: "wires are cut, or hold everything back; clocks drift",
        mix: Mix { cut: 30, partition: 70, drift: 5, ..CALM },
    },
    Kind {
        name: "controllers",
        about: "the one controller dies, and agents, wires and machines beside it",
        mix: Mix { power: 10, agent: 20, cut: 10, controller: 60, ..CALM },
    },
    Kind {
        name: "slow",
        about: "disks are slow: steps on hosts take seconds, while machines and agents die",
        mix: Mix { slow: 45, power: 20, agent: 15, partition: 15, controller: 5, ..CALM },
    },
    Kind {
        name: "clocks",
        about: "hosts' clocks run up to 1 % fast or slow and change, the time of day jumps, operators set other times",
        mix: Mix { clock: 40, power: 20, partition: 30, controller: 10, drift: 10, ..CALM },
    },
    Kind {
        name: "echo",
        about: "words come late, and again after a reconnect; items are sent again",
        mix: Mix { lag: 35, repeat: 35, cut: 15, agent: 10, power: 5, controllers: 2, ..CALM },
    },
    Kind {
        name: "stopped",
        about: "controllers, agents and whole machines stand still, wake up and act late",
        mix: Mix {
            stopped_agent: 30,
            stopped_machine: 15,
            stopped_controller: 35,
            controller: 10,
            power: 10,
            drift: 5,
            controllers: 3,
            ..CALM
        },
    },
    Kind {
        name: "everything",
        about: "all of it, with three controllers",
        mix: Mix {
            power: 14,
            agent: 8,
            cut: 8,
            partition: 14,
            lag: 8,
            repeat: 6,
            slow: 8,
            stopped_agent: 8,
            stopped_machine: 4,
            controller: 8,
            stopped_controller: 8,
            clock: 6,
            drift: 10,
            controllers: 3,
        },
    },
];

pub fn find(name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.name == name)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    Power,
    Agent,
    Cut,
    Partition,
    Lag,
    Repeat,
    Slow,
    StoppedAgent,
    StoppedMachine,
    Controller,
    StoppedController,
    Clock,
}

impl Mix {
    fn shares(&self) -> [(Failure, u64); 12] {
        [
            (Failure::Power, self.power),
            (Failure::Agent, self.agent),
            (Failure::Cut, self.cut),
            (Failure::Partition, self.partition),
            (Failure::Lag, self.lag),
            (Failure::Repeat, self.repeat),
            (Failure::Slow, self.slow),
            (Failure::StoppedAgent, self.stopped_agent),
            (Failure::StoppedMachine, self.stopped_machine),
            (Failure::Controller, self.controller),
            (Failure::StoppedController, self.stopped_controller),
            (Failure::Clock, self.clock),
        ]
    }

    /// The next failure; none as often as the shares leave room.
    pub fn draw(&self, chance: &mut Chance) -> Option<Failure> {
        let mut draw = chance.below(100);
        for (failure, share) in self.shares() {
            match draw.checked_sub(share) {
                Some(rest) => draw = rest,
                None => return Some(failure),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_100_and_names_are_one_kind_each() {
        for kind in KINDS {
            let sum: u64 = kind.mix.shares().iter().map(|(_, share)| share).sum();
            assert!(sum == 100 || kind.name == "calm" && sum == 0, "{} has {sum}", kind.name);
            assert_eq!(find(kind.name).map(|found| found.about), Some(kind.about));
        }
    }
}
