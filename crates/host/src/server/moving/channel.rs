//! Connections between the two hosts of a move. Each begins with one line that says the secret and what it carries.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use nix::sys::socket::{setsockopt, sockopt};
use rustls::{ClientConfig, ServerConfig};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use unkai_driver_network::TrackedFlow;
use unkai_driver_qemu::{Bus, LaunchSpec, NicModel, Source};
use unkai_link::peers;
use unkai_model::Error;

/// Ports that are tried in turn, those that the field's firewalls know for this; then any.
const PORTS: std::ops::RangeInclusive<u16> = 49152..=49215;
const HANDSHAKE: Duration = Duration::from_secs(10);
/// A host that says nothing for so long is not there.
const SILENCE: Duration = Duration::from_secs(10);
/// A configuration drive is part of the longest line.
const LONGEST_LINE: usize = 96 << 20;
const LONGEST_OPENING: usize = 4096;
const BUFFER: usize = 256 << 10;

pub type Stream = TlsStream<TcpStream>;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// Words, one JSON line each.
    Control,
    Memory,
    /// Of a disk, by its id.
    Disk(String),
}

#[derive(Serialize, Deserialize)]
struct Opening {
    token: String,
    channel: Channel,
}

/// From the source.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromSource {
    Hello(Box<Portrait>),
    /// The guest stands still here for good. What is tracked of its connections, by network.
    Go(BTreeMap<String, Vec<TrackedFlow>>),
}

/// From the destination.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromDestination {
    /// All is prepared; these disks are to be copied, `true`: with what they stand on.
    Ready(Vec<(String, bool)>),
    /// The guest is here.
    Arrived,
    /// It will never be started here in this move.
    GaveUp(String),
}

