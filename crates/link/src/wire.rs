//! JSON lines and raw bytes in HTTP/2 bodies.

use std::io;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, BodyStream, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::io::{ReaderStream, StreamReader};

pub type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A line longer than this is a broken peer.
const LONGEST_LINE: usize = 16 << 20;
const TUNNEL_BUFFER: usize = 64 << 10;

pub fn empty() -> Body {
    Full::new(Bytes::new()).map_err(|never| match never {}).boxed_unsync()
}

pub fn text(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).map_err(|never| match never {}).boxed_unsync()
}

pub fn stream(bytes: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Body {
    StreamBody::new(bytes.map(|chunk| chunk.map(Frame::data))).boxed_unsync()
}

/// A body of the bytes of a reader.
pub fn from_reader(reader: impl AsyncRead + Send + 'static) -> Body {
    stream(ReaderStream::with_capacity(reader, 256 << 10))
}

/// A body that carries what is sent into the channel, one JSON line each.
pub fn lines<T: Serialize + Send + 'static>(values: mpsc::Receiver<T>) -> Body {
    stream(ReceiverStream::new(values).map(|value| {
        let mut line = serde_json::to_vec(&value).map_err(io::Error::other)?;
        line.push(b'\n');
        Ok(Bytes::from(line))
    }))
}

pub fn bytes_of(body: Incoming) -> impl Stream<Item = io::Result<Bytes>> + Send + Unpin {
    BodyStream::new(body)
        .filter_map(|frame| async move {
            match frame {
                Ok(frame) => frame.into_data().ok().map(Ok),
                Err(e) => Some(Err(io::Error::other(e))),
            }
        })
        .boxed()
}

pub fn reader_of(body: Incoming) -> impl AsyncRead + Send + Unpin {
    StreamReader::new(bytes_of(body))
}

/// Reads JSON lines from a body.
pub struct Lines {
    chunks: Box<dyn Stream<Item = io::Result<Bytes>> + Send + Unpin>,
    buffer: BytesMut,
}

impl Lines {
    pub fn new(body: Incoming) -> Self {
        Lines { chunks: Box::new(bytes_of(body)), buffer: BytesMut::new() }
    }

    /// The next value; none at the end of the body. Cancel safe.
    pub async fn next<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(end + 1);
                return serde_json::from_slice(&line).map(Some).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e));
            }
            if self.buffer.len() > LONGEST_LINE {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a line is too long"));
            }
            match self.chunks.next().await {
                Some(chunk) => self.buffer.extend_from_slice(&chunk?),
                None => return Ok(None),
            }
        }
    }
}

/// Joins an incoming body and a new outgoing one to a byte stream: the stream for the caller, the body to send.
pub fn duplex(incoming: Incoming) -> (DuplexStream, Body) {
    let (near, far) = tokio::io::duplex(TUNNEL_BUFFER);
    let (outgoing, mut into_near) = tokio::io::split(far);
    tokio::spawn(async move {
        let mut from_peer = reader_of(incoming);
        let _ = tokio::io::copy(&mut from_peer, &mut into_near).await;
        let _ = into_near.shutdown().await;
    });
    (near, from_reader(outgoing))
}
