//! The sockets guests talk to.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use hickory_proto::op::{Message, ResponseCode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::Semaphore,
    time::timeout,
};

use super::{
    Forwarder,
    answer::{Outcome, answer, response},
    forward::{Transport, Unanswered},
};
use crate::service::Shared;

/// What fits into one UDP answer without EDNS.
const UDP_SIZE: usize = 512;
const TCP_CONNECTIONS: usize = 16;
const TCP_IDLE: Duration = Duration::from_secs(10);

pub async fn serve(
    udp: Arc<UdpSocket>,
    tcp: TcpListener,
    snapshot: Shared,
    forwarder: Arc<Forwarder>,
) {
    tokio::join!(
        datagrams(udp, &snapshot, &forwarder),
        connections(tcp, &snapshot, &forwarder)
    );
}

async fn datagrams(socket: Arc<UdpSocket>, snapshot: &Shared, forwarder: &Arc<Forwarder>) {
    let mut buffer = vec![0; 4096];
    loop {
        let Ok((n, guest)) = socket.recv_from(&mut buffer).await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        match answer(&snapshot.load().network, &buffer[..n]) {
            Outcome::Silence => {}
            Outcome::Answer(message) => send(&socket, guest, message).await,
            // Our own names must not wait for the resolvers.
            forward @ Outcome::Forward { .. } => {
                let (socket, forwarder) = (socket.clone(), forwarder.clone());
                tokio::spawn(async move {
                    if let Some(message) = complete(forward, &forwarder, Transport::Udp).await {
                        send(&socket, guest, message).await;
                    }
                });
            }
        }
    }
}

async fn send(socket: &UdpSocket, guest: SocketAddr, message: Message) {
    let bytes = match message.to_vec() {
        Ok(bytes) if bytes.len() <= UDP_SIZE => bytes,
        Ok(_) => message.truncate().to_vec().unwrap_or_default(),
        Err(_) => return,
    };
    // A guest that is gone misses nothing.
    let _ = socket.send_to(&bytes, guest).await;
}

/// Turns any outcome into the message for the guest.
async fn complete(
    outcome: Outcome,
    forwarder: &Forwarder,
    transport: Transport,
) -> Option<Message> {
    let (request, question) = match outcome {
        Outcome::Silence => return None,
        Outcome::Answer(message) => return Some(message),
        Outcome::Forward { request, question } => (request, question),
    };
    Some(match forwarder.ask(&question, transport).await {
        Ok(mut message) => {
            message.metadata.id = request.id;
            message.metadata.recursion_desired = request.recursion_desired;
            message.metadata.recursion_available = true;
            message
        }
        Err(Unanswered::Refused) => response(&request, Some(&question), ResponseCode::Refused),
        Err(Unanswered::Failed) => response(&request, Some(&question), ResponseCode::ServFail),
    })
}

async fn connections(listener: TcpListener, snapshot: &Shared, forwarder: &Arc<Forwarder>) {
    let limit = Arc::new(Semaphore::new(TCP_CONNECTIONS));
    loop {
        let Ok(permit) = limit.clone().acquire_owned().await else {
            return;
        };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let (snapshot, forwarder) = (snapshot.clone(), forwarder.clone());
        tokio::spawn(async move {
            let mut stream = stream;
            while let Ok(Some(())) =
                timeout(TCP_IDLE, one(&mut stream, &snapshot, &forwarder)).await
            {}
            drop(permit);
        });
    }
}

/// One question and its answer; nothing when the connection is over.
async fn one(stream: &mut TcpStream, snapshot: &Shared, forwarder: &Forwarder) -> Option<()> {
    let length = stream.read_u16().await.ok()?;
    let mut buffer = vec![0; usize::from(length)];
    stream.read_exact(&mut buffer).await.ok()?;
    let outcome = answer(&snapshot.load().network, &buffer);
    let message = complete(outcome, forwarder, Transport::Tcp).await?;
    let bytes = message.to_vec().ok()?;
    let length = u16::try_from(bytes.len()).ok()?;
    stream
        .write_all(&[&length.to_be_bytes(), &bytes[..]].concat())
        .await
        .ok()
}