/// What the destination has to know of the machine as it is, beside what it is told by the controller. Nothing in it is a path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Portrait {
    pub machine: Option<String>,
    pub disks: Vec<DiskPortrait>,
    pub nics: Vec<NicPortrait>,
    /// Base64.
    pub config_drive: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DiskPortrait {
    pub id: String,
    pub bus: Bus,
    pub slot: Option<u8>,
    /// Of a disk of the server's own.
    pub bytes: Option<u64>,
    /// The name of the file that it stands on, which names the content.
    pub base: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NicPortrait {
    pub port: String,
    pub model: NicModel,
    pub slot: Option<u8>,
}

impl Portrait {
    pub fn of(spec: &LaunchSpec, config_drive: Option<Vec<u8>>) -> Self {
        let disks = spec.disks.iter().map(|disk| {
            let (bytes, base) = match &disk.source {
                Source::Overlay { base, bytes, .. } => (Some(*bytes), base.file_name().map(|name| name.to_string_lossy().into_owned())),
                Source::Blank { bytes } | Source::Ephemeral { bytes, .. } | Source::Swap { bytes } => (Some(*bytes), None),
                Source::Given { .. } => (None, None),
            };
            DiskPortrait { id: disk.id.clone(), bus: disk.bus, slot: disk.slot, bytes, base }
        });
        Portrait {
            machine: spec.machine.clone(),
            disks: disks.collect(),
            nics: spec.nics.iter().map(|nic| NicPortrait { port: nic.port.clone(), model: nic.model, slot: nic.slot }).collect(),
            config_drive: config_drive.map(|bytes| base64::engine::general_purpose::STANDARD.encode(bytes)),
        }
    }
}

pub fn listen() -> Result<TcpListener, Error> {
    let bind = |address: IpAddr, port: u16| -> std::io::Result<TcpListener> {
        let listener = std::net::TcpListener::bind((address, port))?;
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    };
    // One socket takes both families where there are both.
    let any = |port| bind(Ipv6Addr::UNSPECIFIED.into(), port).or_else(|_| bind(Ipv4Addr::UNSPECIFIED.into(), port));
    let found = PORTS.into_iter().find_map(|port| any(port).ok());
    found.map_or_else(|| any(0), Ok).map_err(|e| Error::caused("listening for another host", e))
}

/// The next connection of the other host that knows the secret. Others are told nothing.
pub async fn accept(listener: &TcpListener, tls: &Arc<ServerConfig>, token: &str) -> Result<(Channel, Stream), Error> {
    loop {
        let (stream, address) = listener.accept().await.map_err(|e| Error::caused("listening for another host", e))?;
        match tokio::time::timeout(HANDSHAKE, open(stream, tls, token)).await {
            Ok(Ok(opened)) => return Ok(opened),
            Ok(Err(error)) => tracing::warn!(%address, %error, "refused a connection for a server that is to come"),
            Err(_) => tracing::warn!(%address, "a connection for a server that is to come said nothing"),
        }
    }
}

async fn open(stream: TcpStream, tls: &Arc<ServerConfig>, token: &str) -> Result<(Channel, Stream), Error> {
    tune(&stream)?;
    let stream = TlsAcceptor::from(tls.clone()).accept(stream).await.map_err(|e| Error::caused("speaking TLS with another host", e))?;
    let mut stream = Stream::from(stream);
    let mut line = Vec::new();
    // Byte by byte: what follows is somebody else's.
    loop {
        match stream.read_u8().await.map_err(|e| Error::caused("reading what a connection is for", e))? {
            b'\n' => break,
            byte if line.len() < LONGEST_OPENING => line.push(byte),
            _ => return Err(Error::invalid("a connection does not say what it is for")),
        }
    }
    let opening: Opening = serde_json::from_slice(&line).map_err(|e| Error::caused("reading what a connection is for", e))?;
    let same = |a: &[u8], b: &[u8]| a.len() == b.len() && a.iter().zip(b).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0;
    if !same(opening.token.as_bytes(), token.as_bytes()) {
        return Err(Error::denied("a connection does not know the secret"));
    }
    Ok((opening.channel, stream))
}

pub async fn dial(address: SocketAddr, tls: &Arc<ClientConfig>, token: &str, channel: Channel) -> Result<Stream, Error> {
    let context = |e: std::io::Error| Error::caused(format!("connecting to {address}"), e);
    let dialled = async {
        let stream = TcpStream::connect(address).await.map_err(context)?;
        tune(&stream)?;
        let stream = TlsConnector::from(tls.clone()).connect(peers::name()?, stream).await.map_err(context)?;
        let mut stream = Stream::from(stream);
        write_line(&mut stream, &Opening { token: token.to_owned(), channel }).await?;
        Ok(stream)
    };
    tokio::time::timeout(HANDSHAKE, dialled).await.unwrap_or_else(|_| Err(Error::unavailable(format!("{address} does not answer"))))
}

/// The end of the other host, or of the way to it, is noticed soon.
fn tune(stream: &TcpStream) -> Result<(), Error> {
    let tuned = || -> nix::Result<()> {
        setsockopt(stream, sockopt::TcpNoDelay, &true)?;
        setsockopt(stream, sockopt::KeepAlive, &true)?;
        setsockopt(stream, sockopt::TcpKeepIdle, &3)?;
        setsockopt(stream, sockopt::TcpKeepInterval, &2)?;
        setsockopt(stream, sockopt::TcpKeepCount, &3)?;
        setsockopt(stream, sockopt::TcpUserTimeout, &(SILENCE.as_millis() as u32))
    };
    tuned().map_err(|e| Error::caused("setting up a connection between hosts", e))
}

async fn write_line(stream: &mut (impl AsyncWrite + Unpin), value: &impl Serialize) -> Result<(), Error> {
    let mut line = serde_json::to_vec(value).map_err(|e| Error::caused("encoding a word to another host", e))?;
    line.push(b'\n');
    let written = async {
        stream.write_all(&line).await?;
        stream.flush().await
    };
    written.await.map_err(|e| Error::caused("writing to another host", e))
}

/// A control channel.
pub struct Words {
    read: ReadHalf<Stream>,
    write: WriteHalf<Stream>,
    buffer: Vec<u8>,
}

impl Words {
    pub fn new(stream: Stream) -> Self {
        let (read, write) = tokio::io::split(stream);
        Words { read, write, buffer: Vec::new() }
    }

    pub async fn say(&mut self, word: &impl Serialize) -> Result<(), Error> {
        write_line(&mut self.write, word).await
    }

    /// The next word; an error when there will be none. Cancel safe.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<T, Error> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return serde_json::from_slice(&line).map_err(|e| Error::caused("reading a word of another host", e));
            }
            if self.buffer.len() > LONGEST_LINE {
                return Err(Error::invalid("another host says too long a word"));
            }
            let read = self.read.read_buf(&mut self.buffer).await.map_err(|e| Error::caused("reading from another host", e))?;
            if read == 0 {
                return Err(Error::unavailable("the other host closed the connection"));
            }
        }
    }
}

/// Carries bytes both ways until both ends are done, or one breaks.
pub async fn pump(mut near: impl AsyncRead + AsyncWrite + Unpin, mut far: impl AsyncRead + AsyncWrite + Unpin) {
    if let Err(error) = tokio::io::copy_bidirectional_with_sizes(&mut near, &mut far, BUFFER, BUFFER).await {
        tracing::debug!(%error, "a stream of a moving server broke");
    }
}
