//! Reads a file as a stream of chunks, one ahead of the receiver.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::unfold;
use tokio::task::JoinHandle;

const CHUNK: u64 = 512 << 10;

/// Part of a file, read off the reactor.
pub struct FileStream {
    file: Arc<File>,
    at: u64,
    end: u64,
    ahead: Option<JoinHandle<io::Result<Vec<u8>>>>,
}

impl FileStream {
    /// The bytes from `start` up to, not including, `end`.
    pub fn new(file: File, start: u64, end: u64) -> Self {
        FileStream { file: Arc::new(file), at: start, end, ahead: None }
    }

    pub fn into_stream(self) -> impl Stream<Item = io::Result<Bytes>> + Send {
        unfold(self, |mut reader| async move {
            let chunk = reader.next().await?;
            Some((chunk, reader))
        })
    }

    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        if self.ahead.is_none() {
            self.read_ahead();
        }
        let read = self.ahead.take()?.await.unwrap_or_else(|e| Err(e.into()));
        match &read {
            Ok(_) => self.read_ahead(),
            Err(_) => self.at = self.end,
        }
        Some(read.map(Bytes::from))
    }

    fn read_ahead(&mut self) {
        let length = (self.end - self.at).min(CHUNK);
        if length == 0 {
            return;
        }
        let (file, at) = (self.file.clone(), self.at);
        self.at += length;
        self.ahead = Some(tokio::task::spawn_blocking(move || {
            let mut chunk = vec![0; length as usize];
            file.read_exact_at(&mut chunk, at).map(|()| chunk)
        }));
    }
}
