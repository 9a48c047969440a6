//! The next step for a server. Pure.

use serde::{Deserialize, Serialize};
use unkai_link::item::ServerItem;
use unkai_link::migration::{MigrationItem, Role};
use unkai_model::compute::{Run, StopReason};

use super::moving::plan::{self as moving, Here, Note, Say};

/// What the agent did last for this server; kept in its ledger.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Done {
    /// The newest generation that was reached.
    pub generation: u64,
    pub incarnation: u64,
    pub hard_reboots: u64,
    pub soft_reboots: u64,
    /// What its definition was made from.
    pub shape: Option<Shape>,
    /// Ports that have devices here: port and network.
    pub ports: Vec<(String, String)>,
    pub launched: bool,
    /// The last move that this host took part in.
    pub moving: Option<Note>,
}

/// What cannot change while it runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Shape {
    pub vcpus: u32,
    pub memory_mib: u64,
    pub root_gib: u64,
    pub ephemeral_gib: u64,
    pub swap_mib: u64,
    pub rescue: bool,
}

impl Shape {
    pub fn of(item: &ServerItem) -> Self {
        Shape {
            vcpus: item.vcpus,
            memory_mib: item.memory_mib,
            root_gib: item.root_gib,
            ephemeral_gib: item.ephemeral_gib,
            swap_mib: item.swap_mib,
            rescue: item.rescue.is_some(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    Off,
    Running,
    Paused,
    Suspended,
}

/// The machine as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Local {
    /// Anything of it exists here: directory, process, devices.
    pub traces: bool,
    pub defined: bool,
    pub power: Power,
    /// Ports of its definition, in order.
    pub nics: Vec<String>,
    /// Volumes of its definition, in order.
    pub volumes: Vec<String>,
    /// Why it went off without having been asked to.
    pub exit: Option<StopReason>,
    /// What needs a lease may be started now.
    pub lease: bool,
    /// Of a guest that comes from another host.
    pub here: Here,
    pub done: Done,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Everything of it goes.
    Remove,
    /// Throw the root disk away.
    DiscardRoot,
    Define,
    Launch,
    Resume,
    Pause,
    Suspend,
    DiscardSaved,
    /// Ask the guest to power off, and insist when it does not.
    ShutDown,
    PowerOff,
    SoftReboot,
    Plug(String),
    Unplug(String),
    PlugVolume(String),
    UnplugVolume(String),
    /// A part of a move between hosts.
    Move(moving::Step),
}

/// What to do next; none when all is as wanted.
pub fn next(item: &ServerItem, local: &Local) -> Option<Step> {
    if matches!(item.run, Run::Deleted | Run::Offloaded) && !arrives(item) {
        return local.traces.then_some(Step::Remove);
    }
    match moving::next(item, local.done.moving.as_ref(), local.here) {
        Say::Do(step) => return Some(Step::Move(step)),
        Say::Wait => return None,
        Say::Nothing => {}
    }
    if !local.defined {
        return Some(Step::Define);
    }
    rebuild(item, local)
        .or_else(|| reshape(item, local))
        .or_else(|| power(item, local))
        .or_else(|| nics(item, local))
        .or_else(|| volumes(item, local))
}

/// It is another host's, and may come back.
pub fn is_kept(item: &ServerItem) -> bool {
    matches!(item.migration, Some(MigrationItem { role: Role::Keep, .. }))
}

/// It is another host's as yet.
pub fn arrives(item: &ServerItem) -> bool {
    matches!(item.migration, Some(MigrationItem { role: Role::Arrive { .. }, .. }))
}

fn rebuild(item: &ServerItem, local: &Local) -> Option<Step> {
    if item.incarnation <= local.done.incarnation {
        return None;
    }
    Some(match local.power {
        Power::Off => Step::DiscardRoot,
        Power::Suspended => Step::DiscardSaved,
        Power::Running | Power::Paused => Step::PowerOff,
    })
}

fn reshape(item: &ServerItem, local: &Local) -> Option<Step> {
    let shape = Shape::of(item);
    let fits = local.done.shape.as_ref() == Some(&shape);
    if fits && (local.power != Power::Off || (local.nics == item.ports && local.volumes == wanted_volumes(item))) {
        return None;
    }
    let rescues = local.done.shape.as_ref().is_some_and(|old| old.rescue != shape.rescue);
    Some(match local.power {
        Power::Off => Step::Define,
        Power::Suspended => Step::DiscardSaved,
        Power::Running | Power::Paused if rescues => Step::PowerOff,
        Power::Running | Power::Paused => Step::ShutDown,
    })
}

fn power(item: &ServerItem, local: &Local) -> Option<Step> {
    let on = matches!(local.power, Power::Running | Power::Paused);
    let hard = item.hard_reboots > local.done.hard_reboots;
    if hard && on {
        return Some(Step::PowerOff);
    }
    match (item.run, local.power) {
        _ if waits(item, local) => None,
        (Run::Running | Run::Paused, Power::Off) => may_launch(item, local).then_some(Step::Launch),
        (Run::Running | Run::Paused, Power::Suspended) => Some(if hard { Step::DiscardSaved } else { Step::Launch }),
        (Run::Running, Power::Paused) => Some(Step::Resume),
        (Run::Running, Power::Running) => (item.soft_reboots > local.done.soft_reboots).then_some(Step::SoftReboot),
        (Run::Paused, Power::Running) => Some(Step::Pause),
        (Run::Suspended, Power::Running | Power::Paused) => Some(Step::Suspend),
        (Run::Stopped | Run::Shelved, Power::Running | Power::Paused) => {
            Some(if item.off_at_once { Step::PowerOff } else { Step::ShutDown })
        }
        (Run::Stopped | Run::Shelved, Power::Suspended) => Some(Step::DiscardSaved),
        _ => None,
    }
}

/// A guest that went off by itself stays off until something new is asked; one that is to be available is started again when it did not
/// mean to.
fn may_launch(item: &ServerItem, local: &Local) -> bool {
    local.exit.is_none() || item.generation > local.done.generation || restarts(item, local)
}

/// Is it to be started again although nobody asks?
pub fn restarts(item: &ServerItem, local: &Local) -> bool {
    item.leased && matches!(local.exit, Some(StopReason::Killed(_) | StopReason::GuestPanic))
}

/// Would it be started if there were a lease?
pub fn waits(item: &ServerItem, local: &Local) -> bool {
    let to_start = match local.power {
        Power::Off => may_launch(item, local),
        Power::Suspended => true,
        Power::Running | Power::Paused => false,
    };
    to_start && item.leased && !local.lease && matches!(item.run, Run::Running | Run::Paused)
}

fn nics(item: &ServerItem, local: &Local) -> Option<Step> {
    if !matches!(local.power, Power::Running | Power::Paused) {
        return None;
    }
    let gone = local.nics.iter().find(|port| !item.ports.contains(port)).map(|port| Step::Unplug(port.clone()));
    gone.or_else(|| item.ports.iter().find(|port| !local.nics.contains(port)).map(|port| Step::Plug(port.clone())))
}

fn wanted_volumes(item: &ServerItem) -> Vec<String> {
    item.volumes.iter().map(|volume| volume.volume.clone()).collect()
}

/// What a guest had before it was saved it has until it runs again.
fn volumes(item: &ServerItem, local: &Local) -> Option<Step> {
    if !matches!(local.power, Power::Running | Power::Paused) {
        return None;
    }
    let wanted = wanted_volumes(item);
    let gone = local.volumes.iter().find(|volume| !wanted.contains(volume)).map(|volume| Step::UnplugVolume(volume.clone()));
    gone.or_else(|| wanted.into_iter().find(|volume| !local.volumes.contains(volume)).map(Step::PlugVolume))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use unkai_link::item::GuestData;
    use unkai_link::volume::{Backend, VolumeUse};

    pub(in crate::server) fn item(run: Run) -> ServerItem {
        ServerItem {
            id: "s".into(),
            generation: 2,
            run,
            incarnation: 0,
            off_at_once: false,
            hard_reboots: 0,
            soft_reboots: 0,
            vcpus: 1,
            memory_mib: 128,
            root_gib: 1,
            ephemeral_gib: 0,
            swap_mib: 0,
            image: None,
            kernel: None,
            ramdisk: None,
            hardware: Default::default(),
            config_drive: false,
            ports: vec!["p".into()],
            rescue: None,
            volumes: Vec::new(),
            leased: false,
            migration: None,
            guest: GuestData::default(),
        }
    }

    fn local(power: Power) -> Local {
        let done = Done { generation: 1, shape: Some(Shape::of(&item(Run::Running))), ..Done::default() };
        Local {
            traces: true,
            defined: true,
            power,
            nics: vec!["p".into()],
            volumes: vec![],
            exit: None,
            lease: false,
            here: Here::default(),
            done,
        }
    }

    #[test]
    fn every_wish_leads_from_every_state_in_few_steps() {
        use Power::*;
        let table = [
            (Run::Running, Off, Some(Step::Launch)),
            (Run::Running, Running, None),
            (Run::Running, Paused, Some(Step::Resume)),
            (Run::Running, Suspended, Some(Step::Launch)),
            (Run::Stopped, Off, None),
            (Run::Stopped, Running, Some(Step::ShutDown)),
            (Run::Stopped, Paused, Some(Step::ShutDown)),
            (Run::Stopped, Suspended, Some(Step::DiscardSaved)),
            (Run::Paused, Off, Some(Step::Launch)),
            (Run::Paused, Running, Some(Step::Pause)),
            (Run::Paused, Paused, None),
            (Run::Suspended, Running, Some(Step::Suspend)),
            (Run::Suspended, Suspended, None),
            (Run::Shelved, Running, Some(Step::ShutDown)),
            (Run::Offloaded, Off, Some(Step::Remove)),
            (Run::Deleted, Running, Some(Step::Remove)),
        ];
        for (run, power, step) in table {
            assert_eq!(next(&item(run), &local(power)), step, "{run:?} from {power:?}");
        }
    }

    #[test]
    fn nothing_is_removed_twice() {
        let gone = Local { traces: false, defined: false, ..local(Power::Off) };
        assert_eq!(next(&item(Run::Deleted), &gone), None);
        assert_eq!(next(&item(Run::Running), &gone), Some(Step::Define));
    }

    #[test]
    fn a_guest_that_went_off_by_itself_stays_off_until_asked_again() {
        let mut off = Local { exit: Some(StopReason::GuestShutdown), ..local(Power::Off) };
        off.done.generation = 2;
        assert_eq!(next(&item(Run::Running), &off), None);
        off.done.generation = 1;
        assert_eq!(next(&item(Run::Running), &off), Some(Step::Launch));
    }

    #[test]
    fn what_needs_a_lease_is_started_only_with_one_and_again_when_it_was_killed() {
        let item = ServerItem { leased: true, ..item(Run::Running) };
        let mut off = local(Power::Off);
        off.done.generation = 2;
        for (exit, starts) in [
            (None, true),
            (Some(StopReason::Killed("killed by signal 9".into())), true),
            (Some(StopReason::GuestPanic), true),
            (Some(StopReason::GuestShutdown), false),
        ] {
            let with = Local { exit: exit.clone(), lease: true, ..off.clone() };
            assert_eq!(next(&item, &with), starts.then_some(Step::Launch), "{exit:?}");
            let without = Local { exit: exit.clone(), lease: false, ..off.clone() };
            assert_eq!((next(&item, &without), waits(&item, &without)), (None, starts), "{exit:?}");
        }
        let saved = local(Power::Suspended);
        assert_eq!(next(&item, &saved), None);
        assert_eq!(next(&item, &Local { lease: true, ..saved }), Some(Step::Launch));
        assert_eq!(next(&item, &local(Power::Running)), None, "whether it may go on is the guard's to say");
    }

    #[test]
    fn reboots_happen_once() {
        let hard = ServerItem { hard_reboots: 1, ..item(Run::Running) };
        assert_eq!(next(&hard, &local(Power::Running)), Some(Step::PowerOff));
        assert_eq!(next(&hard, &local(Power::Off)), Some(Step::Launch));
        let mut rebooted = local(Power::Running);
        rebooted.done.hard_reboots = 1;
        assert_eq!(next(&hard, &rebooted), None);
        let soft = ServerItem { soft_reboots: 1, ..item(Run::Running) };
        assert_eq!(next(&soft, &local(Power::Running)), Some(Step::SoftReboot));
    }

    #[test]
    fn rebuild_and_resize_go_through_off() {
        let rebuilt = ServerItem { incarnation: 1, ..item(Run::Running) };
        assert_eq!(next(&rebuilt, &local(Power::Running)), Some(Step::PowerOff));
        assert_eq!(next(&rebuilt, &local(Power::Off)), Some(Step::DiscardRoot));
        let resized = ServerItem { memory_mib: 256, ..item(Run::Running) };
        assert_eq!(next(&resized, &local(Power::Running)), Some(Step::ShutDown));
        assert_eq!(next(&resized, &local(Power::Off)), Some(Step::Define));
    }

    #[test]
    fn volumes_are_plugged_while_running_and_defined_while_off() {
        let volume = |id: &str| VolumeUse {
            volume: id.into(),
            generation: 1,
            backend: Backend::Files { dir: "/pool".into() },
            encryption: None,
            device: "/dev/vdb".into(),
            boot_index: None,
            bus: None,
            read_only: false,
            shared: false,
            tag: None,
        };
        let two = ServerItem { volumes: vec![volume("a"), volume("b")], ..item(Run::Running) };
        let with = |power, volumes: &[&str]| Local { volumes: volumes.iter().map(|id| (*id).to_owned()).collect(), ..local(power) };
        for power in [Power::Running, Power::Paused] {
            let run = if power == Power::Running { Run::Running } else { Run::Paused };
            let two = ServerItem { run, ..two.clone() };
            assert_eq!(next(&two, &with(power, &["b"])), Some(Step::PlugVolume("a".into())));
            assert_eq!(next(&two, &with(power, &["b", "c", "a"])), Some(Step::UnplugVolume("c".into())));
            assert_eq!(next(&two, &with(power, &["b", "a"])), None, "order does not matter to a guest that runs");
        }
        assert_eq!(next(&two, &with(Power::Off, &["b", "a"])), Some(Step::Define));
        assert_eq!(next(&two, &with(Power::Off, &["a", "b"])), Some(Step::Launch));
        assert_eq!(next(&two, &with(Power::Suspended, &["a"])), Some(Step::Launch), "first it is what it was");
    }

    #[test]
    fn interfaces_are_plugged_while_running_and_defined_while_off() {
        let two = ServerItem { ports: vec!["p".into(), "q".into()], ..item(Run::Running) };
        assert_eq!(next(&two, &local(Power::Running)), Some(Step::Plug("q".into())));
        assert_eq!(next(&two, &local(Power::Off)), Some(Step::Define));
        let none = ServerItem { ports: vec![], ..item(Run::Running) };
        assert_eq!(next(&none, &local(Power::Running)), Some(Step::Unplug("p".into())));
    }
}
