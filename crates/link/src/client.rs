//! The agent's end: dial, introduce, follow.

use std::io;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::sync::mpsc;
use unkai_model::image::Image;
use unkai_model::{Error, Id};

use crate::enrolment::{Admitted, Enrol, Renew};
use crate::item::{Down, HostId};
use crate::report::{Inventory, Up};
use crate::wire::{self, Body, Lines};

const QUEUE: usize = 1024;

/// A connection to a controller. Cheap to clone; all clones share it.
#[derive(Clone)]
pub struct Link {
    requests: SendRequest<Body>,
}

/// The two directions of a session.
pub struct Session {
    down: Lines,
    pub up: mpsc::Sender<Up>,
}

impl Session {
    /// The next word of the controller; none when the session has ended. Cancel safe.
    pub async fn next(&mut self) -> io::Result<Option<Down>> {
        self.down.next().await
    }
}

impl Link {
    /// Speaks the link's protocol over an established, authenticated stream.
    pub async fn connect(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Self, Error> {
        let (requests, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(Some(Duration::from_secs(5)))
            .keep_alive_timeout(Duration::from_secs(10))
            .keep_alive_while_idle(true)
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(4 << 20)
            .handshake(TokioIo::new(io))
            .await
            .map_err(|e| Error::caused("speaking HTTP/2 with the controller", e))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the link ended");
            }
        });
        Ok(Link { requests })
    }

    /// Introduces this host and starts to follow what is assigned to it.
    pub async fn session(&self, inventory: Inventory) -> Result<Session, Error> {
        let (up, queue) = mpsc::channel(QUEUE);
        up.send(Up::Hello(Box::new(inventory))).await.map_err(|_| Error::unavailable("the session closed at once"))?;
        let response = self.call(Method::POST, "/session", wire::lines(queue)).await?;
        Ok(Session { down: Lines::new(response.into_body()), up })
    }

    /// The bytes of an image, and how many there will be.
    pub async fn get_image(&self, image: &Id<Image>) -> Result<(impl AsyncRead + Send + Unpin + use<>, Option<u64>), Error> {
        let response = self.call(Method::GET, &format!("/images/{image}"), wire::empty()).await?;
        let length = response.headers().get(http::header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
        Ok((wire::reader_of(response.into_body()), length))
    }

    /// Hands over the bytes of an image that this host was told to make. Ok only when the controller has them safe.
    pub async fn put_image(&self, image: &Id<Image>, bytes: impl AsyncRead + Send + 'static) -> Result<(), Error> {
        self.call(Method::PUT, &format!("/images/{image}"), wire::from_reader(bytes)).await.map(drop)
    }

    /// Answers a request for a tunnel: the stream to join to its target.
    pub async fn tunnel(&self, id: &str) -> Result<DuplexStream, Error> {
        let (near, far) = tokio::io::duplex(64 << 10);
        let (outgoing, mut into_near) = tokio::io::split(far);
        let response = self.call(Method::POST, &format!("/tunnels/{id}"), wire::from_reader(outgoing)).await?;
        tokio::spawn(async move {
            let mut from_peer = wire::reader_of(response.into_body());
            let _ = tokio::io::copy(&mut from_peer, &mut into_near).await;
            let _ = tokio::io::AsyncWriteExt::shutdown(&mut into_near).await;
        });
        Ok(near)
    }

    /// Spends a token; on a connection without a certificate.
    pub async fn enrol(&self, enrol: &Enrol) -> Result<Admitted, Error> {
        self.ask("/enrol", enrol).await
    }

    /// A new certificate for this host, on the strength of the present one.
    pub async fn renew(&self, renew: &Renew) -> Result<Admitted, Error> {
        self.ask("/renew", renew).await
    }

    async fn ask(&self, path: &str, question: &impl serde::Serialize) -> Result<Admitted, Error> {
        let text = serde_json::to_vec(question).map_err(|e| Error::caused(format!("encoding {path}"), e))?;
        let response = self.call(Method::POST, path, wire::text(text)).await?;
        let answer = response.into_body().collect().await.map_err(|e| Error::caused(format!("reading the answer to {path}"), e))?;
        serde_json::from_slice(&answer.to_bytes()).map_err(|e| Error::caused(format!("reading the answer to {path}"), e))
    }

    /// From one controller to another: a tunnel to a host that is connected there.
    pub async fn relay(&self, host: &HostId, target: &serde_json::Value) -> Result<DuplexStream, Error> {
        let (near, far) = tokio::io::duplex(64 << 10);
        let (outgoing, mut into_near) = tokio::io::split(far);
        let mut request = Request::builder().method(Method::POST).uri(format!("https://controller/relay/{host}"));
        request = request.header("unkai-target", target.to_string());
        let request = request.body(wire::from_reader(outgoing)).map_err(|e| Error::caused("making a relay's request", e))?;
        let response = self.send(format!("relay to {host}"), request).await?;
        tokio::spawn(async move {
            let mut from_peer = wire::reader_of(response.into_body());
            let _ = tokio::io::copy(&mut from_peer, &mut into_near).await;
            let _ = tokio::io::AsyncWriteExt::shutdown(&mut into_near).await;
        });
        Ok(near)
    }

    async fn call(&self, method: Method, path: &str, body: Body) -> Result<Response<Incoming>, Error> {
        let what = format!("{method} {path}");
        let request = Request::builder().method(method).uri(format!("https://controller{path}")).body(body);
        let request = request.map_err(|e| Error::caused(format!("making the request {what}"), e))?;
        self.send(what, request).await
    }

    async fn send(&self, what: String, request: Request<Body>) -> Result<Response<Incoming>, Error> {
        let mut requests = self.requests.clone();
        let response = requests.send_request(request).await.map_err(|e| Error::caused(what.clone(), e))?;
        if response.status() == StatusCode::OK {
            return Ok(response);
        }
        let status = response.status();
        let text = response.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        match status {
            StatusCode::FORBIDDEN => Err(Error::Denied(text.into_owned())),
            StatusCode::BAD_REQUEST => Err(Error::invalid(text.into_owned())),
            StatusCode::CONFLICT => Err(Error::conflict(text.into_owned())),
            StatusCode::NOT_FOUND => Err(Error::conflict(format!("{what}: {text}"))),
            StatusCode::SERVICE_UNAVAILABLE => Err(Error::unavailable(format!("{what}: {text}"))),
            _ => Err(Error::internal(format!("{what}: {status}: {text}"))),
        }
    }
}
