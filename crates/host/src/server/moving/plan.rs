//! What a move asks of this host next, from the item and from what was written down. Pure.

use serde::{Deserialize, Serialize};
use unkai_link::item::ServerItem;
use unkai_link::migration::{Method, MigrationItem, MigrationProgress, Role, Stage};

/// What is written down of the last move that this host took part in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Note {
    pub migration: String,
    pub part: Part,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The guest is being sent; it is this host's.
    Leaving,
    /// This host has let go of it.
    HandedOver(MigrationProgress),
    /// It stays; why.
    Stays(String),
    /// Its machine is made ready here, and filled.
    Arriving,
    /// It is this host's, and to be started if that has not happened yet.
    Going,
    Arrived,
    /// It will not be started here in this move; why.
    GaveUp(String),
}

/// What there is of an arriving guest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Here {
    /// Somebody in this process listens, or carries.
    pub attended: bool,
    /// Its machine has all of it.
    pub whole: bool,
    /// Its machine is there.
    pub machine: bool,
    /// There is anything of the server on this host.
    pub traces: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// What is here is left from something else.
    Clear,
    Listen,
    /// The source has let go: the guest is started.
    Begin,
    GiveUp(String),
    Leave,
    /// It is to be off before it leaves.
    SwitchOff,
    /// The guest runs on here.
    TakeBack(Option<String>),
}

/// What the move decides: a step, or that there is nothing to do, or that it has no say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Say {
    Do(Step),
    Wait,
    /// The server is as any other here.
    Nothing,
}

pub fn next(item: &ServerItem, note: Option<&Note>, here: Here) -> Say {
    match &item.migration {
        Some(MigrationItem { id, role: Role::Arrive { released, .. }, abort }) => {
            let part = note.filter(|note| note.migration == *id).map(|note| &note.part);
            arrive(part, here, *released, *abort)
        }
        Some(MigrationItem { id, role: Role::Leave { method, .. }, abort }) => {
            let on = *method == Method::Cold && here.machine;
            leave(note.filter(|note| note.migration == *id).map(|note| &note.part), *abort, on)
        }
        // Its disks stay as they are.
        Some(MigrationItem { role: Role::Keep, .. }) => Say::Wait,
        None => match note.map(|note| &note.part) {
            // It ended without success, or the server came to this host by another way: what arrived before is not it.
            Some(Part::Arriving | Part::GaveUp(_)) => Say::Do(Step::Clear),
            Some(Part::Leaving | Part::HandedOver(_)) => Say::Do(Step::TakeBack(None)),
            Some(Part::Going) => Say::Do(Step::Begin),
            Some(Part::Arrived | Part::Stays(_)) | None => Say::Nothing,
        },
    }
}

fn arrive(part: Option<&Part>, here: Here, released: bool, abort: bool) -> Say {
    match part {
        Some(Part::Going) => Say::Do(Step::Begin),
        Some(Part::Arrived | Part::GaveUp(_)) => Say::Wait,
        Some(Part::Arriving) if here.whole && released => Say::Do(Step::Begin),
        Some(Part::Arriving) if abort => Say::Do(Step::GiveUp("as was asked".into())),
        // Whole and unattended: the source's word may still come by the controller.
        Some(Part::Arriving) if here.attended || here.whole => Say::Wait,
        Some(Part::Arriving) if here.machine => Say::Do(Step::GiveUp("the agent of the destination was started again on the way".into())),
        Some(Part::Arriving) => Say::Do(Step::GiveUp("the machine at the destination ended".into())),
        None if here.traces => Say::Do(Step::Clear),
        None if abort => Say::Do(Step::GiveUp("as was asked".into())),
        None => Say::Do(Step::Listen),
        // It left in the same move that it arrives in: not said by any controller.
        Some(Part::Leaving | Part::HandedOver(_) | Part::Stays(_)) => Say::Wait,
    }
}

fn leave(part: Option<&Part>, abort: bool, on: bool) -> Say {
    match part {
        Some(Part::HandedOver(_)) => Say::Wait,
        // Nobody attends to it: this process has just begun.
        Some(Part::Leaving) => Say::Do(Step::TakeBack(Some("the agent of the source was started again on the way".into()))),
        Some(Part::Stays(_)) => Say::Nothing,
        _ if abort => Say::Do(Step::TakeBack(Some("as was asked".into()))),
        _ if on => Say::Do(Step::SwitchOff),
        _ => Say::Do(Step::Leave),
    }
}

