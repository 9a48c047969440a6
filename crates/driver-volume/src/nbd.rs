//! One end of a socket pair as a disk for `qemu-img`: the NBD protocol, in its oldest form, which needs no negotiation.
//!
//! So bytes go between a volume of any kind and this process, which sees no format and opens no volume itself.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::tool::Run;

/// A disk that is made of something else.
pub(crate) trait Disk: Send {
    fn read(&mut self, at: u64, buffer: &mut [u8]) -> Result<()>;
    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<()>;
    fn zero(&mut self, at: u64, length: u64) -> Result<()>;
}

const OLD_HANDSHAKE: u64 = 0x0000_4202_8186_1253;
const HAS_FLAGS: u32 = 1;
const CAN_FLUSH: u32 = 1 << 2;
const CAN_ZERO: u32 = 1 << 6;
const REQUEST: u32 = 0x2560_9513;
const REPLY: u32 = 0x6744_6698;
const READ: u16 = 0;
const WRITE: u16 = 1;
const DISCONNECT: u16 = 2;
const FLUSH: u16 = 3;
const WRITE_ZEROES: u16 = 6;
/// QEMU asks for less at once.
const MOST: u32 = 64 << 20;
const EIO: u32 = 5;
const EINVAL: u32 = 22;

/// Runs a program that has the disk as the block device that `arguments` is given. What went wrong with the disk says more than what the
/// program makes of that.
pub(crate) fn with<D: Disk>(disk: &mut D, size: u64, mut run: Run<'_>, go: impl FnOnce(Run<'_>, &Value) -> Result<()>) -> Result<()> {
    let failed = |what: &str, e: io::Error| Error::tool("qemu-img", format!("{what}: {e}"));
    let (ours, theirs) = UnixStream::pair().map_err(|e| failed("making a socket pair", e))?;
    let node = json!({"driver": "nbd", "server": {"type": "fd", "str": run.hand(&theirs)?.to_string()}});
    drop(theirs);
    std::thread::scope(|scope| {
        let server = std::thread::Builder::new().spawn_scoped(scope, move || serve(disk, size, ours));
        let server = server.map_err(|e| failed("starting a thread", e))?;
        let ran = go(run, &node);
        match server.join() {
            Ok(Ok(())) => ran,
            Ok(Err(error)) => Err(error),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Answers until the other end is closed. The first thing that went wrong with the disk; how the talk ends is the program's to say.
fn serve(disk: &mut impl Disk, size: u64, mut peer: UnixStream) -> Result<()> {
    let mut fault = None;
    let _ = talk(disk, size, &mut peer, &mut fault);
    fault.map_or(Ok(()), Err)
}

fn talk(disk: &mut impl Disk, size: u64, peer: &mut UnixStream, fault: &mut Option<Error>) -> io::Result<()> {
    let mut hello = Vec::with_capacity(152);
    hello.extend(b"NBDMAGIC");
    hello.extend(OLD_HANDSHAKE.to_be_bytes());
    hello.extend(size.to_be_bytes());
    hello.extend((HAS_FLAGS | CAN_FLUSH | CAN_ZERO).to_be_bytes());
    hello.resize(152, 0);
    peer.write_all(&hello)?;
    let mut buffer = Vec::new();
    loop {
        let mut header = [0; 28];
        peer.read_exact(&mut header)?;
        let long = |at: usize| u64::from_be_bytes(std::array::from_fn(|i| header[at + i]));
        let short = |at: usize| u32::from_be_bytes(std::array::from_fn(|i| header[at + i]));
        let (kind, at, length) = (u16::from_be_bytes([header[6], header[7]]), long(16), short(24));
        if short(0) != REQUEST || kind == DISCONNECT || matches!(kind, READ | WRITE) && length > MOST {
            return Ok(());
        }
        let inside = at.checked_add(length.into()).is_some_and(|end| end <= size);
        buffer.resize(if matches!(kind, READ | WRITE) { length as usize } else { 0 }, 0);
        if kind == WRITE {
            peer.read_exact(&mut buffer)?;
        }
        let done = match kind {
            READ if inside => disk.read(at, &mut buffer).map_err(Some),
            WRITE if inside => disk.write(at, &buffer).map_err(Some),
            WRITE_ZEROES if inside => disk.zero(at, length.into()).map_err(Some),
            FLUSH => Ok(()),
            _ => Err(None),
        };
        let code = match &done {
            Ok(()) => 0,
            Err(Some(_)) => EIO,
            Err(None) => EINVAL,
        };
        if let Err(Some(error)) = done {
            fault.get_or_insert(error);
        }
        let mut reply = Vec::with_capacity(16);
        reply.extend(REPLY.to_be_bytes());
        reply.extend(code.to_be_bytes());
        reply.extend(&header[8..16]);
        peer.write_all(&reply)?;
        if kind == READ && code == 0 {
            peer.write_all(&buffer)?;
        }
    }
}
