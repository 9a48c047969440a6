//! Byte streams to what runs on a host: consoles, logs, diagnostics. The agent dials them outward; here is only what a dialect asks for.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use unkai_model::compute::{Host, Server};
use unkai_model::{Error, Id};

/// What a tunnel leads to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The VNC server of a server: raw RFB bytes both ways.
    Vnc { server: Id<Server> },
    /// The serial console, both ways.
    Serial { server: Id<Server> },
    /// The end of the console log, read to the end of the stream. `lines`: how many; none is all that is kept.
    ConsoleLog { server: Id<Server>, lines: Option<u64> },
    /// One JSON document in the form of Nova's server diagnostics (microversion 2.48), read to the end.
    Diagnostics { server: Id<Server> },
}

pub trait ByteStreamIo: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStreamIo for T {}
pub type ByteStream = Box<dyn ByteStreamIo>;

/// Opens tunnels. `Error::Unavailable` when the host's agent is not connected or refuses.
pub trait Tunnels: Send + Sync + 'static {
    fn open(&self, host: Id<Host>, target: Target) -> Pin<Box<dyn Future<Output = Result<ByteStream, Error>> + Send + '_>>;
}

/// For a controller without agents.
pub struct NoTunnels;

impl Tunnels for NoTunnels {
    fn open(&self, host: Id<Host>, _: Target) -> Pin<Box<dyn Future<Output = Result<ByteStream, Error>> + Send + '_>> {
        Box::pin(async move { Err(Error::unavailable(format!("host {host} is not connected"))) })
    }
}

impl<T: Tunnels> Tunnels for Arc<T> {
    fn open(&self, host: Id<Host>, target: Target) -> Pin<Box<dyn Future<Output = Result<ByteStream, Error>> + Send + '_>> {
        (**self).open(host, target)
    }
}
