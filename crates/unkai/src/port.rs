//! The controller's one port: TLS, then either an agent's link or HTTP for the dialects, as the handshake says.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use unkai_link::ALPN;
use unkai_link::server::LinkServer;
use unkai_link::tls::{self, Peer};

const HANDSHAKE: Duration = Duration::from_secs(10);
const HEADERS: Duration = Duration::from_secs(30);

pub struct Port {
    pub listener: TcpListener,
    pub tls: Arc<rustls::ServerConfig>,
    pub http: Router,
    pub link: Arc<LinkServer>,
}

impl Port {
    /// Serves until the future is dropped.
    pub async fn serve(self) {
        let acceptor = TlsAcceptor::from(self.tls);
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    let (acceptor, http, link) = (acceptor.clone(), self.http.clone(), self.link.clone());
                    tokio::spawn(connection(acceptor, http, link, stream, peer));
                }
                Err(error) => {
                    // Out of descriptors, most likely: others will be closed.
                    tracing::warn!(%error, "accepting a connection failed");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
}

async fn connection(acceptor: TlsAcceptor, http: Router, link: Arc<LinkServer>, stream: TcpStream, peer: SocketAddr) {
    let _ = stream.set_nodelay(true);
    let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%peer, %error, "a TLS handshake failed"),
        Err(_) => return tracing::debug!(%peer, "a TLS handshake took too long"),
    };
    let (_, session) = stream.get_ref();
    if session.alpn_protocol() == Some(ALPN) {
        return match session.peer_certificates().and_then(|chain| chain.first()).map(tls::peer_of) {
            None => link.serve_stranger(stream).await,
            Some(Some(Peer::Host { host, enrolment })) => link.serve_host(stream, host, enrolment).await,
            Some(Some(Peer::Controller)) => link.serve_controller(stream).await,
            Some(None) => tracing::warn!(%peer, "a certificate of this cloud that is nobody's"),
        };
    }
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new()).header_read_timeout(HEADERS);
    server.http2().timer(TokioTimer::new()).keep_alive_interval(Some(HEADERS)).max_concurrent_streams(128);
    let service = TowerToHyperService::new(http);
    if let Err(error) = server.serve_connection_with_upgrades(TokioIo::new(stream), service).await {
        tracing::debug!(%peer, %error, "a connection ended");
    }
}
