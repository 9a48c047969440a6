//! The inspector: fed while an image is uploaded, it says at the end what the file is and what is wrong with it.

use std::fs::File;
use std::io;
use std::path::Path;

use crate::detect;
use crate::evidence::{self, Evidence};
use crate::findings::Findings;
use crate::format::{Container, Content, Detected};
use crate::formats::{iso, qcow2, vdi, vhd, vhdx, vmdk};
use crate::policy::Policy;
use crate::problem::Problem;

/// What a file turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub format: Detected,
    /// What a plain disk holds; a hint only.
    pub contents: Vec<Content>,
    /// The size of the disk the file describes, when the file says it.
    pub virtual_size: Option<u64>,
    /// The length of the file.
    pub length: u64,
    pub problems: Vec<Problem>,
}

/// Judges a file that arrives in chunks, keeping a bounded part of it.
#[derive(Debug)]
pub struct Inspector {
    policy: Policy,
    evidence: Evidence,
}

impl Inspector {
    /// The most bytes of a file an inspector keeps.
    pub const MEMORY: usize = evidence::HEAD + evidence::TAIL + evidence::REGION;

    pub fn new(policy: Policy) -> Self {
        Self { policy, evidence: Evidence::default() }
    }

    /// Takes the next bytes of the file.
    pub fn push(&mut self, chunk: &[u8]) {
        self.evidence.push(chunk);
    }

    /// How many bytes were pushed.
    pub fn received(&self) -> u64 {
        self.evidence.seen
    }

    /// Judges the file. `total_len` is the length it was announced with, or [`Self::received`] when it was not.
    pub fn finish(self, total_len: u64) -> Report {
        judge(&self.evidence, &self.policy, total_len)
    }
}

/// Judges a file by path. A name that is not a regular file is an error, so that a FIFO or device cannot hold us up.
pub fn inspect_file(path: &Path, policy: &Policy) -> io::Result<Report> {
    use std::os::unix::fs::OpenOptionsExt;
    let flags = libc::O_NONBLOCK | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    let file = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    inspect_open(&file, policy)
}

/// Judges an open file. Its position is not used and not moved.
pub fn inspect_open(file: &File, policy: &Policy) -> io::Result<Report> {
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "an image must be a regular file"));
    }
    let evidence = Evidence::read(file)?;
    Ok(judge(&evidence, policy, evidence.seen))
}

fn judge(evidence: &Evidence, policy: &Policy, total_len: u64) -> Report {
    let format = detect::detect(evidence);
    let received = evidence.seen;
    let mut findings = Findings::new(policy, received);
    findings.add_if(received != total_len, Problem::Length { expected: total_len, received });
    match &format {
        Detected::Raw => findings.size(received),
        Detected::Container(container) => judge_container(*container, evidence, &mut findings),
        Detected::Ambiguous(_) => {}
    }
    Report {
        format,
        contents: detect::contents(evidence),
        virtual_size: findings.virtual_size,
        length: received,
        problems: findings.problems,
    }
}

fn judge_container(container: Container, evidence: &Evidence, findings: &mut Findings<'_>) {
    match container {
        Container::Qcow2 => qcow2::judge(evidence, findings),
        Container::Vmdk => vmdk::judge(evidence, findings),
        Container::Vhd => vhd::judge(evidence, findings),
        Container::Vhdx => vhdx::judge(evidence, findings),
        Container::Vdi => vdi::judge(evidence, findings),
        Container::Iso => iso::judge(evidence, findings),
        Container::Qcow1
        | Container::Qed
        | Container::VmdkDescriptor
        | Container::VmdkCowd
        | Container::VmdkSeSparse
        | Container::Parallels
        | Container::Luks
        | Container::Bochs
        | Container::Cloop
        | Container::Dmg => {}
    }
}
