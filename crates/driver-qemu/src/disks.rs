//! A server's disk files: created once, grown when the specification grew, never overwritten.
//!
//! A file appears under its name only when it is complete, so an interrupted preparation is simply done again.

use crate::error::{Error, Result};
use crate::given::{self, OpenImage};
use crate::layout::{Owner, ServerDir, create_new, give, lend};
use crate::qcow2::{self, Backing};
use crate::spec::{Boot, Disk, Format, LaunchSpec, Source};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use unkai_crashpoint::point;
use uuid::Uuid;

/// Programs used where an own implementation would be worse than theirs.
#[derive(Debug, Clone)]
pub struct Tools {
    pub qemu_img: PathBuf,
    pub mke2fs: PathBuf,
}

impl Default for Tools {
    fn default() -> Self {
        Tools { qemu_img: "/usr/bin/qemu-img".into(), mke2fs: "/sbin/mke2fs".into() }
    }
}

pub fn prepare_all(spec: &LaunchSpec, dir: &ServerDir, owner: Owner, tools: &Tools) -> Result<()> {
    for disk in &spec.disks {
        prepare(disk, dir, owner, tools)?;
    }
    if let Boot::Kernel { kernel, ramdisk, .. } = &spec.boot {
        lend_copy(kernel, &dir.kernel(), owner)?;
        if let Some(ramdisk) = ramdisk {
            lend_copy(ramdisk, &dir.ramdisk(), owner)?;
        }
    }
    Ok(())
}

pub fn prepare(disk: &Disk, dir: &ServerDir, owner: Owner, tools: &Tools) -> Result<()> {
    let path = dir.disk(&disk.id);
    let Some(bytes) = own_bytes(disk)? else { return Ok(()) };
    if path.exists() {
        if let Source::Overlay { base, .. } = &disk.source {
            qcow2::check_own(&path, base)?;
        }
        grow(&path, disk.source.format(), bytes, tools)?;
        return give(&path, owner);
    }
    let temporary = path.with_extension("new");
    remove_file(&temporary)?;
    create(disk, &temporary, bytes, tools)?;
    give(&temporary, owner)?;
    point("qemu: a disk is made but has no name");
    std::fs::rename(&temporary, &path).map_err(Error::io("rename disk to", &path))?;
    point("qemu: a disk is made");
    Ok(())
}

/// Size of the disk's own file; none for a disk that is somebody else's. Refuses a base image that cannot be one.
fn own_bytes(disk: &Disk) -> Result<Option<u64>> {
    match &disk.source {
        Source::Given { .. } => Ok(None),
        Source::Blank { bytes } | Source::Ephemeral { bytes, .. } | Source::Swap { bytes } => Ok(Some(*bytes)),
        Source::Overlay { base, base_format, bytes } => {
            let needed = qcow2::inspect(base, *base_format)?;
            if needed > *bytes {
                let problem = format!("it holds a disk of {needed} bytes, more than the {bytes} of disk {}", disk.id);
                return Err(Error::Image { path: base.clone(), problem });
            }
            Ok(Some(*bytes))
        }
    }
}

fn create(disk: &Disk, path: &Path, bytes: u64, tools: &Tools) -> Result<()> {
    if let Source::Overlay { base, base_format, .. } = &disk.source {
        return qcow2::create(path, bytes, Some(Backing { path: base, format: *base_format })).map(drop);
    }
    let file = create_new(path)?;
    file.set_len(bytes).map_err(Error::io("size disk", path))?;
    match &disk.source {
        Source::Swap { .. } => write_swap_header(&file, bytes).map_err(Error::io("write swap signature to", path)),
        Source::Ephemeral { label, .. } => {
            run(Command::new(&tools.mke2fs).args(["-q", "-F", "-t", "ext4", "-m", "0", "-L", label, "-E", "nodiscard"]).arg(path))
        }
        _ => Ok(()),
    }
}

