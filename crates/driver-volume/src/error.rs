//! What can go wrong, and whether trying again may help.

use std::io;
use std::path::{Path, PathBuf};

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The pool is not there: not mounted, no answer, wrong credentials.
    #[error("the pool cannot be used: {0}")]
    Pool(String),
    #[error("{0} is in use")]
    Busy(String),
    #[error("no room for {0}")]
    Full(String),
    #[error("volume {volume} is fenced: generation {asked} is older than {newest}")]
    Fenced { volume: String, asked: u64, newest: u64 },
    #[error("{0} does not exist")]
    Missing(String),
    #[error("{0} is damaged: {1}")]
    Damaged(String, String),
    #[error("{0}")]
    Invalid(String),
    #[error("stopped before it was done")]
    Stopped,
    #[error("{what} `{path}`")]
    Io {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("`{tool}` failed: {text}")]
    Tool { tool: String, text: String },
}

impl Error {
    pub(crate) fn io(what: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Error {
        let path = path.as_ref().to_path_buf();
        move |source| Error::from_io(what, path, source)
    }

    fn from_io(what: &'static str, path: PathBuf, source: io::Error) -> Error {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Error::Full(format!("`{}`: {source}", path.display()))
            }
            _ => Error::Io { what, path, source },
        }
    }

    /// The last words of a program that failed.
    pub(crate) fn tool(tool: &str, text: String) -> Error {
        const FULL: [&str; 6] =
            ["No space left on device", "Disk quota exceeded", "File too large", "NFS3ERR_NOSPC", "NFS3ERR_DQUOT", "NFS3ERR_FBIG"];
        const LOCKED: [&str; 2] = ["Failed to get", "is another process using the image"];
        if FULL.iter().any(|words| text.contains(words)) {
            Error::Full(format!("what `{tool}` writes: {text}"))
        } else if LOCKED.iter().any(|words| text.contains(words)) && text.contains("lock") {
            Error::Busy(format!("what `{tool}` opens ({text})"))
        } else {
            Error::Tool { tool: tool.to_owned(), text }
        }
    }

    /// May trying again help, although nobody asks for anything else?
    pub fn passes(&self) -> bool {
        match self {
            Error::Pool(_) | Error::Busy(_) | Error::Full(_) | Error::Stopped | Error::Io { .. } => true,
            Error::Fenced { .. } | Error::Missing(_) | Error::Damaged(..) | Error::Invalid(_) | Error::Tool { .. } => false,
        }
    }
}
