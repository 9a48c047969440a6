//! Network namespaces: named ones under `/run/netns`, and work inside them.
//!
//! A namespace belongs to a thread, so work inside one is done by a short-lived OS thread of its own, never by a
//! runtime worker. A socket stays in the namespace it was made in, so what such a thread opens can be used anywhere.
//! A half-made name (file without mount, after a kill) is recognised and completed by the next [`Netns::create`].

use std::{
    fs::{self, File},
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd, RawFd},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
};
use tokio::sync::oneshot;
use unkai_crashpoint::point;

use crate::{Error, Result};

const RUN: &str = "/run/netns";
const NSFS_MAGIC: i64 = 0x6e73_6673;

#[derive(Clone, Debug)]
pub struct Netns(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    fd: OwnedFd,
    handle: OnceLock<rtnetlink::Handle>,
}

impl Netns {
    /// The namespace this process was started in.
    pub fn own() -> Result<Self> {
        let file = File::open("/proc/self/ns/net").map_err(Error::io("open own namespace"))?;
        Ok(Self::from_fd("own".into(), file.into()))
    }

    pub fn open(name: &str) -> Result<Option<Self>> {
        let path = path(name)?;
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io(format!("open namespace {name}"))(e)),
        };
        let stat = nix::sys::statfs::fstatfs(&file).map_err(Error::errno(format!("look at namespace {name}")))?;
        if stat.filesystem_type().0 as i64 != NSFS_MAGIC {
            return Ok(None);
        }
        Ok(Some(Self::from_fd(name.to_owned(), file.into())))
    }

    /// Opens the named namespace, making it when it does not exist.
    pub async fn create(name: &str) -> Result<Self> {
        if let Some(found) = Self::open(name)? {
            return Ok(found);
        }
        let path = path(name)?;
        on_thread("make namespace", move || {
            share_run_dir()?;
            File::create(&path)?;
            point("network: a namespace has a name only");
            unshare(CloneFlags::CLONE_NEWNET)?;
            let own = Path::new("/proc/thread-self/ns/net");
            mount(Some(own), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
            point("network: a namespace is made");
            Ok(())
        })
        .await
        .map_err(Error::io(format!("create namespace {name}")))?;
        let made = Self::open(name)?.ok_or_else(|| Error::Invalid(format!("namespace {name} vanished while it was made")))?;
        let links = made.links().await?;
        links.change(links.by_name("lo").up().build(), "bring up lo").await?;
        Ok(made)
    }

    /// Takes the name away. What is inside goes when nothing uses it any more.
    pub fn remove(name: &str) -> Result<()> {
        let path = path(name)?;
        match umount2(&path, MntFlags::MNT_DETACH) {
            Ok(()) | Err(nix::Error::EINVAL | nix::Error::ENOENT) => {}
            Err(e) => return Err(Error::errno(format!("unmount namespace {name}"))(e)),
        }
        point("network: a namespace is unmounted");
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io(format!("remove namespace {name}"))(e)),
            _ => Ok(()),
        }
    }

    /// Names that begin with `prefix`.
    pub fn list(prefix: &str) -> Result<Vec<String>> {
        let entries = match fs::read_dir(RUN) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(Error::io(format!("list {RUN}"))(e)),
        };
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).filter(|name| name.starts_with(prefix)).collect();
        names.sort();
        Ok(names)
    }

    fn from_fd(name: String, fd: OwnedFd) -> Self {
        Self(Arc::new(Inner { name, fd, handle: OnceLock::new() }))
    }

    pub fn name(&self) -> &str {
        &self.0.name
    }

    pub fn raw_fd(&self) -> RawFd {
        self.0.fd.as_raw_fd()
    }

    /// Whether the name still leads here (somebody may have deleted the namespace behind our back).
    pub fn is_current(&self) -> bool {
        let inode = |stat: nix::Result<nix::sys::stat::FileStat>| stat.ok().map(|s| s.st_ino);
        let Ok(path) = path(&self.0.name) else {
            return false;
        };
        let ours = inode(nix::sys::stat::fstat(&self.0.fd));
        ours.is_some() && ours == inode(nix::sys::stat::stat(&path))
    }

    /// Runs blocking work inside the namespace. The runtime is entered, so sockets may be registered with it.
    pub async fn run<T, F>(&self, what: &str, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce() -> io::Result<T> + Send + 'static,
    {
        let inner = self.0.clone();
        on_thread(what, move || {
            setns(inner.fd.as_fd(), CloneFlags::CLONE_NEWNET)?;
            work()
        })
        .await
        .map_err(Error::io(format!("{what} in {}", self.0.name)))
    }

    /// The netlink socket of this namespace, made on first use and kept.
    pub async fn links(&self) -> Result<crate::sys::Links> {
        if let Some(handle) = self.0.handle.get() {
            return Ok(crate::sys::Links::new(handle.clone(), self.name()));
        }
        let (connection, handle, _) = self.run("open netlink", rtnetlink::new_connection).await?;
        tokio::spawn(connection);
        let handle = self.0.handle.get_or_init(|| handle).clone();
        Ok(crate::sys::Links::new(handle, self.name()))
    }
}

fn path(name: &str) -> Result<PathBuf> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if name.is_empty() || name.starts_with('.') || !name.bytes().all(plain) {
        return Err(Error::Invalid(format!("`{name}` is no namespace name")));
    }
    Ok(Path::new(RUN).join(name))
}

/// Makes `/run/netns` a shared mount, as iproute2 does, so that a removed name is gone in every mount namespace.
fn share_run_dir() -> io::Result<()> {
    fs::create_dir_all(RUN)?;
    let share = || mount(None::<&str>, RUN, None::<&str>, MsFlags::MS_SHARED | MsFlags::MS_REC, None::<&str>);
    if share().is_err() {
        let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
        mount(Some(RUN), RUN, None::<&str>, bind, None::<&str>)?;
        share()?;
    }
    Ok(())
}

/// One OS thread for one piece of blocking work.
async fn on_thread<T, F>(what: &str, work: F) -> io::Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> io::Result<T> + Send + 'static,
{
    let runtime = tokio::runtime::Handle::current();
    let (done, result) = oneshot::channel();
    std::thread::Builder::new().name("netns".into()).stack_size(512 * 1024).spawn(move || {
        let _entered = runtime.enter();
        // The caller may have been cancelled; then nobody is interested.
        let _ = done.send(work());
    })?;
    result.await.unwrap_or_else(|_| Err(io::Error::other(format!("{what}: worker thread died"))))
}
