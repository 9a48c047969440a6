//! Nova's view of a server's state: vm state, task state, power state and status, derived from its document and nothing else.
//!
//! While a verb is on its way the server shows the state it was asked in, with the verb's task; once the agent has settled, what
//! the agent saw decides.

use unkai_model::compute::{Asked, Phase, ResizeState, Run, Server, Verb, VmState};

/// A snapshot of the server's disk that is being taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Snapshot {
    Waiting,
    Uploading,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    pub vm: VmState,
    pub task: Option<&'static str>,
    /// 0 no state, 1 running, 3 paused, 4 shut down, 7 suspended.
    pub power: u8,
}

impl State {
    pub fn of(server: &Server, snapshot: Option<Snapshot>) -> State {
        let (vm, task) = vm_and_task(server, snapshot);
        State { vm, task, power: power(server) }
    }

    pub fn vm_name(&self) -> &'static str {
        vm_name(self.vm)
    }

    /// The word that the API calls `status`.
    pub fn status(&self) -> &'static str {
        let task = self.task.unwrap_or("");
        let rebuilding = task.starts_with("rebuild");
        let resizing = task.starts_with("resize_") && task != "resize_reverting";
        match self.vm {
            VmState::Active if rebuilding => "REBUILD",
            VmState::Active if task == "migrating" => "MIGRATING",
            VmState::Active if resizing => "RESIZE",
            VmState::Active if task == "rebooting" => "REBOOT",
            VmState::Active if task == "rebooting_hard" => "HARD_REBOOT",
            VmState::Active => "ACTIVE",
            VmState::Building => "BUILD",
            VmState::Stopped if rebuilding => "REBUILD",
            VmState::Stopped if resizing => "RESIZE",
            VmState::Stopped => "SHUTOFF",
            VmState::Resized if task == "resize_reverting" => "REVERT_RESIZE",
            VmState::Resized => "VERIFY_RESIZE",
            VmState::Paused => "PAUSED",
            VmState::Suspended => "SUSPENDED",
            VmState::Rescued => "RESCUE",
            VmState::Error if rebuilding => "REBUILD",
            VmState::Error => "ERROR",
            VmState::Deleted => "DELETED",
            VmState::Shelved => "SHELVED",
            VmState::ShelvedOffloaded => "SHELVED_OFFLOADED",
        }
    }
}

/// All words that [`State::status`] can say, and those that the original knows beside them.
pub const STATUSES: &[&str] = &[
    "ACTIVE",
    "BUILD",
    "DELETED",
    "ERROR",
    "HARD_REBOOT",
    "MIGRATING",
    "PASSWORD",
    "PAUSED",
    "REBOOT",
    "REBUILD",
    "RESCUE",
    "RESIZE",
    "REVERT_RESIZE",
    "SHELVED",
    "SHELVED_OFFLOADED",
    "SHUTOFF",
    "SOFT_DELETED",
    "SUSPENDED",
    "UNKNOWN",
    "VERIFY_RESIZE",
];

pub fn vm_name(vm: VmState) -> &'static str {
    match vm {
        VmState::Building => "building",
        VmState::Active => "active",
        VmState::Paused => "paused",
        VmState::Suspended => "suspended",
        VmState::Stopped => "stopped",
        VmState::Rescued => "rescued",
        VmState::Resized => "resized",
        VmState::Shelved => "shelved",
        VmState::ShelvedOffloaded => "shelved_offloaded",
        VmState::Error => "error",
        VmState::Deleted => "deleted",
    }
}

fn vm_and_task(server: &Server, snapshot: Option<Snapshot>) -> (VmState, Option<&'static str>) {
    if !server.is_live() {
        return (VmState::Deleted, None);
    }
    let asked = server.spec.asked.as_ref();
    if server.spec.run == Run::Deleted {
        return (asked.map_or(VmState::Active, |asked| asked.was), Some("deleting"));
    }
    if let Some(reset) = server.spec.reset.as_ref().filter(|reset| reset.generation == server.meta.generation) {
        return (reset.to, None);
    }
    if server.status.host.is_none() {
        return without_host(server, asked);
    }
    if server.status.migration.is_some() {
        return match asked {
            Some(Asked { verb: Verb::Migrate | Verb::Resize, was, .. }) => (*was, Some("resize_migrating")),
            Some(Asked { verb: Verb::Evacuate, was, .. }) => (*was, Some("rebuilding")),
            _ => (settled(server), Some("migrating")),
        };
    }
    if let Some(asked) = asked.filter(|asked| is_pending(server, asked)) {
        return (asked.was, Some(task(asked.verb, &server.status.observed.phase)));
    }
    match (settled(server), snapshot) {
        (VmState::Shelved, Some(_)) => (asked.map_or(VmState::Active, |asked| asked.was), Some("shelving_image_uploading")),
        (VmState::Shelved, None) if server.spec.run == Run::Offloaded => (VmState::Shelved, Some("shelving_offloading")),
        (vm, Some(Snapshot::Waiting)) => (vm, Some("image_snapshot")),
        (vm, Some(Snapshot::Uploading)) => (vm, Some("image_uploading")),
        (vm, None) => (vm, None),
    }
}

