//! The state of a volume in the field's words, derived from what is wanted and what is known. Never stored.

use unkai_model::volume::{AttachState, Attachment, Backup, RestoreFrom, Source, Transfer, Volume, VolumePhase};
use unkai_store::View;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Creating,
    Downloading,
    Available,
    Reserved,
    Attaching,
    InUse,
    Detaching,
    Deleting,
    Extending,
    Reverting,
    BackingUp,
    RestoringBackup,
    Uploading,
    AwaitingTransfer,
    Maintenance,
    Error,
    ErrorDeleting,
    ErrorExtending,
    ErrorRestoring,
    ErrorBackingUp,
}

const WORDS: [(State, &str); 20] = [
    (State::Creating, "creating"),
    (State::Downloading, "downloading"),
    (State::Available, "available"),
    (State::Reserved, "reserved"),
    (State::Attaching, "attaching"),
    (State::InUse, "in-use"),
    (State::Detaching, "detaching"),
    (State::Deleting, "deleting"),
    (State::Extending, "extending"),
    (State::Reverting, "reverting"),
    (State::BackingUp, "backing-up"),
    (State::RestoringBackup, "restoring-backup"),
    (State::Uploading, "uploading"),
    (State::AwaitingTransfer, "awaiting-transfer"),
    (State::Maintenance, "maintenance"),
    (State::Error, "error"),
    (State::ErrorDeleting, "error_deleting"),
    (State::ErrorExtending, "error_extending"),
    (State::ErrorRestoring, "error_restoring"),
    (State::ErrorBackingUp, "error_backing-up"),
];

impl State {
    pub fn as_str(self) -> &'static str {
        WORDS.iter().find(|(state, _)| *state == self).map_or("error", |(_, word)| word)
    }

    pub fn parse(word: &str) -> Option<Self> {
        WORDS.iter().find(|(_, known)| *known == word).map(|(state, _)| *state)
    }
}

/// What is true of `volume` in `view`.
pub fn state(view: &View, volume: &Volume) -> State {
    let (spec, status) = (&volume.spec, &volume.status);
    if let Some(said) = reset(volume) {
        return said;
    }
    let failed = matches!(status.phase, VolumePhase::Failed(_)) && volume.is_settled();
    if spec.deleted {
        return if failed { State::ErrorDeleting } else { State::Deleting };
    }
    if !status.made {
        return match (failed || status.fault.is_some(), &spec.source) {
            (true, _) => State::Error,
            (false, Source::Image(_)) if matches!(status.phase, VolumePhase::Working { .. }) => State::Downloading,
            (false, Source::Backup(_)) => State::RestoringBackup,
            (false, _) => State::Creating,
        };
    }
    let id = volume.meta.id.as_str();
    if let Some(restore) = spec.restore.as_ref().filter(|restore| restore.number > status.restored) {
        return match (&restore.from, failed) {
            (RestoreFrom::Backup(_), false) => State::RestoringBackup,
            (RestoreFrom::Backup(_), true) => State::ErrorRestoring,
            (RestoreFrom::Snapshot(_), false) => State::Reverting,
            (RestoreFrom::Image(_), false) => State::Downloading,
            (RestoreFrom::Snapshot(_) | RestoreFrom::Image(_), true) => State::Error,
        };
    }
    // One of a snapshot leaves the volume alone.
    if view.by_index::<Backup>("volume", id).any(|backup| backup.is_wished() && backup.snapshot.is_none()) {
        return State::BackingUp;
    }
    if spec.upload.is_some() {
        return State::Uploading;
    }
    if status.size_gib < spec.size_gib {
        return if failed { State::ErrorExtending } else { State::Extending };
    }
    used(view, volume)
}

fn reset(volume: &Volume) -> Option<State> {
    let (word, generation) = volume.spec.reset.as_ref()?;
    (*generation == volume.meta.generation).then(|| State::parse(word)).flatten()
}

/// The state of a whole volume to which nothing is being done.
fn used(view: &View, volume: &Volume) -> State {
    let id = volume.meta.id.as_str();
    let any = |wanted: AttachState| view.by_index::<Attachment>("volume", id).any(|attachment| attachment.state == wanted);
    // What is being done comes before what is: it ends, and of several servers each has its turn.
    if any(AttachState::Detaching) {
        State::Detaching
    } else if any(AttachState::Attaching) || volume.spec.reserved {
        // `os-reserve` is the older way to say that it will be attached.
        State::Attaching
    } else if any(AttachState::Attached) {
        State::InUse
    } else if any(AttachState::Reserved) {
        State::Reserved
    } else if view.by_index::<Transfer>("volume", id).next().is_some() {
        State::AwaitingTransfer
    } else {
        State::Available
    }
}