/// What the controller is told of it, whenever nothing is left to do.
pub fn stage(item: &ServerItem, note: Option<&Note>, endpoint: Option<(u16, String)>) -> Option<Stage> {
    let id = &item.migration.as_ref()?.id;
    let part = note.filter(|note| note.migration == *id).map(|note| &note.part)?;
    match part {
        Part::Leaving | Part::Going => None,
        Part::Arriving => endpoint.map(|(port, token)| Stage::Listening { port, token }),
        Part::HandedOver(progress) => Some(Stage::HandedOver(*progress)),
        Part::Stays(reason) => Some(Stage::Failed(reason.clone())),
        Part::Arrived => Some(Stage::Arrived),
        Part::GaveUp(reason) => Some(Stage::GaveUp(reason.clone())),
    }
}

/// The state of the server is not this host's to tell: it is not here yet, or not any more.
pub fn is_elsewhere(item: &ServerItem, note: Option<&Note>) -> bool {
    match &item.migration {
        Some(MigrationItem { role: Role::Arrive { .. } | Role::Keep, .. }) => true,
        Some(MigrationItem { id, role: Role::Leave { .. }, .. }) => {
            note.is_some_and(|note| note.migration == *id && matches!(note.part, Part::HandedOver(_)))
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::plan::tests::item;
    use unkai_link::migration::Partner;
    use unkai_model::compute::Run;

    fn moving(role: Role, abort: bool) -> ServerItem {
        ServerItem { migration: Some(MigrationItem { id: "m".into(), abort, role }), ..item(Run::Running) }
    }
    fn partner() -> Partner {
        Partner { host: "h".into(), enrolment: 1 }
    }
    fn arriving(released: bool, abort: bool) -> ServerItem {
        moving(Role::Arrive { from: partner(), released, cold: false }, abort)
    }
    fn leaving(abort: bool) -> ServerItem {
        let address = "192.0.2.1:1".parse().unwrap();
        moving(Role::Leave { to: partner(), address, token: "t".into(), method: Method::Live, finish: false }, abort)
    }
    fn said(item: &ServerItem, note: Option<(&str, Part)>, here: Here) -> Say {
        let note = note.map(|(migration, part)| Note { migration: migration.into(), part });
        next(item, note.as_ref(), here)
    }
    fn handed_over() -> Part {
        Part::HandedOver(MigrationProgress::default())
    }

    const NOTHING: Here = Here { attended: false, whole: false, machine: false, traces: false };
    const ATTENDED: Here = Here { attended: true, traces: true, ..NOTHING };
    const MACHINE: Here = Here { machine: true, traces: true, ..NOTHING };
    const WHOLE: Here = Here { whole: true, ..MACHINE };

    #[test]
    fn a_destination_starts_the_guest_only_when_the_source_has_let_go_and_all_is_here() {
        let go = |say: Say| say == Say::Do(Step::Begin);
        assert!(go(said(&arriving(true, false), Some(("m", Part::Arriving)), WHOLE)));
        assert!(go(said(&arriving(true, true), Some(("m", Part::Arriving)), WHOLE)), "too late to give up");
        for (released, note, here) in [
            (false, Some(("m", Part::Arriving)), WHOLE),
            (true, Some(("m", Part::Arriving)), MACHINE),
            (true, Some(("m", Part::GaveUp("x".into()))), WHOLE),
            (true, Some(("other", Part::Arriving)), WHOLE),
            (true, None, WHOLE),
        ] {
            assert!(!go(said(&arriving(released, false), note.clone(), here)), "{released} {note:?} {here:?}");
        }
        assert!(!go(said(&item(Run::Running), Some(("m", Part::Arriving)), WHOLE)), "nobody says that it comes");
    }

    #[test]
    fn a_destination_prepares_waits_and_gives_up() {
        let give_up = |say: Say| matches!(say, Say::Do(Step::GiveUp(_)));
        assert_eq!(said(&arriving(false, false), None, NOTHING), Say::Do(Step::Listen));
        assert_eq!(said(&arriving(false, false), Some(("older", Part::GaveUp("x".into()))), ATTENDED), Say::Do(Step::Clear));
        assert_eq!(said(&arriving(false, false), Some(("m", Part::Arriving)), ATTENDED), Say::Wait);
        assert_eq!(said(&arriving(false, false), Some(("m", Part::Arriving)), WHOLE), Say::Wait);
        assert!(give_up(said(&arriving(false, true), Some(("m", Part::Arriving)), ATTENDED)));
        assert!(give_up(said(&arriving(false, true), Some(("m", Part::Arriving)), WHOLE)));
        assert!(give_up(said(&arriving(false, false), Some(("m", Part::Arriving)), MACHINE)), "a new agent");
        assert!(give_up(said(&arriving(true, false), Some(("m", Part::Arriving)), NOTHING)), "its machine is gone");
        assert!(give_up(said(&arriving(false, true), None, NOTHING)));
        // The end of it.
        assert_eq!(said(&item(Run::Running), Some(("m", Part::Arrived)), MACHINE), Say::Nothing);
        assert_eq!(said(&item(Run::Running), Some(("m", Part::GaveUp("x".into()))), NOTHING), Say::Do(Step::Clear));
    }

    #[test]
    fn a_source_that_has_let_go_waits_for_the_end_of_the_move() {
        for abort in [false, true] {
            assert_eq!(said(&leaving(abort), Some(("m", handed_over())), MACHINE), Say::Wait);
        }
        assert_eq!(said(&item(Run::Running), Some(("m", handed_over())), MACHINE), Say::Do(Step::TakeBack(None)));
    }

    #[test]
    fn what_is_moved_while_off_is_switched_off_first_and_kept_afterwards() {
        let address = "192.0.2.1:1".parse().unwrap();
        let cold = || Role::Leave { to: partner(), address, token: "t".into(), method: Method::Cold, finish: false };
        assert_eq!(said(&moving(cold(), false), None, MACHINE), Say::Do(Step::SwitchOff));
        let off = Here { machine: false, ..MACHINE };
        assert_eq!(said(&moving(cold(), false), None, off), Say::Do(Step::Leave));
        assert_eq!(said(&moving(Role::Keep, false), Some(("m", handed_over())), off), Say::Wait);
        assert!(is_elsewhere(&moving(Role::Keep, false), None));
        assert_eq!(said(&item(Run::Running), Some(("m", handed_over())), off), Say::Do(Step::TakeBack(None)), "it comes back");
    }

    #[test]
    fn a_source_begins_once() {
        assert_eq!(said(&leaving(false), None, MACHINE), Say::Do(Step::Leave));
        assert_eq!(said(&leaving(false), Some(("older", Part::Stays("x".into()))), MACHINE), Say::Do(Step::Leave));
        assert!(matches!(said(&leaving(false), Some(("m", Part::Leaving)), MACHINE), Say::Do(Step::TakeBack(Some(_)))));
        assert!(matches!(said(&leaving(true), None, MACHINE), Say::Do(Step::TakeBack(Some(_)))));
        assert_eq!(said(&leaving(false), Some(("m", Part::Stays("x".into()))), MACHINE), Say::Nothing);
        assert_eq!(said(&item(Run::Running), Some(("m", Part::Leaving)), MACHINE), Say::Do(Step::TakeBack(None)));
    }

    #[test]
    fn the_state_of_a_server_is_told_by_the_host_that_has_it() {
        let note = |part: Part| Some(Note { migration: "m".into(), part });
        assert!(is_elsewhere(&arriving(false, false), None));
        assert!(!is_elsewhere(&leaving(false), note(Part::Leaving).as_ref()));
        assert!(is_elsewhere(&leaving(false), note(handed_over()).as_ref()));
        assert!(!is_elsewhere(&leaving(false), note(Part::Stays("x".into())).as_ref()));
        assert_eq!(stage(&arriving(false, false), note(Part::Arriving).as_ref(), None), None);
        let listening = stage(&arriving(false, false), note(Part::Arriving).as_ref(), Some((7, "t".into())));
        assert_eq!(listening, Some(Stage::Listening { port: 7, token: "t".into() }));
    }
}
