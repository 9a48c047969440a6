//! Why a run in the cage failed, in words for the operator.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use crate::bytes::printable;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CageError {
    #[error("the cage is set up to run as root (uid {uid}, gid {gid})")]
    Root { uid: u32, gid: u32 },
    #[error("the file has {found} bytes, but {inspected} bytes were inspected")]
    Changed { inspected: u64, found: u64 },
    #[error("{what} for the cage")]
    Setup { what: &'static str, source: io::Error },
    #[error("starting `{}` in the cage", program.display())]
    Start { program: PathBuf, source: io::Error },
    #[error("waiting for the cage")]
    Wait { source: io::Error },
    #[error("qemu-img did not finish within {limit:?}")]
    TimedOut { limit: Duration },
    #[error("qemu-img used more processor time than {limit:?}")]
    Processor { limit: Duration },
    #[error("qemu-img wrote more than {limit} bytes to its output file")]
    FileTooLarge { limit: u64 },
    #[error("qemu-img printed more than {limit} bytes")]
    OutputTooLarge { limit: usize },
    #[error("qemu-img failed ({status}): {stderr}")]
    Failed { status: ExitStatus, stderr: String },
    #[error("qemu-img printed something that is not the expected JSON: {detail}")]
    Unreadable { detail: String },
    #[error("qemu-img and the inspection disagree about {what}: {found} instead of {inspected}")]
    Disagreement { what: &'static str, inspected: String, found: String },
    #[error("{what} `{}`", path.display())]
    Output { what: &'static str, path: PathBuf, source: io::Error },
}

/// How much of what was printed to stderr is kept, from its end.
pub(super) const STDERR_KEPT: usize = 4096;

/// Foreign text for an error: one printable line, the end of it.
pub(super) fn sanitized(stderr: &[u8]) -> String {
    let lines = stderr.split(|byte| matches!(byte, b'\n' | b'\r')).map(<[u8]>::trim_ascii);
    let lines: Vec<_> = lines.filter(|line| !line.is_empty()).map(|line| printable(line, 1024)).collect();
    lines.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_becomes_one_harmless_line() {
        assert_eq!(sanitized(b"a: \x1b[31mred\n\n  b\x07\r\n"), "a: ?[31mred; b?");
    }
}
