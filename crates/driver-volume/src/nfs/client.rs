//! An export of an NFS server (version 3 over TCP), without the kernel: few, small requests about names and attributes. QEMU moves the data.
//!
//! Paths are below the export. Calls block, one at a time; a connection that failed is made anew by the next call.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use nfs3_client::io::{AsyncRead, AsyncWrite};
use nfs3_client::net::Connector;
use nfs3_client::nfs3_types::nfs3::{
    COMMIT3args, CREATE3args, FSSTAT3args, GETATTR3args, LINK3args, LOOKUP3args, MKDIR3args, Nfs3Option, Nfs3Result, READ3args,
    READDIR3args, REMOVE3args, RENAME3args, RMDIR3args, SETATTR3args, WRITE3args, cookieverf3, createhow3, diropargs3, fattr3, filename3,
    nfs_fh3, nfsstat3, sattr3, sattrguard3, set_mtime, stable_how,
};
use nfs3_client::nfs3_types::rpc::{auth_unix, opaque_auth};
use nfs3_client::nfs3_types::xdr_codec::Opaque;
use nfs3_client::{ConnectError, MountError, Nfs3Connection, Nfs3ConnectionBuilder, PortmapError, RpcError};

use crate::error::{Error, Result};

/// A server that does not answer for so long is gone.
const PATIENCE: Duration = Duration::from_secs(10);
/// Nothing that is read here is longer.
const LARGEST: u32 = 64 << 10;

pub struct Client {
    server: String,
    export: String,
    connection: Mutex<Option<Nfs3Connection<Wire>>>,
}

/// What is known of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    pub bytes: u64,
    pub uid: u32,
    /// By the server's clock.
    pub modified: Duration,
}

impl From<fattr3> for Attributes {
    fn from(found: fattr3) -> Self {
        let modified = Duration::new(found.mtime.seconds.into(), found.mtime.nseconds.min(999_999_999));
        Attributes { bytes: found.size, uid: found.uid, modified }
    }
}

/// Why a request was not done.
enum Refusal {
    Status(nfsstat3),
    /// The connection is of no use any more.
    Wire(String),
}

impl From<RpcError> for Refusal {
    fn from(error: RpcError) -> Self {
        Refusal::Wire(error.to_string())
    }
}

type Answer<T> = std::result::Result<T, Refusal>;

fn answered<T, E>(result: Nfs3Result<T, E>) -> Answer<T> {
    match result {
        Nfs3Result::Ok(found) => Ok(found),
        Nfs3Result::Err((status, _)) => Err(Refusal::Status(status)),
    }
}

/// An answer that says "there is none" as none.
fn found<T>(answer: Answer<T>) -> Answer<Option<T>> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(Refusal::Status(nfsstat3::NFS3ERR_NOENT)) => Ok(None),
        Err(refusal) => Err(refusal),
    }
}

fn named<'a>(dir: &nfs_fh3, name: &'a str) -> diropargs3<'a> {
    diropargs3 { dir: dir.clone(), name: filename3(Opaque::borrowed(name.as_bytes())) }
}

/// The directory and the name.
fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

impl Client {
    pub fn new(server: &str, export: &str) -> Client {
        Client { server: server.to_owned(), export: export.trim_end_matches('/').to_owned(), connection: Mutex::default() }
    }

    /// The path by which QEMU knows a file.
    pub fn full(&self, path: &str) -> String {
        format!("{}/{path}", self.export)
    }

    pub fn server(&self) -> &str {
        &self.server
    }

    fn gone(&self, why: impl std::fmt::Display) -> Error {
        Error::Pool(format!("export {} of NFS server {}: {why}", self.export, self.server))
    }

