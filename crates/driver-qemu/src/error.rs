//! What can go wrong, in words that say what was attempted on what.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use uuid::Uuid;

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("server {0} is not defined on this host")]
    NotDefined(Uuid),
    #[error("server {0} has no running QEMU")]
    NotRunning(Uuid),
    #[error("server {0} already has a running QEMU")]
    AlreadyRunning(Uuid),
    #[error("invalid server specification: {0}")]
    Invalid(String),
    #[error("{what} `{path}`")]
    Io {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{what}")]
    System {
        what: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("image `{path}`: {problem}")]
    Image { path: PathBuf, problem: String },
    #[error("`{tool}` failed: {text}")]
    Tool { tool: String, text: String },
    #[error("ledger `{path}` cannot be read: {problem}")]
    Ledger { path: PathBuf, problem: String },
    #[error("QEMU did not start: {0}")]
    LaunchFailed(String),
    #[error("QEMU refused `{command}`: {text}")]
    Refused { command: String, class: String, text: String },
    #[error("no answer to `{command}` within {within:?}")]
    Timeout { command: String, within: Duration },
    #[error("the connection to QEMU is gone: {0}")]
    Disconnected(String),
    #[error("the guest did not release device {device} within {within:?}")]
    NotReleased { device: String, within: Duration },
    #[error("no device {0}")]
    NoDevice(String),
    #[error("no free PCI slot for another device")]
    NoSlot,
    #[error("disk job on {disk} failed: {text}")]
    Job { disk: String, text: String },
    #[error("the move was given up as was asked")]
    GivenUp,
    #[error("guest agent: {0}")]
    GuestAgent(String),
}

impl Error {
    pub(crate) fn io(what: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Error {
        let path = path.as_ref().to_path_buf();
        move |source| Error::Io { what, path, source }
    }

    pub(crate) fn system(what: &'static str) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::System { what, source }
    }

    /// A disk's file is open in another process, which may end: trying again helps.
    pub fn is_held(&self) -> bool {
        matches!(self, Error::Refused { text, .. } | Error::LaunchFailed(text) if text.contains("Failed to get") && text.contains("lock"))
    }

    /// True when QEMU says that the thing named does not exist: an undo that was already done.
    pub(crate) fn is_absent(&self) -> bool {
        matches!(self, Error::Refused { class, text, .. }
            if class == "DeviceNotFound" || text.contains("not found") || text.contains("Cannot find") || text.contains("Failed to find"))
    }
}
