//! A client of the QEMU guest agent, when the guest runs one: its file systems frozen around a snapshot, and what else the agent offers.
//! The answering program is the tenant's, so every reply is bounded in time and size and none is trusted.

use crate::error::{Error, Result};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

const MAX_REPLY: usize = 1 << 20;

pub struct GuestAgent {
    stream: UnixStream,
    buffer: Vec<u8>,
}

impl GuestAgent {
    /// Connects and finds out whether anybody answers.
    pub async fn connect(socket: &Path, patience: Duration) -> Result<GuestAgent> {
        let stream = UnixStream::connect(socket).await.map_err(Error::io("connect to guest agent socket", socket))?;
        let mut agent = GuestAgent { stream, buffer: Vec::new() };
        // Old replies may still be in the pipe: a number of our own marks where ours begin.
        let mark = i64::from(rand_mark());
        agent.write(json!({"execute": "guest-sync", "arguments": {"id": mark}})).await?;
        let synced = async {
            loop {
                if agent.read().await?.get("return").and_then(Value::as_i64) == Some(mark) {
                    return Ok(());
                }
            }
        };
        timeout(patience, synced).await.map_err(|_| Error::GuestAgent("no agent answers in the guest".to_owned()))??;
        Ok(agent)
    }

    pub async fn execute(&mut self, command: &str, arguments: Value, within: Duration) -> Result<Value> {
        self.write(json!({"execute": command, "arguments": arguments})).await?;
        let reply = timeout(within, self.read()).await.map_err(|_| Error::Timeout { command: command.to_owned(), within })??;
        match reply.get("return") {
            Some(value) => Ok(value.clone()),
            None => {
                let text = reply.pointer("/error/desc").and_then(Value::as_str).unwrap_or("an answer without meaning");
                Err(Error::GuestAgent(format!("{command}: {}", text.chars().take(300).collect::<String>())))
            }
        }
    }

    async fn write(&mut self, request: Value) -> Result<()> {
        let line = format!("{request}\n");
        self.stream.write_all(line.as_bytes()).await.map_err(Error::system("write to guest agent"))
    }

    async fn read(&mut self) -> Result<Value> {
        loop {
            if let Some(at) = self.buffer.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=at).collect();
                // leftovers of an earlier conversation may be cut in the middle
                if let Ok(value) = serde_json::from_slice(&line) {
                    return Ok(value);
                }
                continue;
            }
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk).await.map_err(Error::system("read from guest agent"))? {
                0 => return Err(Error::GuestAgent("the channel was closed".to_owned())),
                n if self.buffer.len() + n > MAX_REPLY => return Err(Error::GuestAgent("the answer is too long".to_owned())),
                n => self.buffer.extend_from_slice(&chunk[..n]),
            }
        }
    }
}

fn rand_mark() -> u32 {
    let bytes = uuid::Uuid::new_v4().into_bytes();
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) >> 1
}

#[cfg(test)]
mod hostile;

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UnixListener;

    #[tokio::test]
    async fn stale_replies_are_skipped_and_silence_ends() {
        let temp = tempfile::tempdir().unwrap();
        let socket = temp.path().join("ga");
        let listener = UnixListener::bind(&socket).unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let n = stream.read(&mut request).await.unwrap();
            let request: Value = serde_json::from_slice(&request[..n]).unwrap();
            let reply = format!("turn\": 5}}\n{{\"return\": 1}}\n{{\"return\": {}}}\n", request["arguments"]["id"]);
            stream.write_all(reply.as_bytes()).await.unwrap();
            let mut request = vec![0; 4096];
            let _ = stream.read(&mut request).await.unwrap();
            stream.write_all(b"{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}}\n").await.unwrap();
            let (_silent, _) = listener.accept().await.unwrap();
            tokio::time::sleep(Duration::from_secs(5)).await;
        });
        let mut agent = GuestAgent::connect(&socket, Duration::from_secs(5)).await.unwrap();
        let answer = agent.execute("guest-ping", json!({}), Duration::from_secs(5)).await;
        assert!(answer.unwrap_err().to_string().contains("guest-ping: no"));
        drop(agent);
        assert!(GuestAgent::connect(&socket, Duration::from_millis(50)).await.is_err());
        server.abort();
    }
}
