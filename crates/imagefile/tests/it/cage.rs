//! The cage with the real `qemu-img`, and with programs that misbehave in its place.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use unkai_imagefile::cage::{Cage, CageError, Conversion, Converted, Target, sweep_partial};
use unkai_imagefile::{Accepted, DiskFormat, Policy, check, inspect_file};

use crate::genuine::{converted, disk};

fn directory() -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    // The caged user must be able to start programs from here.
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
    directory
}

fn accept(path: &Path, format: DiskFormat) -> Accepted {
    let report = inspect_file(path, &Policy::default()).expect("reading");
    check(format, &report).expect("a sound image")
}

async fn convert(cage: &Cage, path: &Path, format: DiskFormat, target: Target, to: &Path) -> Result<Converted, CageError> {
    let image = accept(path, format);
    let source = File::open(path).expect("opening");
    let conversion = Conversion { image: &image, source, target, output: to };
    cage.convert(conversion, &mut |_| {}).await
}

/// A program that stands in for `qemu-img`.
fn program(directory: &Path, body: &str) -> Cage {
    let path = directory.join("program");
    fs::write(&path, format!("#!/bin/sh\n{body}\n")).expect("writing a program");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod");
    Cage { qemu_img: path, wall: Duration::from_secs(20), ..Cage::default() }
}

/// Runs a stand-in as an `info` of a small raw image.
async fn run(directory: &Path, cage: &Cage) -> CageError {
    let path = disk(directory);
    let image = accept(&path, DiskFormat::Raw);
    cage.info(&image, File::open(&path).expect("opening")).await.expect_err("it is no qemu-img")
}

fn leftovers(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("listing").map(|entry| entry.expect("an entry").path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "part")).collect()
}

#[tokio::test]
async fn every_format_becomes_the_same_disk() {
    let directory = directory();
    let wanted = fs::read(disk(directory.path())).expect("reading");
    let table: &[(&str, DiskFormat, &[&str])] = &[
        ("a.qcow2", DiskFormat::Qcow2, &["-c", "-O", "qcow2"]),
        ("a.vmdk", DiskFormat::Vmdk, &["-O", "vmdk", "-o", "subformat=streamOptimized"]),
        ("b.vmdk", DiskFormat::Vmdk, &["-O", "vmdk"]),
        ("a.vhd", DiskFormat::Vhd, &["-O", "vpc"]),
        ("b.vhd", DiskFormat::Vhd, &["-O", "vpc", "-o", "subformat=fixed"]),
        ("a.vhdx", DiskFormat::Vhdx, &["-O", "vhdx"]),
        ("a.vdi", DiskFormat::Vdi, &["-O", "vdi"]),
    ];
    for (name, format, options) in table {
        let path = converted(directory.path(), name, options);
        // Only we may read the image; the caged user may not.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("chmod");
        let to = directory.path().join(format!("{name}.out"));
        let done = convert(&Cage::default(), &path, *format, Target::Raw, &to).await.expect(name);
        let bytes = fs::read(&to).expect("reading the output");
        assert_eq!(bytes.len() as u64, done.length, "{name}");
        assert!(bytes[..wanted.len()] == wanted && bytes[wanted.len()..].iter().all(|byte| *byte == 0), "{name}");
        let info = Cage::default().info(&accept(&path, *format), File::open(&path).expect("opening")).await;
        assert_eq!(info.expect(name).virtual_size, done.virtual_size, "{name}");
    }
    assert_eq!(leftovers(directory.path()), [] as [PathBuf; 0]);
}

#[tokio::test]
async fn a_raw_disk_becomes_qcow2_with_progress() {
    let directory = directory();
    let path = disk(directory.path());
    let to = directory.path().join("out.qcow2");
    fs::write(&to, b"an older result").expect("writing");
    let image = accept(&path, DiskFormat::Raw);
    let conversion = Conversion { image: &image, source: File::open(&path).expect("opening"), target: Target::Qcow2, output: &to };
    let mut seen = Vec::new();
    let done = Cage::default().convert(conversion, &mut |percent| seen.push(percent)).await.expect("converting");
    assert_eq!(done.virtual_size, 3 << 20);
    assert_eq!(seen.last(), Some(&100.0));
    assert!(seen.is_sorted());
    let metadata = fs::metadata(&to).expect("the output");
    assert_eq!(metadata.mode() & 0o777, 0o600);
    assert_eq!(metadata.uid(), fs::metadata(directory.path()).expect("the directory").uid());
    assert_eq!(accept(&to, DiskFormat::Qcow2).virtual_size(), 3 << 20);
}