    /// Runs requests on a connection. One that was idle may have ended meanwhile, so a first failure of it is tried again on a new one.
    fn ask<T>(&self, path: &str, mut requests: impl FnMut(&mut Session<'_>) -> Answer<T>) -> Result<T> {
        let mut held = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let mut again = held.is_some();
        loop {
            if held.is_none() {
                *held = Some(self.connect()?);
            }
            let Some(connection) = held.as_mut() else { continue };
            match requests(&mut Session { root: connection.root_nfs_fh3(), connection }) {
                Ok(done) => return Ok(done),
                Err(Refusal::Status(nfsstat3::NFS3ERR_STALE | nfsstat3::NFS3ERR_BADHANDLE)) if again => {}
                Err(Refusal::Status(status)) => return Err(self.refused(path, status)),
                Err(Refusal::Wire(_)) if again => {}
                Err(Refusal::Wire(why)) => {
                    *held = None;
                    return Err(self.gone(why));
                }
            }
            *held = None;
            again = false;
        }
    }

    fn refused(&self, path: &str, status: nfsstat3) -> Error {
        use nfsstat3::{NFS3ERR_DQUOT, NFS3ERR_FBIG, NFS3ERR_NOENT, NFS3ERR_NOSPC};
        let place = self.full(path);
        match status {
            NFS3ERR_NOSPC | NFS3ERR_DQUOT | NFS3ERR_FBIG => Error::Full(format!("`{place}`: {status}")),
            NFS3ERR_NOENT => Error::Missing(format!("`{place}`")),
            other => self.gone(format!("`{place}`: {other}")),
        }
    }

    fn connect(&self) -> Result<Nfs3Connection<Wire>> {
        let mut addresses =
            (self.server.as_str(), 0).to_socket_addrs().map_err(|e| self.gone(format!("the server's name cannot be resolved: {e}")))?;
        let address = addresses.next().ok_or_else(|| self.gone("the server's name has no address"))?;
        // As root: it gives files to those who may write them.
        let credential = opaque_auth::auth_unix(&auth_unix { machinename: Opaque::borrowed(b"unkai"), ..auth_unix::default() });
        let builder = Nfs3ConnectionBuilder::new(Dial, address.ip().to_string(), &self.export);
        // QEMU, which is nobody, has no other ports either.
        let mount = builder.connect_from_privileged_port(false).credential(credential).mount();
        done(mount).map_err(|error| {
            self.gone(match error {
                ConnectError::Io(e) => format!("no answer: {e}"),
                ConnectError::Portmap(PortmapError::ProgramUnavailable) => "NFS version 3 is not served there".into(),
                ConnectError::Mount(MountError::Denied(status)) => format!("it cannot be mounted: {status:?}"),
                other => other.to_string(),
            })
        })
    }

    /// None: there is no such file.
    pub fn stat(&self, path: &str) -> Result<Option<Attributes>> {
        self.ask(path, |session| {
            let Some(file) = found(session.find(path))? else { return Ok(None) };
            found(answered(done(session.connection.getattr(&GETATTR3args { object: file }))?).map(|found| found.obj_attributes.into()))
        })
    }

    /// Names in a directory; none: there is no such directory.
    pub fn list(&self, path: &str) -> Result<Option<Vec<String>>> {
        self.ask(path, |session| {
            let Some(dir) = found(session.find(path))? else { return Ok(None) };
            let (mut names, mut cookie, mut cookieverf) = (Vec::new(), 0, cookieverf3::default());
            loop {
                let page = READDIR3args { dir: dir.clone(), cookie, cookieverf, count: LARGEST };
                let page = answered(done(session.connection.readdir(&page))?)?;
                (cookieverf, cookie) = (page.cookieverf, page.reply.entries.0.last().map_or(cookie, |entry| entry.cookie));
                let end = page.reply.eof || page.reply.entries.0.is_empty();
                let page = page.reply.entries.0.iter().map(|entry| String::from_utf8_lossy(entry.name.0.as_ref()).into_owned());
                names.extend(page.filter(|name| name != "." && name != ".."));
                if end {
                    return Ok(Some(names));
                }
            }
        })
    }

    /// The beginning of a file, at most so many bytes; none: there is no such file.
    pub fn read(&self, path: &str, count: u32) -> Result<Option<Vec<u8>>> {
        self.ask(path, |session| {
            let Some(file) = found(session.find(path))? else { return Ok(None) };
            let part = READ3args { file, offset: 0, count: count.min(LARGEST) };
            Ok(Some(answered(done(session.connection.read(&part))?)?.data.as_ref().to_vec()))
        })
    }

    /// An empty file of an owner; false: there is one already.
    pub fn create(&self, path: &str, uid: u32, gid: u32, bytes: u64) -> Result<bool> {
        self.ask(path, |session| {
            let (dir, name) = split(path);
            let dir = session.find(dir)?;
            let new = sattr3 {
                mode: Nfs3Option::Some(0o600),
                uid: Nfs3Option::Some(uid),
                gid: Nfs3Option::Some(gid),
                size: Nfs3Option::Some(bytes),
                ..sattr3::default()
            };
            let create = CREATE3args { where_: named(&dir, name), how: createhow3::GUARDED(new) };
            match answered(done(session.connection.create(&create))?) {
                Err(Refusal::Status(nfsstat3::NFS3ERR_EXIST)) => Ok(false),
                made => made.map(|_| true),
            }
        })
    }

    /// Durably, in place of what the file has at its beginning.
    pub fn write(&self, path: &str, bytes: &[u8]) -> Result<()> {
        self.ask(path, |session| {
            let file = session.find(path)?;
            let (count, data) = (bytes.len() as u32, Opaque::borrowed(bytes));
            let part = WRITE3args { file, offset: 0, count, stable: stable_how::FILE_SYNC, data };
            let written = answered(done(session.connection.write(&part))?)?.count;
            if written == count { Ok(()) } else { Err(Refusal::Status(nfsstat3::NFS3ERR_IO)) }
        })
    }

    /// What was written to the file is durable.
    pub fn commit(&self, path: &str) -> Result<()> {
        self.ask(path, |session| {
            let file = session.find(path)?;
            answered(done(session.connection.commit(&COMMIT3args { file, offset: 0, count: 0 }))?).map(drop)
        })
    }

    pub fn set(&self, path: &str, new_attributes: &sattr3) -> Result<bool> {
        self.ask(path, |session| {
            let Some(object) = found(session.find(path))? else { return Ok(false) };
            let set = SETATTR3args { object, new_attributes: new_attributes.clone(), guard: sattrguard3::None };
            Ok(found(answered(done(session.connection.setattr(&set))?))?.is_some())
        })
    }

    /// Gives a file another owner; false: there is none.
    pub fn give(&self, path: &str, uid: u32) -> Result<bool> {
        self.set(path, &sattr3 { uid: Nfs3Option::Some(uid), ..sattr3::default() })
    }

    pub fn resize(&self, path: &str, bytes: u64) -> Result<bool> {
        self.set(path, &sattr3 { size: Nfs3Option::Some(bytes), ..sattr3::default() })
    }

    /// Modified now, by the server's clock; false: there is none.
    pub fn touch(&self, path: &str) -> Result<bool> {
        self.set(path, &sattr3 { mtime: set_mtime::SET_TO_SERVER_TIME, ..sattr3::default() })
    }

    /// Nothing happens when it is there.
    pub fn make_dir(&self, path: &str) -> Result<()> {
        self.ask(path, |session| {
            let (dir, name) = split(path);
            let dir = session.find(dir)?;
            // Whoever is given a file must reach it; names are not secret, and only root makes any.
            let attributes = sattr3 { mode: Nfs3Option::Some(0o711), ..sattr3::default() };
            match answered(done(session.connection.mkdir(&MKDIR3args { where_: named(&dir, name), attributes }))?) {
                Err(Refusal::Status(nfsstat3::NFS3ERR_EXIST)) => Ok(()),
                made => made.map(drop),
            }
        })
    }

    /// Nothing happens when there is none.
    pub fn remove(&self, path: &str) -> Result<()> {
        self.ask(path, |session| {
            let (dir, name) = split(path);
            let Some(dir) = found(session.find(dir))? else { return Ok(()) };
            found(answered(done(session.connection.remove(&REMOVE3args { object: named(&dir, name) }))?)).map(drop)
        })
    }

    /// A directory and the files in it; nothing happens when there is none.
    pub fn remove_dir(&self, path: &str) -> Result<()> {
        for name in self.list(path)?.unwrap_or_default() {
            self.remove(&format!("{path}/{name}"))?;
        }
        self.ask(path, |session| {
            let (dir, name) = split(path);
            let Some(dir) = found(session.find(dir))? else { return Ok(()) };
            found(answered(done(session.connection.rmdir(&RMDIR3args { object: named(&dir, name) }))?)).map(drop)
        })
    }

    /// In place of what is there; false: there is nothing to rename.
    pub fn rename(&self, from: &str, to: &str) -> Result<bool> {
        self.ask(from, |session| {
            let ((from_dir, from_name), (to_dir, to_name)) = (split(from), split(to));
            let Some(source) = found(session.find(from_dir))? else { return Ok(false) };
            let target = session.find(to_dir)?;
            let rename = RENAME3args { from: named(&source, from_name), to: named(&target, to_name) };
            Ok(found(answered(done(session.connection.rename(&rename))?))?.is_some())
        })
    }

    /// A second name of a file; false: that name is taken.
    pub fn link(&self, file: &str, name: &str) -> Result<bool> {
        self.ask(name, |session| {
            let file = session.find(file)?;
            let (dir, name) = split(name);
            let dir = session.find(dir)?;
            match answered(done(session.connection.link(&LINK3args { file, link: named(&dir, name) }))?) {
                Err(Refusal::Status(nfsstat3::NFS3ERR_EXIST)) => Ok(false),
                made => made.map(|_| true),
            }
        })
    }

    /// Bytes of the file system, and those that are free.
    pub fn room(&self) -> Result<(u64, u64)> {
        self.ask("", |session| {
            let fsroot = session.root.clone();
            let room = answered(done(session.connection.fsstat(&FSSTAT3args { fsroot }))?)?;
            Ok((room.tbytes, room.abytes))
        })
    }
}

/// One connection, while it is asked.
struct Session<'a> {
    connection: &'a mut Nfs3Connection<Wire>,
    root: nfs_fh3,
}

