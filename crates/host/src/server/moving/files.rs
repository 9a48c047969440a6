//! Files of a server that is off, from host to host. Only what is not a hole is sent, each piece with its place; the last word is the size.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::unistd::{Whence, lseek};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use unkai_model::Error;

const PIECE: usize = 1 << 20;
/// So many pieces may be read ahead.
const AHEAD: usize = 4;

/// A piece; an empty one is the end, at the size of the file.
struct Piece {
    at: u64,
    bytes: Vec<u8>,
}

fn failed(what: &str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let text = format!("{what} `{}`", path.display());
    move |e| Error::caused(text, e)
}

/// Sends a file; `sent` learns of every piece.
pub async fn send(path: &Path, stream: &mut (impl AsyncWrite + AsyncRead + Unpin), mut sent: impl FnMut(u64)) -> Result<(), Error> {
    let (give, mut take) = mpsc::channel(AHEAD);
    let file = path.to_owned();
    let reading = tokio::task::spawn_blocking(move || read(&file, &give));
    while let Some(Piece { at, bytes }) = take.recv().await {
        let written = async {
            stream.write_u64(at).await?;
            stream.write_u32(bytes.len() as u32).await?;
            stream.write_all(&bytes).await
        };
        written.await.map_err(failed("sending", path))?;
        sent(bytes.len() as u64);
    }
    reading.await.map_err(|e| Error::caused("reading a disk", e))?.map_err(failed("reading", path))?;
    stream.flush().await.map_err(failed("sending", path))?;
    // The other host says when it has all of it safe.
    stream.read_u8().await.map(drop).map_err(failed("sending", path))
}

fn read(path: &Path, give: &mpsc::Sender<Piece>) -> std::io::Result<()> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    let mut at = 0;
    while at < size {
        // None beyond: the rest is a hole.
        let Ok(begin) = lseek(&file, at as i64, Whence::SeekData) else { break };
        let end = lseek(&file, begin, Whence::SeekHole)? as u64;
        at = begin as u64;
        file.seek(SeekFrom::Start(at))?;
        while at < end {
            let mut bytes = vec![0; PIECE.min((end - at) as usize)];
            file.read_exact(&mut bytes)?;
            let length = bytes.len() as u64;
            if give.blocking_send(Piece { at, bytes }).is_err() {
                return Ok(());
            }
            at += length;
        }
    }
    let _ = give.blocking_send(Piece { at: size, bytes: Vec::new() });
    Ok(())
}

/// Takes a file, which is new here.
pub async fn receive(path: &Path, stream: &mut (impl AsyncWrite + AsyncRead + Unpin)) -> Result<(), Error> {
    let file = File::create(path).map_err(failed("creating", path))?;
    let file = std::sync::Arc::new(file);
    loop {
        let at = stream.read_u64().await.map_err(failed("receiving", path))?;
        let length = stream.read_u32().await.map_err(failed("receiving", path))? as usize;
        if length == 0 {
            let sized = file.set_len(at).and_then(|()| file.sync_all());
            return sized.map_err(failed("writing", path));
        }
        if length > PIECE {
            return Err(Error::invalid("another host sends too large a piece"));
        }
        let mut bytes = vec![0; length];
        stream.read_exact(&mut bytes).await.map_err(failed("receiving", path))?;
        let file = file.clone();
        let written = tokio::task::spawn_blocking(move || file.write_all_at(&bytes, at)).await;
        written.map_err(|e| Error::caused("writing a disk", e))?.map_err(failed("writing", path))?;
    }
}

/// Says that a file is safe here.
pub async fn acknowledge(stream: &mut (impl AsyncWrite + Unpin)) -> Result<(), Error> {
    let said = async {
        stream.write_u8(1).await?;
        stream.flush().await
    };
    said.await.map_err(|e| Error::caused("answering another host", e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[tokio::test]
    async fn a_file_with_holes_arrives_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        for (number, pieces) in [vec![], vec![(0u64, 5usize)], vec![(3 << 20, 2 << 20), (64 << 20, 7)]].into_iter().enumerate() {
            let (from, to) = (dir.path().join(format!("from{number}")), dir.path().join(format!("to{number}")));
            let file = File::create(&from).unwrap();
            file.set_len(100 << 20).unwrap();
            for (at, length) in pieces {
                let bytes: Vec<u8> = (0..length).map(|n| (n % 251) as u8 + 1).collect();
                file.write_all_at(&bytes, at).unwrap();
            }
            let (mut near, mut far) = tokio::io::duplex(1 << 16);
            let mut total = 0;
            let take = async {
                receive(&to, &mut far).await.unwrap();
                acknowledge(&mut far).await.unwrap();
            };
            let (sent, ()) = tokio::join!(send(&from, &mut near, |bytes| total += bytes), take);
            sent.unwrap();
            assert!(std::fs::read(&from).unwrap() == std::fs::read(&to).unwrap(), "file {number}");
            assert!(total <= 8 << 20 && to.metadata().unwrap().blocks() * 512 <= 16 << 20, "holes are not sent, nor written");
        }
    }

    #[tokio::test]
    async fn a_file_that_is_cut_off_is_not_taken_for_whole() {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("from");
        std::fs::write(&from, vec![1; 3 << 20]).unwrap();
        let (mut near, far) = tokio::io::duplex(1 << 16);
        let taking = tokio::spawn(async move {
            let mut far = far;
            let mut some = vec![0; 100_000];
            far.read_exact(&mut some).await.unwrap();
        });
        assert!(send(&from, &mut near, |_| ()).await.is_err());
        taking.await.unwrap();
        let (near, mut far) = tokio::io::duplex(1 << 16);
        drop(near);
        assert!(receive(&dir.path().join("to"), &mut far).await.is_err());
    }
}