fn without_host(server: &Server, asked: Option<&Asked>) -> (VmState, Option<&'static str>) {
    let failed = server.status.fault.is_some();
    match asked.map(|asked| asked.verb) {
        _ if server.spec.run == Run::Offloaded => (VmState::ShelvedOffloaded, None),
        Some(Verb::Unshelve) if failed => (VmState::ShelvedOffloaded, None),
        Some(Verb::Unshelve) => (VmState::ShelvedOffloaded, Some("unshelving")),
        _ if failed => (VmState::Error, None),
        _ => (VmState::Building, Some("scheduling")),
    }
}

/// The agent is not there yet.
fn is_pending(server: &Server, asked: &Asked) -> bool {
    let observed = &server.status.observed;
    observed.generation < asked.generation || matches!(observed.phase, Phase::Unknown | Phase::Preparing(_))
}

/// The vm state of a server whose agent has done what was asked.
fn settled(server: &Server) -> VmState {
    let resized = server.spec.resize.as_ref().is_some_and(|resize| resize.state != ResizeState::Reverting);
    match &server.status.observed.phase {
        Phase::Unknown | Phase::Preparing(_) => VmState::Building,
        Phase::Failed(_) => VmState::Error,
        Phase::Paused => VmState::Paused,
        Phase::Suspended => VmState::Suspended,
        Phase::Running | Phase::Stopped(_) | Phase::Gone if matches!(server.spec.run, Run::Shelved | Run::Offloaded) => VmState::Shelved,
        Phase::Running | Phase::Stopped(_) if server.spec.rescue.is_some() => VmState::Rescued,
        Phase::Running | Phase::Stopped(_) if resized => VmState::Resized,
        Phase::Running => VmState::Active,
        Phase::Stopped(_) | Phase::Gone => VmState::Stopped,
    }
}

fn task(verb: Verb, phase: &Phase) -> &'static str {
    let step = if let Phase::Preparing(step) = phase { Some(step.as_str()) } else { None };
    match verb {
        Verb::Create if step.is_some_and(|step| !step.contains("network")) => "spawning",
        Verb::Create => "networking",
        Verb::Start => "powering-on",
        Verb::Stop => "powering-off",
        Verb::SoftReboot => "rebooting",
        Verb::HardReboot => "rebooting_hard",
        Verb::LiveMigrate => "migrating",
        Verb::Migrate => "resize_migrating",
        Verb::Evacuate => "rebuild_spawning",
        Verb::Pause => "pausing",
        Verb::Unpause => "unpausing",
        Verb::Suspend => "suspending",
        Verb::Resume => "resuming",
        Verb::Rebuild if step.is_some() => "rebuild_spawning",
        Verb::Rebuild => "rebuilding",
        Verb::Resize if step.is_some() => "resize_finish",
        Verb::Resize => "resize_prep",
        Verb::RevertResize => "resize_reverting",
        Verb::Rescue => "rescuing",
        Verb::Unrescue => "unrescuing",
        Verb::Shelve => "shelving",
        Verb::Offload => "shelving_offloading",
        Verb::Unshelve if step.is_some() => "spawning",
        Verb::Unshelve => "unshelving",
        Verb::Delete => "deleting",
    }
}

fn power(server: &Server) -> u8 {
    match &server.status.observed.phase {
        _ if !server.is_live() => 0,
        _ if server.status.host.is_none() => {
            if server.spec.run == Run::Offloaded {
                4
            } else {
                0
            }
        }
        Phase::Unknown | Phase::Preparing(_) | Phase::Failed(_) => 0,
        Phase::Running => 1,
        Phase::Paused => 3,
        Phase::Stopped(_) | Phase::Gone => 4,
        Phase::Suspended => 7,
    }
}

#[cfg(test)]
mod tests {
    use unkai_model::compute::{Fault, FlavorCopy, Reset, Resize, StopReason};
    use unkai_model::{Id, Timestamp};

    use super::*;
    use crate::servers::fixture;

    /// A server that was made, placed and launched: generation 1 settled.
    fn running() -> Server {
        let mut server = fixture::server("s", "p");
        server.ask(Verb::Create, VmState::Building);
        server.status.host = Some(Id::new("h"));
        server.status.observed.generation = server.meta.generation;
        server.status.observed.phase = Phase::Running;
        server
    }

