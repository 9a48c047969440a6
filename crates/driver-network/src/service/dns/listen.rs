//! The sockets guests talk to.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use hickory_proto::op::{Message, ResponseCode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    time::timeout,
};

use super::{
    Forwarder,
    answer::{Outcome, answer},
    forward::{Transport, Unanswered},
    request::datagram,
};
use crate::service::{Shared, shares::Shares};

/// Connections of one guest, and at one address, at once; what is more is closed.
const EACH: usize = 4;
const ALL: usize = 64;
const TCP_IDLE: Duration = Duration::from_secs(10);

pub async fn serve(udp: Arc<UdpSocket>, tcp: TcpListener, snapshot: Shared, forwarder: Arc<Forwarder>) {
    tokio::join!(datagrams(udp, &snapshot, &forwarder), connections(tcp, &snapshot, &forwarder));
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
            forward @ Outcome::Forward(_) => {
                let (socket, forwarder) = (socket.clone(), forwarder.clone());
                tokio::spawn(async move {
                    if let Some(message) = complete(guest.ip(), forward, &forwarder, Transport::Udp).await {
                        send(&socket, guest, message).await;
                    }
                });
            }
        }
    }
}

async fn send(socket: &UdpSocket, guest: SocketAddr, message: Message) {
    if let Some(bytes) = datagram(&message) {
        // A guest that is gone misses nothing.
        let _ = socket.send_to(&bytes, guest).await;
    }
}

/// Turns any outcome into the message for the guest.
async fn complete(guest: IpAddr, outcome: Outcome, forwarder: &Forwarder, transport: Transport) -> Option<Message> {
    let request = match outcome {
        Outcome::Silence => return None,
        Outcome::Answer(message) => return Some(message),
        Outcome::Forward(request) => request,
    };
    let answer = match &request.question {
        Some(question) => forwarder.ask(guest, question, transport).await,
        None => Err(Unanswered::Refused),
    };
    Some(match answer {
        Ok(message) => request.adapt(message),
        Err(Unanswered::Refused) => request.response(ResponseCode::Refused),
        Err(Unanswered::Failed) => request.response(ResponseCode::ServFail),
    })
}

async fn connections(listener: TcpListener, snapshot: &Shared, forwarder: &Arc<Forwarder>) {
    let shares = Shares::new(EACH, ALL);
    loop {
        let Ok((mut stream, guest)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let Some(share) = shares.take(guest.ip()) else {
            continue;
        };
        let (snapshot, forwarder) = (snapshot.clone(), forwarder.clone());
        tokio::spawn(async move {
            while let Ok(Some(())) = timeout(TCP_IDLE, one(guest.ip(), &mut stream, &snapshot, &forwarder)).await {}
            drop(share);
        });
    }
}

/// One question and its answer; nothing when the connection is over.
async fn one(guest: IpAddr, stream: &mut TcpStream, snapshot: &Shared, forwarder: &Forwarder) -> Option<()> {
    let length = stream.read_u16().await.ok()?;
    let mut buffer = vec![0; usize::from(length)];
    stream.read_exact(&mut buffer).await.ok()?;
    let outcome = answer(&snapshot.load().network, &buffer);
    let message = complete(guest, outcome, forwarder, Transport::Tcp).await?;
    let bytes = message.to_vec().ok()?;
    let length = u16::try_from(bytes.len()).ok()?;
    stream.write_all(&[&length.to_be_bytes(), &bytes[..]].concat()).await.ok()
}
