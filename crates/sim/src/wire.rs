//! Connections in memory, and a network that can fail: wires are cut, hold everything back for a while as a partition does, or lag.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::sync::watch;
use unkai_link::item::HostId;
use unkai_link::server::LinkServer;

use crate::cloud::ControllerProcess;

/// Bytes on their way between agent and controller.
const WIRE: usize = 64 << 10;

/// A connection to the controller of this process, that never fails by itself.
pub fn connect(link: &Arc<LinkServer>, host: &HostId) -> DuplexStream {
    let (near, far) = tokio::io::duplex(WIRE);
    tokio::spawn(link.clone().serve(far, host.clone()));
    near
}

/// What a wire does with bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    Carries,
    /// Everything comes so late.
    Lags(Duration),
    /// Keeps what comes until it carries again: the two ends notice nothing but silence.
    Holds,
    /// Closes what runs over it and refuses to open anew.
    Cut,
}

/// A connection over a wire whose state is `wire`; none while it is cut.
pub fn connect_over(controller: &ControllerProcess, host: &HostId, wire: watch::Receiver<Wire>) -> Option<DuplexStream> {
    if *wire.borrow() == Wire::Cut {
        return None;
    }
    let (near, agent_end) = tokio::io::duplex(WIRE);
    let (controller_end, far) = tokio::io::duplex(WIRE);
    controller.serve(far, host);
    let (agent_read, agent_write) = tokio::io::split(agent_end);
    let (controller_read, controller_write) = tokio::io::split(controller_end);
    tokio::spawn(carry(agent_read, controller_write, wire.clone()));
    tokio::spawn(carry(controller_read, agent_write, wire));
    Some(near)
}

/// One direction, until an end closes or the wire is cut.
async fn carry(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, mut wire: watch::Receiver<Wire>) {
    let mut buffer = vec![0; 16 << 10];
    loop {
        if wire.wait_for(|wire| *wire != Wire::Holds).await.is_ok_and(|wire| *wire == Wire::Cut) {
            return;
        }
        tokio::select! {
            biased;
            changed = wire.changed() => if changed.is_err() { return },
            read = from.read(&mut buffer) => match read {
                Ok(0) | Err(_) => return,
                Ok(n) => {
                    let now = *wire.borrow();
                    if let Wire::Lags(late) = now {
                        tokio::time::sleep(late).await;
                    }
                    // What was read just before a partition began stays on this side of it.
                    let open = wire.wait_for(|wire| *wire != Wire::Holds).await.is_ok_and(|wire| *wire != Wire::Cut);
                    if !open || to.write_all(&buffer[..n]).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}