    fn with(change: impl FnOnce(&mut Server)) -> Server {
        let mut server = running();
        change(&mut server);
        server
    }

    fn asked(verb: Verb, was: VmState, phase: Phase) -> Server {
        with(|s| {
            s.status.observed.phase = phase;
            s.ask(verb, was);
        })
    }

    /// The same once the agent has reported `phase` for what was asked.
    fn reached(mut server: Server, phase: Phase) -> Server {
        server.status.observed.generation = server.meta.generation;
        server.status.observed.phase = phase;
        server
    }

    fn fault() -> Option<Fault> {
        Some(Fault { code: 500, message: "No valid host was found.".into(), details: String::new(), at: Timestamp::UNIX_EPOCH })
    }

    fn resize(state: ResizeState) -> Option<Resize> {
        let from = FlavorCopy::default();
        Some(Resize { from, from_host: None, was: Run::Running, state, since: Timestamp::UNIX_EPOCH })
    }

    const STOPPED: Phase = Phase::Stopped(StopReason::Asked);

    #[test]
    fn a_document_says_its_state() {
        use VmState::*;
        let preparing = |text: &str| Phase::Preparing(text.into());
        let no_host = |s: &mut Server| {
            s.status.host = None;
            s.status.observed = Default::default();
        };
        #[rustfmt::skip]
        let table: Vec<(&str, Server, (&str, VmState, Option<&str>, u8))> = vec![
            ("accepted", with(no_host), ("BUILD", Building, Some("scheduling"), 0)),
            ("nowhere to go", with(|s| { no_host(s); s.status.fault = fault(); }), ("ERROR", Error, None, 0)),
            ("placed", reached(running(), Phase::Unknown), ("BUILD", Building, Some("networking"), 0)),
            ("network", reached(running(), preparing("network")), ("BUILD", Building, Some("networking"), 0)),
            ("disk", reached(running(), preparing("disk")), ("BUILD", Building, Some("spawning"), 0)),
            ("up", running(), ("ACTIVE", Active, None, 1)),
            ("launch failed", reached(running(), Phase::Failed("no kvm".into())), ("ERROR", Error, None, 0)),
            ("stopping", asked(Verb::Stop, Active, Phase::Running), ("ACTIVE", Active, Some("powering-off"), 1)),
            ("stopped", reached(asked(Verb::Stop, Active, Phase::Running), STOPPED), ("SHUTOFF", Stopped, None, 4)),
            ("stopped by itself", reached(running(), Phase::Stopped(StopReason::GuestShutdown)), ("SHUTOFF", Stopped, None, 4)),
            ("killed", reached(running(), Phase::Stopped(StopReason::Killed("9".into()))), ("SHUTOFF", Stopped, None, 4)),
            ("starting", asked(Verb::Start, Stopped, STOPPED), ("SHUTOFF", Stopped, Some("powering-on"), 4)),
            ("soft reboot", asked(Verb::SoftReboot, Active, Phase::Running), ("REBOOT", Active, Some("rebooting"), 1)),
            ("hard reboot", asked(Verb::HardReboot, Active, Phase::Running), ("HARD_REBOOT", Active, Some("rebooting_hard"), 1)),
            ("hard reboot of one that is off", asked(Verb::HardReboot, Stopped, STOPPED), ("SHUTOFF", Stopped, Some("rebooting_hard"), 4)),
            ("pausing", asked(Verb::Pause, Active, Phase::Running), ("ACTIVE", Active, Some("pausing"), 1)),
            ("paused", reached(asked(Verb::Pause, Active, Phase::Running), Phase::Paused), ("PAUSED", Paused, None, 3)),
            ("unpausing", asked(Verb::Unpause, Paused, Phase::Paused), ("PAUSED", Paused, Some("unpausing"), 3)),
            ("suspending", asked(Verb::Suspend, Active, Phase::Running), ("ACTIVE", Active, Some("suspending"), 1)),
            ("suspended", reached(running(), Phase::Suspended), ("SUSPENDED", Suspended, None, 7)),
            ("resuming", asked(Verb::Resume, Suspended, Phase::Suspended), ("SUSPENDED", Suspended, Some("resuming"), 7)),
            ("rebuilding", asked(Verb::Rebuild, Active, Phase::Running), ("REBUILD", Active, Some("rebuilding"), 1)),
            ("rebuilding, half way", reached(asked(Verb::Rebuild, Stopped, STOPPED), preparing("disk")), ("REBUILD", Stopped, Some("rebuild_spawning"), 0)),
            ("rebuild failed", reached(asked(Verb::Rebuild, Active, Phase::Running), Phase::Failed("x".into())), ("ERROR", Error, None, 0)),
            ("rebuilding after failure", asked(Verb::Rebuild, Error, Phase::Failed("x".into())), ("REBUILD", Error, Some("rebuilding"), 0)),
            ("resizing", { let mut s = asked(Verb::Resize, Active, Phase::Running); s.spec.resize = resize(ResizeState::Changing); s }, ("RESIZE", Active, Some("resize_prep"), 1)),
            ("resized", with(|s| s.spec.resize = resize(ResizeState::Changing)), ("VERIFY_RESIZE", Resized, None, 1)),
            ("resized while off", reached(with(|s| s.spec.resize = resize(ResizeState::WaitsForConfirm)), STOPPED), ("VERIFY_RESIZE", Resized, None, 4)),
            ("reverting", { let mut s = asked(Verb::RevertResize, Resized, Phase::Running); s.spec.resize = resize(ResizeState::Reverting); s }, ("REVERT_RESIZE", Resized, Some("resize_reverting"), 1)),
            ("reverted", with(|s| s.spec.resize = resize(ResizeState::Reverting)), ("ACTIVE", Active, None, 1)),
            ("rescuing", asked(Verb::Rescue, Active, Phase::Running), ("ACTIVE", Active, Some("rescuing"), 1)),
            ("rescued", with(|s| s.spec.rescue = Some(unkai_model::compute::Rescue { image: None, admin_password: "x".into() })), ("RESCUE", Rescued, None, 1)),
            ("unrescuing", asked(Verb::Unrescue, Rescued, Phase::Running), ("RESCUE", Rescued, Some("unrescuing"), 1)),
            ("shelving", { let mut s = asked(Verb::Shelve, Active, Phase::Running); s.spec.run = Run::Shelved; s }, ("ACTIVE", Active, Some("shelving"), 1)),
            ("shelved", reached(with(|s| s.spec.run = Run::Shelved), STOPPED), ("SHELVED", Shelved, None, 4)),
            ("offloading", reached(with(|s| s.spec.run = Run::Offloaded), STOPPED), ("SHELVED", Shelved, Some("shelving_offloading"), 4)),
            ("offloaded", with(|s| { no_host(s); s.spec.run = Run::Offloaded; }), ("SHELVED_OFFLOADED", ShelvedOffloaded, None, 4)),
            ("unshelving", { let mut s = asked(Verb::Unshelve, ShelvedOffloaded, Phase::Gone); no_host(&mut s); s }, ("SHELVED_OFFLOADED", ShelvedOffloaded, Some("unshelving"), 0)),
            ("no room to unshelve", { let mut s = asked(Verb::Unshelve, ShelvedOffloaded, Phase::Gone); no_host(&mut s); s.status.fault = fault(); s }, ("SHELVED_OFFLOADED", ShelvedOffloaded, None, 0)),
            ("unshelving, placed", reached(asked(Verb::Unshelve, ShelvedOffloaded, Phase::Gone), preparing("disk")), ("SHELVED_OFFLOADED", ShelvedOffloaded, Some("spawning"), 0)),
            ("deleting", { let mut s = asked(Verb::Delete, Paused, Phase::Paused); s.spec.run = Run::Deleted; s }, ("PAUSED", Paused, Some("deleting"), 3)),
            ("deleted", with(|s| s.status.deleted = Some(Timestamp::UNIX_EPOCH)), ("DELETED", Deleted, None, 0)),
            ("said to be broken", with(|s| s.spec.reset = Some(Reset { to: Error, generation: s.meta.generation })), ("ERROR", Error, None, 1)),
            ("asked after that", { let mut s = with(|s| s.spec.reset = Some(Reset { to: Error, generation: s.meta.generation })); s.ask(Verb::HardReboot, Error); s }, ("ERROR", Error, Some("rebooting_hard"), 1)),
        ];
        for (what, server, (status, vm, task, power)) in table {
            let state = State::of(&server, None);
            assert_eq!((state.status(), state.vm, state.task, state.power), (status, vm, task, power), "{what}");
            assert!(STATUSES.contains(&status));
        }
    }

    #[test]
    fn snapshots_show_as_tasks() {
        let snapshot = |server: &Server, s| State::of(server, Some(s)).task;
        assert_eq!(snapshot(&running(), Snapshot::Waiting), Some("image_snapshot"));
        assert_eq!(snapshot(&running(), Snapshot::Uploading), Some("image_uploading"));
        let mut shelved = reached(asked(Verb::Shelve, VmState::Active, Phase::Running), STOPPED);
        shelved.spec.run = Run::Shelved;
        let state = State::of(&shelved, Some(Snapshot::Uploading));
        assert_eq!((state.status(), state.task), ("ACTIVE", Some("shelving_image_uploading")));
        let reboot = asked(Verb::SoftReboot, VmState::Active, Phase::Running);
        assert_eq!(snapshot(&reboot, Snapshot::Waiting), Some("rebooting"));
    }
}
