//! Asking the operator's resolvers.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use hickory_proto::op::{Message, MessageType, Query};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

use crate::service::shares::Shares;

/// Questions of one guest, and of one network, under way at once; more are refused.
const EACH: usize = 16;
const ALL: usize = 128;
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub struct Forwarder {
    upstreams: Vec<SocketAddr>,
    shares: Shares,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
}

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// Nobody to ask, or too much asked.
    Refused,
    Failed,
}

impl Forwarder {
    pub fn new(upstreams: Vec<SocketAddr>) -> Self {
        Self { upstreams, shares: Shares::new(EACH, ALL) }
    }

    /// The first resolver's answer that fits the question; its id is the resolver's, not the guest's.
    pub async fn ask(&self, guest: IpAddr, question: &Query, transport: Transport) -> Result<Message, Unanswered> {
        let Some(_share) = self.shares.take(guest) else {
            return Err(Unanswered::Refused);
        };
        if self.upstreams.is_empty() {
            return Err(Unanswered::Refused);
        }
        for upstream in &self.upstreams {
            match timeout(PATIENCE, exchange(*upstream, question, transport)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => tracing::debug!(%upstream, %error, "resolver failed"),
                Err(_) => tracing::debug!(%upstream, "resolver silent"),
            }
        }
        Err(Unanswered::Failed)
    }
}

async fn exchange(upstream: SocketAddr, question: &Query, transport: Transport) -> io::Result<Message> {
    let mut query = Message::query();
    query.metadata.recursion_desired = true;
    query.queries.push(question.clone());
    let bytes = query.to_vec().map_err(io::Error::other)?;
    match transport {
        Transport::Udp => over_udp(upstream, &query, &bytes).await,
        Transport::Tcp => over_tcp(upstream, &query, &bytes).await,
    }
}

async fn over_udp(upstream: SocketAddr, query: &Message, bytes: &[u8]) -> io::Result<Message> {
    let any: SocketAddr = if upstream.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { (std::net::Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(upstream).await?;
    socket.send(bytes).await?;
    let mut buffer = vec![0; 4096];
    loop {
        let n = socket.recv(&mut buffer).await?;
        // What does not fit the question is somebody guessing; keep waiting for the real one.
        if let Some(answer) = fitting(query, &buffer[..n]) {
            return Ok(answer);
        }
    }
}

async fn over_tcp(upstream: SocketAddr, query: &Message, bytes: &[u8]) -> io::Result<Message> {
    let mut stream = TcpStream::connect(upstream).await?;
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), bytes].concat()).await?;
    let length = stream.read_u16().await?;
    let mut buffer = vec![0; usize::from(length)];
    stream.read_exact(&mut buffer).await?;
    fitting(query, &buffer).ok_or_else(|| io::Error::other("answer to another question"))
}

pub(super) fn fitting(query: &Message, bytes: &[u8]) -> Option<Message> {
    let answer = Message::from_vec(bytes).ok()?;
    let fits =
        answer.metadata.id == query.metadata.id && answer.metadata.message_type == MessageType::Response && answer.queries == query.queries;
    fits.then_some(answer)
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::{Name, RecordType};

    use super::*;

    const GUEST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 5));

    fn question() -> Query {
        Query::query(Name::from_ascii("example.org.").unwrap(), RecordType::A)
    }

    #[tokio::test]
    async fn nobody_to_ask() {
        let nobody = Forwarder::new(Vec::new());
        assert_eq!(nobody.ask(GUEST, &question(), Transport::Udp).await.err(), Some(Unanswered::Refused));
    }

    #[tokio::test]
    async fn an_answer_to_another_question_is_not_taken() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let forwarder = Forwarder::new(vec![server.local_addr().unwrap()]);
        let serve = async {
            let mut buffer = [0; 512];
            let (n, from) = server.recv_from(&mut buffer).await.unwrap();
            let query = Message::from_vec(&buffer[..n]).unwrap();
            let mut wrong = Message::response(query.metadata.id ^ 1, query.metadata.op_code);
            wrong.queries = query.queries.clone();
            server.send_to(&wrong.to_vec().unwrap(), from).await.unwrap();
            let mut right = Message::response(query.metadata.id, query.metadata.op_code);
            right.queries = query.queries.clone();
            right.metadata.authoritative = true;
            server.send_to(&right.to_vec().unwrap(), from).await.unwrap();
        };
        let question = question();
        let (answer, ()) = tokio::join!(forwarder.ask(GUEST, &question, Transport::Udp), serve);
        assert!(answer.unwrap().metadata.authoritative);
    }
}
