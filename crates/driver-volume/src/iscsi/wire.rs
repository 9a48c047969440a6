//! What a host asks the one that serves the pool to do, and its answers.

use serde::{Deserialize, Serialize};

use crate::driver::Look;
use crate::error::Error;
use crate::spec::{Found, Notes, Part, Spot, Status};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ask {
    /// Of the lock that the asker holds.
    pub token: Option<String>,
    pub what: What,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum What {
    Status {
        mark: Option<String>,
    },
    Lock {
        volume: String,
        shared: bool,
        token: String,
    },
    Renew,
    Unlock,
    Look {
        volume: String,
    },
    Note {
        volume: String,
        notes: Notes,
    },
    Begin {
        spot: SpotText,
        bytes: u64,
        shared: bool,
    },
    Copy {
        from: SpotText,
        to: SpotText,
        shared: bool,
    },
    Bytes {
        spot: SpotText,
        draft: bool,
    },
    Grow {
        spot: SpotText,
        draft: bool,
        bytes: u64,
    },
    Publish {
        spot: SpotText,
    },
    Remove {
        spot: SpotText,
    },
    RemoveVolume {
        volume: String,
    },
    IsShared {
        volume: String,
    },
    AtRest {
        volume: String,
    },
    /// The name of the target under which it is served from now on.
    Serve {
        spot: SpotText,
        draft: bool,
    },
}

/// A volume, and one of its snapshots when it is about that.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SpotText {
    pub volume: String,
    pub snapshot: Option<String>,
}

impl From<&Spot> for SpotText {
    fn from(spot: &Spot) -> SpotText {
        let snapshot = match &spot.part {
            Part::Data => None,
            Part::Snapshot(id) => Some(id.clone()),
        };
        SpotText { volume: spot.volume.clone(), snapshot }
    }
}

impl From<SpotText> for Spot {
    fn from(text: SpotText) -> Spot {
        match text.snapshot {
            None => Spot::data(&text.volume),
            Some(id) => Spot::snapshot(&text.volume, &id),
        }
    }
}

pub fn look_of(draft: bool) -> Look {
    if draft { Look::Draft } else { Look::Whole }
}

impl What {
    /// The volumes that it is about; the last is the one it changes.
    pub fn names(&self) -> Vec<&SpotText> {
        match self {
            What::Copy { from, to, .. } => vec![from, to],
            What::Begin { spot, .. }
            | What::Bytes { spot, .. }
            | What::Grow { spot, .. }
            | What::Publish { spot }
            | What::Remove { spot }
            | What::Serve { spot, .. } => vec![spot],
            _ => Vec::new(),
        }
    }

    /// The volume that it changes: whoever asks for that holds its lock.
    pub fn changes(&self) -> Option<&str> {
        match self {
            What::Note { volume, .. } | What::RemoveVolume { volume } => Some(volume),
            What::Copy { to: spot, .. }
            | What::Begin { spot, .. }
            | What::Grow { spot, .. }
            | What::Publish { spot }
            | What::Remove { spot } => Some(&spot.volume),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Answer {
    Done,
    Bool(bool),
    Bytes(u64),
    Name(String),
    Found(Option<Found>),
    Status(Status),
    Failed(Failure),
}

/// An error, as far as it matters what is done about it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Failure {
    Pool(String),
    Busy(String),
    Full(String),
    Fenced { volume: String, asked: u64, newest: u64 },
    Missing(String),
    Damaged(String, String),
    Invalid(String),
    Stopped,
    Other(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        match error {
            Error::Pool(text) => Failure::Pool(text),
            Error::Busy(text) => Failure::Busy(text),
            Error::Full(text) => Failure::Full(text),
            Error::Fenced { volume, asked, newest } => Failure::Fenced { volume, asked, newest },
            Error::Missing(text) => Failure::Missing(text),
            Error::Damaged(what, why) => Failure::Damaged(what, why),
            Error::Invalid(text) => Failure::Invalid(text),
            Error::Stopped => Failure::Stopped,
            Error::Io { ref source, .. } => Failure::Other(format!("{error}: {source}")),
            Error::Tool { tool, text } => Failure::Other(format!("{tool}: {text}")),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        match failure {
            Failure::Pool(text) => Error::Pool(text),
            Failure::Busy(text) => Error::Busy(text),
            Failure::Full(text) => Error::Full(text),
            Failure::Fenced { volume, asked, newest } => Error::Fenced { volume, asked, newest },
            Failure::Missing(text) => Error::Missing(text),
            Failure::Damaged(what, why) => Error::Damaged(what, why),
            Failure::Invalid(text) => Error::Invalid(text),
            Failure::Stopped => Error::Stopped,
            Failure::Other(text) => Error::tool("the host of the target", text),
        }
    }
}
