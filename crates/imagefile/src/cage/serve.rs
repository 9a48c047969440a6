//! Serving an open file to the caged process over a socket pair: the simplest NBD there is (the old handshake, one
//! read-only export, requests answered one after another).
//!
//! The peer is not trusted: a request may be anything. It can read the image and nothing else.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;

const OLD_HANDSHAKE: u64 = 0x0000_4202_8186_1253;
const HAS_FLAGS: u32 = 1;
const READ_ONLY: u32 = 2;
const REQUEST: u32 = 0x2560_9513;
const REPLY: u32 = 0x6744_6698;
const READ: u16 = 0;
const DISCONNECT: u16 = 2;
const EPERM: u32 = 1;
const EIO: u32 = 5;
const EINVAL: u32 = 22;
/// The most one request may ask for, as NBD clients assume of servers.
const LARGEST: u32 = 32 << 20;

/// Serves `file` until the peer is gone. Run it on a thread of its own.
pub(super) fn serve(file: &File, length: u64, mut peer: UnixStream) -> io::Result<()> {
    greet(&mut peer, length)?;
    let mut buffer = Vec::new();
    while let Some(request) = next(&mut peer)? {
        if request.kind == DISCONNECT {
            return Ok(());
        }
        let error = fill(file, length, &request, &mut buffer);
        let mut reply = Vec::with_capacity(16);
        reply.extend(REPLY.to_be_bytes());
        reply.extend(error.to_be_bytes());
        reply.extend(request.handle);
        peer.write_all(&reply)?;
        if error == 0 {
            peer.write_all(&buffer)?;
        }
    }
    Ok(())
}

fn greet(peer: &mut UnixStream, length: u64) -> io::Result<()> {
    let mut hello = Vec::with_capacity(152);
    hello.extend(b"NBDMAGIC");
    hello.extend(OLD_HANDSHAKE.to_be_bytes());
    hello.extend(length.to_be_bytes());
    hello.extend((HAS_FLAGS | READ_ONLY).to_be_bytes());
    hello.resize(152, 0);
    peer.write_all(&hello)
}

struct Request {
    kind: u16,
    handle: [u8; 8],
    from: u64,
    length: u32,
}

fn next(peer: &mut UnixStream) -> io::Result<Option<Request>> {
    let mut bytes = [0; 28];
    match peer.read_exact(&mut bytes) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    if bytes[..4] != REQUEST.to_be_bytes() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the caged process broke the protocol"));
    }
    let (kind, handle) = ([bytes[6], bytes[7]], [8, 9, 10, 11, 12, 13, 14, 15].map(|at| bytes[at]));
    let from = [16, 17, 18, 19, 20, 21, 22, 23].map(|at| bytes[at]);
    let length = [24, 25, 26, 27].map(|at| bytes[at]);
    Ok(Some(Request { kind: u16::from_be_bytes(kind), handle, from: u64::from_be_bytes(from), length: u32::from_be_bytes(length) }))
}

/// Reads what was asked for; the answer is an NBD error number, 0 for success.
fn fill(file: &File, size: u64, request: &Request, buffer: &mut Vec<u8>) -> u32 {
    if request.kind != READ {
        return EPERM;
    }
    let end = request.from.checked_add(u64::from(request.length));
    if request.length > LARGEST || end.is_none_or(|end| end > size) {
        return EINVAL;
    }
    buffer.resize(request.length as usize, 0);
    match file.read_exact_at(buffer, request.from) {
        Ok(()) => 0,
        Err(error) => {
            tracing::warn!(%error, from = request.from, "reading an image for the cage failed");
            EIO
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(kind: u16, from: u64, length: u32) -> Vec<u8> {
        let mut bytes = REQUEST.to_be_bytes().to_vec();
        bytes.extend([0, 0]);
        bytes.extend(kind.to_be_bytes());
        bytes.extend(*b"handle!!");
        bytes.extend(from.to_be_bytes());
        bytes.extend(length.to_be_bytes());
        bytes
    }

    /// Sends the requests, closes, and returns what came after the greeting.
    fn answers(requests: &[Vec<u8>]) -> (Vec<u8>, io::Result<()>) {
        let mut file = tempfile::tempfile().expect("a temporary file");
        file.write_all(b"0123456789").expect("ten bytes");
        let (ours, mut theirs) = UnixStream::pair().expect("a socket pair");
        let server = std::thread::spawn(move || serve(&file, 10, ours));
        requests.iter().for_each(|request| theirs.write_all(request).expect("the server reads"));
        theirs.shutdown(std::net::Shutdown::Write).expect("closing our side");
        let mut all = Vec::new();
        theirs.read_to_end(&mut all).expect("the answers");
        (all.split_off(152), server.join().expect("no panic"))
    }

    #[test]
    fn reads_inside_and_nothing_else() {
        let (bytes, end) = answers(&[ask(READ, 2, 3), ask(READ, 8, 3), ask(1, 0, 0), ask(READ, u64::MAX, 9)]);
        assert!(end.is_ok());
        assert_eq!(&bytes[4..8], [0; 4]);
        assert_eq!(&bytes[16..19], b"234");
        let errors: Vec<_> = bytes[19..].chunks(16).map(|reply| reply[7]).collect();
        assert_eq!(errors, [22, 1, 22]);
    }

    #[test]
    fn a_broken_peer_is_cut_off() {
        let (bytes, end) = answers(&[vec![7; 28]]);
        assert!(bytes.is_empty());
        assert!(end.is_err());
    }
}
