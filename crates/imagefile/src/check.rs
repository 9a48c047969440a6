//! Whether a file may be what its owner says it is.

use crate::format::{Container, Detected, DiskFormat};
use crate::inspect::Report;
use crate::problem::Problem;

/// Proof that a file was inspected and is what it was declared to be. The cage takes nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    format: DiskFormat,
    virtual_size: u64,
    length: u64,
}

impl Accepted {
    pub fn format(&self) -> DiskFormat {
        self.format
    }

    /// The size of the disk the image describes, in bytes.
    pub fn virtual_size(&self) -> u64 {
        self.virtual_size
    }

    /// The length of the inspected file, in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }
}

/// Why a file is not accepted as what it was declared to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("declared as {declared}, but the content is {found}")]
    Mismatch { declared: DiskFormat, found: Detected },
    #[error("the content can be read as several formats: {found}")]
    Ambiguous { found: Detected },
    #[error("not a safe {declared} image: {}", list(problems))]
    Unsafe { declared: DiskFormat, problems: Vec<Problem> },
}

impl Refusal {
    /// The problems behind the refusal; none when the format itself was the reason.
    pub fn problems(&self) -> &[Problem] {
        match self {
            Self::Unsafe { problems, .. } => problems,
            Self::Mismatch { .. } | Self::Ambiguous { .. } => &[],
        }
    }
}

fn list(problems: &[Problem]) -> String {
    let texts: Vec<_> = problems.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

/// Holds a report against the declared format.
pub fn check(declared: DiskFormat, report: &Report) -> Result<Accepted, Refusal> {
    if matches!(report.format, Detected::Ambiguous(_)) {
        return Err(Refusal::Ambiguous { found: report.format.clone() });
    }
    if !fits(declared, &report.format) {
        return Err(Refusal::Mismatch { declared, found: report.format.clone() });
    }
    let (virtual_size, problems) = if declared.is_plain() {
        let general = report.problems.iter().filter(|problem| problem.is_general());
        (Some(report.length), general.cloned().collect())
    } else {
        (report.virtual_size, report.problems.clone())
    };
    match virtual_size {
        Some(virtual_size) if problems.is_empty() => Ok(Accepted { format: declared, virtual_size, length: report.length }),
        None if problems.is_empty() => {
            let problems = vec![Problem::NoVirtualSize];
            Err(Refusal::Unsafe { declared, problems })
        }
        _ => Err(Refusal::Unsafe { declared, problems }),
    }
}

/// An ISO is also a plain disk: it is written to sticks as it is, and no reader of raw disks looks inside.
fn fits(declared: DiskFormat, found: &Detected) -> bool {
    match (declared.container(), found) {
        (Some(wanted), Detected::Container(found)) => wanted == *found,
        (None, found) => matches!(found, Detected::Raw | Detected::Container(Container::Iso)),
        (Some(_), _) => false,
    }
}
