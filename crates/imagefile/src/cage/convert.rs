//! Converting an accepted image to a format servers run from.

use std::fs::File;
use std::path::Path;

use super::Cage;
use super::error::CageError;
use super::output::Output;
use super::progress::Progress;
use super::run::{Run, is_root};
use crate::{Accepted, DiskFormat, Policy};

/// What an image can be converted to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Raw,
    Qcow2,
}

impl Target {
    fn format(self) -> DiskFormat {
        match self {
            Self::Raw => DiskFormat::Raw,
            Self::Qcow2 => DiskFormat::Qcow2,
        }
    }
}

/// One conversion.
#[derive(Debug)]
pub struct Conversion<'a> {
    /// The proof that the image was inspected.
    pub image: &'a Accepted,
    /// The image, open for reading.
    pub source: File,
    pub target: Target,
    /// Where the result goes; an existing file is replaced.
    pub output: &'a Path,
}

/// A finished conversion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Converted {
    /// The length of the output file, in bytes.
    pub length: u64,
    /// The size of the disk in it, in bytes.
    pub virtual_size: u64,
}

impl Cage {
    /// Converts an image. `progress` gets percentages. Dropping the future ends the process and removes what was made.
    pub async fn convert(&self, conversion: Conversion<'_>, progress: &mut (dyn FnMut(f32) + Send)) -> Result<Converted, CageError> {
        let Conversion { image, source, target, output } = conversion;
        let owner = is_root().then_some((self.uid, self.gid));
        let output = Output::create(output, owner)?;
        let file_size = most(target, image.virtual_size());
        let name = format!("/proc/self/fd/{}", output.fd());
        let run = Run { cage: self, image, source, output: Some(output.fd()), file_size };
        let arguments = |image: String| ["convert", "-p", "-O", target.format().as_str(), &image, &name].map(Into::into).into();
        let mut reader = Progress::default();
        let mut listener = |bytes: &[u8]| {
            reader.push(bytes).into_iter().for_each(&mut *progress);
            Ok(())
        };
        run.go(arguments, &mut listener).await?;
        let virtual_size = image.virtual_size();
        let finish = move || {
            let converted = examine(output.file(), target, virtual_size)?;
            output.publish(owner.is_some())?;
            Ok(converted)
        };
        match tokio::task::spawn_blocking(finish).await {
            Ok(result) => result,
            Err(error) => Err(CageError::Setup { what: "publishing", source: std::io::Error::other(error) }),
        }
    }
}

/// How long the output may become: the disk, and for qcow2 its tables (L2 and refcounts need less than 1/1000).
fn most(target: Target, virtual_size: u64) -> u64 {
    let disk = virtual_size.saturating_add(64 << 10);
    match target {
        Target::Raw => disk,
        Target::Qcow2 => disk.saturating_add(virtual_size / 512).saturating_add(4 << 20),
    }
}

/// The output is judged like an upload: what came out of the cage is foreign too.
fn examine(file: &File, target: Target, inspected: u64) -> Result<Converted, CageError> {
    let failed = |source| CageError::Setup { what: "examining the output", source };
    let length = file.metadata().map_err(failed)?.len();
    let virtual_size = match target {
        // The disk may well begin like a container now; that is what formats are declared for.
        Target::Raw => length,
        Target::Qcow2 => {
            let policy = Policy { max_virtual_size: u64::MAX, allow_encrypted: false };
            let report = crate::inspect_open(file, &policy).map_err(failed)?;
            let accepted = crate::check(DiskFormat::Qcow2, &report);
            accepted.map_err(|refusal| failed(std::io::Error::other(refusal)))?.virtual_size()
        }
    };
    // Disks are whole sectors; a vhd's two sizes may differ, and the inspection counted the larger.
    if virtual_size > crate::bytes::whole_sectors(inspected) {
        let (inspected, found) = (inspected.to_string(), virtual_size.to_string());
        return Err(CageError::Disagreement { what: "the virtual size", inspected, found });
    }
    Ok(Converted { length, virtual_size })
}