/// Linux's swap signature, version 1, for pages of 4 KiB.
fn write_swap_header(file: &File, bytes: u64) -> std::io::Result<()> {
    const PAGE: u64 = 4096;
    let last_page = u32::try_from(bytes / PAGE).unwrap_or(u32::MAX).saturating_sub(1);
    let mut page = vec![0u8; PAGE as usize];
    page[1024..1028].copy_from_slice(&1u32.to_le_bytes());
    page[1028..1032].copy_from_slice(&last_page.to_le_bytes());
    page[1036..1052].copy_from_slice(Uuid::new_v4().as_bytes());
    page[4086..].copy_from_slice(b"SWAPSPACE2");
    let size = file.metadata()?.len();
    file.write_all_at(&page[..page.len().min(size as usize)], 0)
}

/// Disks only ever grow: a smaller size in the specification leaves the file as it is.
fn grow(path: &Path, format: Format, bytes: u64, tools: &Tools) -> Result<()> {
    match format {
        Format::Raw => {
            let file = OpenOptions::new().write(true).open(path).map_err(Error::io("open disk", path))?;
            let size = file.metadata().map_err(Error::io("open disk", path))?.len();
            if size < bytes { file.set_len(bytes).map_err(Error::io("grow disk", path)) } else { Ok(()) }
        }
        Format::Qcow2 => {
            if virtual_size(path)? >= bytes {
                return Ok(());
            }
            run(Command::new(&tools.qemu_img).args(["resize", "-q", "-f", "qcow2"]).arg(path).arg(bytes.to_string()))
        }
    }
}

/// Of a qcow2 file of ours, which may have a backing file.
fn virtual_size(path: &Path) -> Result<u64> {
    let file = File::open(path).map_err(Error::io("open disk", path))?;
    let mut field = [0; 8];
    file.read_exact_at(&mut field, 24).map_err(Error::io("read disk", path))?;
    Ok(u64::from_be_bytes(field))
}

fn lend_copy(from: &Path, to: &Path, owner: Owner) -> Result<()> {
    if is_copy(from, to) {
        return Ok(());
    }
    let temporary = to.with_extension("new");
    std::fs::copy(from, &temporary).map_err(Error::io("copy boot file", from))?;
    lend(&temporary, owner)?;
    std::fs::rename(&temporary, to).map_err(Error::io("rename boot file to", to))
}

/// Of the same length and not older: boot files are read-only images, so that is enough.
fn is_copy(from: &Path, to: &Path) -> bool {
    let (Ok(from), Ok(to)) = (from.metadata(), to.metadata()) else { return false };
    from.len() == to.len() && matches!((from.modified(), to.modified()), (Ok(from), Ok(to)) if to >= from)
}

pub fn remove_file(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove file", path)(e)),
        _ => Ok(()),
    }
}

/// The file that a disk of the server's own stands on, opened.
pub fn open_base(disk: &Disk) -> Result<Option<OpenImage>> {
    let Source::Overlay { base, base_format, .. } = &disk.source else { return Ok(None) };
    qcow2::inspect(base, *base_format)?;
    given::open(base, *base_format, false).map(Some)
}

/// Copies a disk of a server that does not run into one file that stands alone.
pub fn export(disk: &Disk, dir: &ServerDir, target: &Path, format: Format, tools: &Tools) -> Result<()> {
    let own = dir.disk(&disk.id);
    let file = |path: &Path| serde_json::json!({"driver": "file", "filename": path});
    let mut image = serde_json::json!({"driver": disk.source.format().name(), "file": file(&own)});
    match &disk.source {
        Source::Overlay { base, base_format, .. } => {
            qcow2::check_own(&own, base)?;
            image["backing"] = serde_json::json!({"driver": base_format.name(), "file": file(base)});
            if *base_format == Format::Qcow2 {
                image["backing"]["backing"] = serde_json::Value::Null;
            }
        }
        Source::Given { .. } => return Err(Error::Invalid(format!("disk {} is not the server's own", disk.id))),
        _ => {}
    }
    let temporary = target.with_extension("new");
    remove_file(&temporary)?;
    let source = format!("json:{image}");
    let result = run(Command::new(&tools.qemu_img).args(["convert", "-q", "-O", format.name(), &source]).arg(&temporary));
    if result.is_err() {
        remove_file(&temporary)?;
    }
    result?;
    std::fs::rename(&temporary, target).map_err(Error::io("rename image to", target))
}