#[tokio::test]
async fn nothing_is_left_to_do_harm_with() {
    let directory = directory();
    let secret = directory.path().join("secret");
    fs::write(&secret, b"SECRET").expect("writing");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("chmod");
    let body = format!(
        "grep -E '^(Uid|Gid|Groups|CapInh|CapPrm|CapEff|CapAmb|NoNewPrivs):' /proc/self/status >&2
         grep -E 'cpu time|open files|address space|file size|core' /proc/self/limits >&2
         echo net: $(grep -c : /proc/net/dev) >&2; cat {} >&2; echo env: $(env | wc -l) >&2
         for fd in /proc/self/fd/*; do readlink $fd >&2; done; exit 7",
        secret.display()
    );
    let _leak = File::open("/etc/hostname").expect("a file that must not be inherited");
    // SAFETY: a plain system call; the descriptor is made inheritable on purpose.
    unsafe { libc_dup_inheritable(&_leak) };
    let error = run(directory.path(), &program(directory.path(), &body)).await.to_string();
    let flat = error.split_whitespace().collect::<Vec<_>>().join(" ");
    for line in ["CapEff:?0000000000000000", "CapPrm:?0000000000000000", "CapAmb:?0000000000000000", "NoNewPrivs:?1"] {
        assert!(flat.contains(line), "{line} in {flat}");
    }
    for line in ["Max cpu time 1800 1801", "Max open files 64 64", "Max file size 0 0", "Max core file size 0 0"] {
        assert!(flat.contains(line), "{line} in {flat}");
    }
    assert!(flat.contains("Max address space 2147483648"), "{flat}");
    assert!(!flat.contains("hostname"), "an open file was inherited: {flat}");
    if is_root() {
        assert!(flat.contains("Uid:?65534?65534?65534?65534"), "{flat}");
        assert!(flat.contains("Gid:?65534?65534?65534?65534"), "{flat}");
        assert!(flat.contains("net: 1"), "only the loopback: {flat}");
        assert!(!flat.contains("SECRET"), "{flat}");
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").expect("our own entry").uid() == 0
}

/// Makes an inheritable copy of a descriptor, which stays open for the rest of the test process.
unsafe fn libc_dup_inheritable(file: &File) {
    use std::os::fd::AsRawFd;
    // SAFETY: F_DUPFD makes a new descriptor without the close-on-exec mark.
    let copy = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_DUPFD, 200) };
    assert!(copy >= 200);
}

/// The process whose number the stand-in wrote, and whether it is still there.
fn is_alive(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{}/stat", pid.trim())).is_ok_and(|stat| !stat.contains(") Z "))
}

fn gone_soon(pid: &str) -> bool {
    let until = Instant::now() + Duration::from_secs(5);
    while is_alive(pid) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    !is_alive(pid)
}

#[tokio::test]
async fn time_runs_out_for_the_whole_group() {
    let directory = directory();
    let mut cage = program(directory.path(), "sleep 60 & echo $! >&2; echo $!; wait");
    cage.wall = Duration::from_millis(500);
    let started = Instant::now();
    let error = run(directory.path(), &cage).await;
    assert!(matches!(error, CageError::TimedOut { .. }), "{error}");
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn dropping_the_future_ends_the_processes() {
    let directory = directory();
    let path = disk(directory.path());
    let to = directory.path().join("out");
    // The output descriptor is the only place such a program can write to.
    let cage = program(directory.path(), "for last; do :; done; sleep 60 & echo $$ $! > $last; wait");
    let mut written = String::new();
    {
        let conversion = convert(&cage, &path, DiskFormat::Raw, Target::Raw, &to);
        tokio::pin!(conversion);
        let until = Instant::now() + Duration::from_secs(10);
        while !written.ends_with('\n') && Instant::now() < until {
            let step = tokio::time::timeout(Duration::from_millis(50), &mut conversion).await;
            assert!(step.is_err(), "it sleeps: {step:?}");
            written = leftovers(directory.path()).first().and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
        }
    }
    let pids: Vec<_> = written.split_whitespace().collect();
    assert_eq!(pids.len(), 2, "{written:?}");
    assert!(pids.iter().all(|pid| gone_soon(pid)), "{written}");
    assert_eq!(leftovers(directory.path()), [] as [PathBuf; 0]);
    assert!(!to.exists());
}

#[tokio::test]
async fn writing_too_much_is_a_clear_error() {
    let directory = directory();
    let path = disk(directory.path());
    let to = directory.path().join("out");
    let cage = program(directory.path(), "for last; do :; done; exec head -c 20000000 /dev/zero > $last");
    let error = convert(&cage, &path, DiskFormat::Raw, Target::Raw, &to).await.expect_err("too much");
    assert!(matches!(error, CageError::FileTooLarge { limit } if limit == (3 << 20) + (64 << 10)), "{error}");
    assert!(!to.exists());
    assert_eq!(leftovers(directory.path()), [] as [PathBuf; 0]);
}

#[tokio::test]
async fn burning_the_processor_is_a_clear_error() {
    let directory = directory();
    let mut cage = program(directory.path(), "while :; do :; done");
    cage.cpu = Duration::from_secs(1);
    let error = run(directory.path(), &cage).await;
    assert!(matches!(error, CageError::Processor { .. }), "{error}");
}

#[tokio::test]
async fn printing_too_much_is_a_clear_error() {
    let directory = directory();
    let error = run(directory.path(), &program(directory.path(), "exec cat /dev/zero")).await;
    assert!(matches!(error, CageError::OutputTooLarge { .. }), "{error}");
    let error = run(directory.path(), &program(directory.path(), "head -c 9999999 /dev/zero >&2; exit 3")).await;
    assert!(matches!(&error, CageError::Failed { stderr, .. } if stderr.len() <= 4096), "{error}");
}

#[tokio::test]
async fn failures_carry_harmless_text() {
    let directory = directory();
    let error = run(directory.path(), &program(directory.path(), "printf 'bad \\033[31mimage\\n' >&2; exit 1")).await;
    assert!(error.to_string().ends_with("bad ?[31mimage"), "{error}");
    let error = run(directory.path(), &program(directory.path(), "echo hello")).await;
    assert!(matches!(error, CageError::Unreadable { .. }), "{error}");
    let error = run(directory.path(), &Cage { qemu_img: "/nonexistent".into(), ..Cage::default() }).await;
    assert!(matches!(error, CageError::Start { .. }), "{error}");
    let error = run(directory.path(), &Cage { uid: 0, ..Cage::default() }).await;
    assert!(matches!(error, CageError::Root { .. }), "{error}");
}

#[tokio::test]
async fn an_image_that_changed_is_not_opened() {
    let directory = directory();
    let path = disk(directory.path());
    let image = accept(&path, DiskFormat::Raw);
    let other = directory.path().join("other");
    fs::write(&other, b"other").expect("writing");
    let error = Cage::default().info(&image, File::open(&other).expect("opening")).await.expect_err("not the same");
    assert!(matches!(error, CageError::Changed { .. }), "{error}");
}

/// A backing file that appears after the inspection is not followed: the format is given and the backing file is none.
#[tokio::test]
async fn a_backing_file_is_not_followed_even_when_there_is_one() {
    let directory = directory();
    let path = converted(directory.path(), "a.qcow2", &["-O", "qcow2"]);
    let image = accept(&path, DiskFormat::Qcow2);
    let mut bytes = fs::read(&path).expect("reading");
    bytes[8..20].copy_from_slice(&[0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 11]);
    bytes[512..523].copy_from_slice(b"/etc/passwd");
    fs::write(&path, bytes).expect("writing");
    let error = Cage::default().info(&image, File::open(&path).expect("opening")).await.expect_err("it disagrees");
    assert!(matches!(error, CageError::Disagreement { what: "the backing file", .. }), "{error}");
    let to = directory.path().join("out");
    convert(&Cage::default(), &disk(directory.path()), DiskFormat::Raw, Target::Raw, &to).await.expect("still works");
}

#[test]
fn what_a_dead_process_left_is_swept() {
    let directory = directory();
    for name in [".image.1-0.part", ".image", "image.part"] {
        fs::write(directory.path().join(name), b"x").expect("writing");
    }
    assert_eq!(sweep_partial(directory.path(), Duration::from_secs(3600)).expect("sweeping"), 0);
    assert_eq!(sweep_partial(directory.path(), Duration::ZERO).expect("sweeping"), 1);
    assert!(directory.path().join("image.part").exists());
}
