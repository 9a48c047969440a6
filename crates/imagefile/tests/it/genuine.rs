//! Images made by the real tool are accepted for what they are, with the size it gave them.

use std::path::{Path, PathBuf};
use std::process::Command;

use unkai_imagefile::{Container, Detected, DiskFormat, Policy, Report, check, inspect_file};

pub fn qemu_img(arguments: &[&str]) {
    let output = Command::new("qemu-img").args(arguments).output().expect("qemu-img is installed");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A disk with something in it: noise, then zeros, then more noise.
pub fn disk(directory: &Path) -> PathBuf {
    let path = directory.join("disk.raw");
    let mut bytes = vec![0; 3 << 20];
    for (index, byte) in bytes.iter_mut().enumerate() {
        if !(512 << 10..2 << 20).contains(&index) {
            *byte = (index.wrapping_mul(2_654_435_761) >> 13) as u8;
        }
    }
    std::fs::write(&path, bytes).expect("writing a disk");
    path
}

fn path_text(path: &Path) -> &str {
    path.to_str().expect("temporary names are text")
}

pub fn converted(directory: &Path, name: &str, options: &[&str]) -> PathBuf {
    let (from, to) = (disk(directory), directory.join(name));
    let ends = [path_text(&from), path_text(&to)];
    qemu_img(&[&["convert", "-f", "raw"], options, &ends].concat());
    to
}

fn report(path: &Path) -> Report {
    inspect_file(path, &Policy::default()).expect("reading the image")
}

#[test]
fn what_qemu_img_makes_is_accepted() {
    let directory = tempfile::tempdir().expect("a directory");
    let table: &[(&str, DiskFormat, &[&str])] = &[
        ("qcow2", DiskFormat::Qcow2, &["-O", "qcow2"]),
        ("compressed", DiskFormat::Qcow2, &["-c", "-O", "qcow2"]),
        ("zstd", DiskFormat::Qcow2, &["-c", "-O", "qcow2", "-o", "compression_type=zstd"]),
        ("v2", DiskFormat::Qcow2, &["-O", "qcow2", "-o", "compat=0.10"]),
        ("small-clusters", DiskFormat::Qcow2, &["-O", "qcow2", "-o", "cluster_size=512"]),
        ("large-clusters", DiskFormat::Qcow2, &["-O", "qcow2", "-o", "cluster_size=2M"]),
        ("extended", DiskFormat::Qcow2, &["-O", "qcow2", "-o", "extended_l2=on,cluster_size=128k"]),
        ("lazy", DiskFormat::Qcow2, &["-O", "qcow2", "-o", "lazy_refcounts=on,refcount_bits=1"]),
        ("sparse", DiskFormat::Vmdk, &["-O", "vmdk"]),
        ("stream", DiskFormat::Vmdk, &["-O", "vmdk", "-o", "subformat=streamOptimized"]),
        ("scsi", DiskFormat::Vmdk, &["-O", "vmdk", "-o", "adapter_type=lsilogic,hwversion=13"]),
        ("dynamic", DiskFormat::Vhd, &["-O", "vpc"]),
        ("fixed", DiskFormat::Vhd, &["-O", "vpc", "-o", "subformat=fixed"]),
        ("sized", DiskFormat::Vhd, &["-O", "vpc", "-o", "force_size=on"]),
        ("vhdx", DiskFormat::Vhdx, &["-O", "vhdx"]),
        ("vhdx-fixed", DiskFormat::Vhdx, &["-O", "vhdx", "-o", "subformat=fixed"]),
        ("vdi", DiskFormat::Vdi, &["-O", "vdi"]),
        ("vdi-static", DiskFormat::Vdi, &["-O", "vdi", "-o", "static=on"]),
        ("raw", DiskFormat::Raw, &["-O", "raw"]),
    ];
    for (name, format, options) in table {
        let report = report(&converted(directory.path(), name, options));
        let accepted = check(*format, &report).unwrap_or_else(|refusal| panic!("{name}: {refusal}"));
        let size = accepted.virtual_size();
        // A vhd is rounded up to its geometry.
        assert!((3 << 20..(3 << 20) + (64 << 10)).contains(&size), "{name}: {size}");
        for other in DiskFormat::ALL.into_iter().filter(|other| other.container() != format.container()) {
            assert!(check(other, &report).is_err(), "{name} as {other}");
        }
    }
}

#[test]
fn what_qemu_img_can_make_dangerous_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let base = converted(directory.path(), "base", &["-O", "qcow2"]);
    let base = path_text(&base);
    let make = |name: &str, arguments: &[&str]| {
        let path = directory.path().join(name);
        qemu_img(&[&["create", "-q"], arguments, &[path_text(&path), "4M"]].concat());
        report(&path)
    };
    let data = format!("data_file={base}.data");
    let secret = "secret,id=s,data=abc";
    let table: &[(&str, DiskFormat, &[&str])] = &[
        ("child", DiskFormat::Qcow2, &["-f", "qcow2", "-F", "qcow2", "-b", base]),
        ("data", DiskFormat::Qcow2, &["-f", "qcow2", "-o", &data]),
        (
            "luks",
            DiskFormat::Qcow2,
            &["--object", secret, "-f", "qcow2", "-o", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10"],
        ),
        ("flat", DiskFormat::Vmdk, &["-f", "vmdk", "-o", "subformat=monolithicFlat"]),
        ("split.vmdk", DiskFormat::Vmdk, &["-f", "vmdk", "-o", "subformat=twoGbMaxExtentSparse"]),
    ];
    for (name, format, arguments) in table {
        let report = make(name, arguments);
        assert!(check(*format, &report).is_err(), "{name}: {report:?}");
        assert!(check(DiskFormat::Raw, &report).is_err(), "{name} as raw");
    }
    let part = report(&directory.path().join("split-s001.vmdk"));
    assert!(check(DiskFormat::Vmdk, &part).is_err(), "{part:?}");
}

#[test]
fn formats_nobody_may_declare_are_known_by_name() {
    let directory = tempfile::tempdir().expect("a directory");
    for (driver, container) in [("qed", Container::Qed), ("qcow", Container::Qcow1), ("parallels", Container::Parallels)] {
        let path = directory.path().join(driver);
        qemu_img(&["create", "-q", "-f", driver, path_text(&path), "4M"]);
        let report = report(&path);
        assert_eq!(report.format, Detected::Container(container));
        assert!(DiskFormat::ALL.into_iter().all(|declared| check(declared, &report).is_err()));
    }
}