fn run(command: &mut Command) -> Result<()> {
    let tool = command.get_program().to_string_lossy().into_owned();
    let out = command.output().map_err(|e| Error::Tool { tool: tool.clone(), text: e.to_string() })?;
    if out.status.success() {
        return Ok(());
    }
    Err(Error::Tool { tool, text: crate::exit::last_words(&String::from_utf8_lossy(&out.stderr)) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Bus;

    fn disk(id: &str, source: Source) -> Disk {
        Disk { id: id.into(), source, bus: Bus::Virtio, read_only: false, shared: false, serial: None, boot_index: None, slot: None }
    }

    fn dir() -> (tempfile::TempDir, ServerDir) {
        let temp = tempfile::tempdir().unwrap();
        let dir = ServerDir::new(temp.path(), Uuid::from_u128(1));
        dir.create(None).unwrap();
        (temp, dir)
    }

    fn overlay(base: &Path, base_format: Format, bytes: u64) -> Disk {
        disk("root", Source::Overlay { base: base.into(), base_format, bytes })
    }

    #[test]
    fn a_disk_is_made_once_and_grows() {
        let (temp, dir) = dir();
        let base = temp.path().join("base");
        qcow2::create(&base, 1 << 20, None).unwrap();
        let tools = Tools::default();
        prepare(&overlay(&base, Format::Qcow2, 2 << 20), &dir, None, &tools).unwrap();
        let path = dir.disk("root");
        assert_eq!(virtual_size(&path).unwrap(), 2 << 20);
        prepare(&overlay(&base, Format::Qcow2, 1 << 20), &dir, None, &tools).unwrap();
        assert_eq!(virtual_size(&path).unwrap(), 2 << 20, "never shrinks");
        if tools.qemu_img.exists() {
            prepare(&overlay(&base, Format::Qcow2, 3 << 30), &dir, None, &tools).unwrap();
            assert_eq!(virtual_size(&path).unwrap(), 3 << 30);
        }
        std::fs::write(path.with_extension("new"), "left by a crash").unwrap();
        std::fs::remove_file(&path).unwrap();
        prepare(&overlay(&base, Format::Qcow2, 2 << 20), &dir, None, &tools).unwrap();
        assert_eq!(virtual_size(&path).unwrap(), 2 << 20);
    }

    #[test]
    fn base_images_that_cannot_be() {
        let (temp, dir) = dir();
        let base = temp.path().join("base");
        let attempt = |disk: &Disk| prepare(disk, &dir, None, &Tools::default()).unwrap_err();
        let missing = attempt(&overlay(&base, Format::Raw, 1 << 20));
        assert!(missing.to_string().contains("open image") && missing.to_string().contains("base"), "{missing}");
        qcow2::create(&base, 2 << 20, None).unwrap();
        assert!(attempt(&overlay(&base, Format::Qcow2, 1 << 20)).to_string().contains("more than"));
        std::fs::write(&base, "text").unwrap();
        assert!(attempt(&overlay(&base, Format::Qcow2, 1 << 20)).to_string().contains("said to be qcow2"));
        assert!(!dir.disk("root").exists());
    }

    #[test]
    fn swap_and_ephemeral_are_what_blkid_says() {
        let (_temp, dir) = dir();
        let tools = Tools::default();
        if !tools.mke2fs.exists() {
            eprintln!("skipped: no mke2fs on this machine");
            return;
        }
        let disks = [
            (disk("swap", Source::Swap { bytes: 1 << 20 }), "swap", None),
            (disk("e0", Source::Ephemeral { bytes: 8 << 20, label: "ephemeral0".into() }), "ext4", Some("ephemeral0")),
        ];
        for (disk, kind, label) in disks {
            prepare(&disk, &dir, None, &tools).unwrap();
            let Ok(out) = Command::new("blkid").args(["-p", "-o", "export"]).arg(dir.disk(&disk.id)).output() else { return };
            let text = String::from_utf8_lossy(&out.stdout).into_owned();
            assert!(text.contains(&format!("TYPE={kind}")), "{text}");
            assert!(label.is_none_or(|l| text.contains(&format!("LABEL={l}"))), "{text}");
        }
    }
}