impl Session<'_> {
    fn find(&mut self, path: &str) -> Answer<nfs_fh3> {
        let mut here = self.root.clone();
        for name in path.split('/').filter(|name| !name.is_empty()) {
            here = answered(done(self.connection.lookup(&LOOKUP3args { what: named(&here, name) }))?)?.object;
        }
        Ok(here)
    }
}

/// Runs what never waits: the wire blocks instead.
fn done<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("requests on a wire that blocks never wait")
}

/// A connection whose reads and writes block, for so long.
#[derive(Debug)]
struct Wire(TcpStream);

impl AsyncRead for Wire {
    async fn async_read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        // Whoever reads here takes nothing for a pause, not for the end.
        match self.0.read(buffer).map_err(patience)? {
            0 if !buffer.is_empty() => Err(std::io::ErrorKind::UnexpectedEof.into()),
            read => Ok(read),
        }
    }
}

impl AsyncWrite for Wire {
    async fn async_write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        self.0.write(buffer).map_err(patience)
    }
}

/// What a read that took too long is called differs.
fn patience(error: std::io::Error) -> std::io::Error {
    match error.kind() {
        std::io::ErrorKind::WouldBlock => std::io::Error::new(std::io::ErrorKind::TimedOut, "it does not answer"),
        _ => error,
    }
}

struct Dial;

impl Connector for Dial {
    type Connection = Wire;

    async fn connect(&self, address: SocketAddr) -> std::io::Result<Wire> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Wire(stream))
    }

    async fn connect_with_port(&self, address: SocketAddr, _: u16) -> std::io::Result<Wire> {
        self.connect(address).await
    }
}
