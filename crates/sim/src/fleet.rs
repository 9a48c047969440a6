//! Many hosts in a process of their own, over sockets, so that what a controller costs can be told from what they cost.
//!
//! Each connection begins with the host's name on a line, in place of the certificate that a real one proves it by.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use unkai_link::item::HostId;
use unkai_model::Error;

use crate::cloud::{self, Task};
use crate::host::{self, Agent};
use crate::storage::Storage;

/// Hosts begin one after another, as machines do after a power cut at best.
const APART: Duration = Duration::from_micros(500);
/// A step on such a host.
const STEP: Duration = Duration::from_millis(20);
const LONGEST_NAME: u64 = 256;

/// Who is at the other end of an accepted connection.
pub async fn name(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<HostId> {
    let mut name = Vec::new();
    // Byte by byte: what follows is the link's.
    loop {
        match stream.read_u8().await? {
            b'\n' => break,
            byte if (name.len() as u64) < LONGEST_NAME => name.push(byte),
            _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "the name of a host is too long")),
        }
    }
    String::from_utf8(name).map(HostId::new).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

async fn dial(socket: PathBuf, host: HostId) -> Result<UnixStream, Error> {
    let lost = |e: io::Error| Error::caused("reaching the controller", e);
    let mut stream = UnixStream::connect(&socket).await.map_err(lost)?;
    stream.write_all(format!("{host}\n").as_bytes()).await.map_err(lost)?;
    Ok(stream)
}

/// Runs hosts 1 to `count` until the commands end: `kill FIRST LAST` cuts the power of those hosts.
pub async fn run(socket: &Path, count: usize, commands: impl AsyncBufRead + Unpin) -> io::Result<()> {
    let storage = Storage::default();
    let mut hosts = BTreeMap::new();
    for number in 1..=count {
        let machine = cloud::machine(number).on(&storage);
        let agent = Agent { machine: machine.clone(), inventory: host::inventory(machine.host.as_str()), pace: STEP };
        let (socket, host) = (socket.to_path_buf(), machine.host.clone());
        let agent = Task::spawn(agent.run(move || dial(socket.clone(), host.clone())));
        hosts.insert(number, (machine.clone(), agent, Task::spawn(machine.guard())));
        tokio::time::sleep(APART).await;
    }
    let mut commands = commands.lines();
    while let Some(command) = commands.next_line().await? {
        let words: Vec<_> = command.split(' ').collect();
        if let ["kill", first, last] = words[..]
            && let (Ok(first), Ok(last)) = (first.parse::<usize>(), last.parse::<usize>())
        {
            for number in first..=last {
                if let Some((machine, _, _)) = hosts.remove(&number) {
                    machine.power_off();
                }
            }
        }
    }
    Ok(())
}
