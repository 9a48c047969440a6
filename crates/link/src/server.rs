//! The controller's end: one session per connected agent.
//!
//! A session follows the store and sends the items of its host whose content changed. It owns nothing that outlives it: a lost
//! connection is a new session later, and the agent keeps what it has. Sessions are counted in the host's document: a controller that was
//! paused while its agent went to another one still holds words of the old session, and they are refused.
//!
//! A host whose admission ends is cut off from every controller: each follows the store, ends the connection, and refuses new ones.

use std::collections::HashMap;
use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use unkai_model::image::Image;
use unkai_model::{Error, Id};
use unkai_store::{Store, View};

use unkai_model::compute::Host;
use unkai_model::controller::Controller;

use crate::ca::Authority;
use crate::client::Link;
use crate::enrolment::{Admitted, Enrol, Renew};
use crate::interests::{Interest, Interests};
use crate::item::{Down, HostId, Item, ItemKey};
use crate::report::{Inventory, Up};
use crate::wire::{self, Body, Lines};

/// Changes within this time are looked at together.
const GATHER: Duration = Duration::from_millis(4);
const BEAT: Duration = Duration::from_secs(2);
const TUNNEL_WAIT: Duration = Duration::from_secs(10);
const QUEUE: usize = 1024;
const LARGEST_REPORT: usize = 256;
/// A machine without a certificate has this long to say its token.
const STRANGER_PATIENCE: Duration = Duration::from_secs(15);
const LARGEST_REQUEST: usize = 64 << 10;
/// In the request of a relayed tunnel: what to join it to.
const TARGET: &str = "unkai-target";

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
pub type Bytes = Box<dyn AsyncRead + Send + Unpin>;

/// What control knows and the link needs. All methods are cheap or go through the store.
pub trait Control: Send + Sync + 'static {
    /// Everything assigned to this host; a pure function of the view.
    fn assigned(&self, view: &View, host: &HostId) -> Vec<Item>;
    /// The process of this controller, as documents name it.
    fn process(&self) -> &str;
    /// The agent introduced itself; afterwards the host exists in the store, and this is the number of its session.
    fn hello(&self, host: HostId, inventory: Inventory) -> BoxFuture<'_, Result<u64, Error>>;
    /// Reports of a session in the order they were said; one that no longer makes sense, and any of an earlier session, is dropped, not an error.
    fn report(&self, host: HostId, session: u64, reports: Vec<Up>) -> BoxFuture<'_, Result<(), Error>>;
    /// Spends a token: which host the machine is from now on, and the number of the enrolment.
    fn enrol(&self, enrol: Enrol) -> BoxFuture<'_, Result<(HostId, u64), Error>>;
    fn open_image(&self, host: HostId, image: Id<Image>) -> BoxFuture<'_, Result<(Bytes, u64), Error>>;
    fn take_image(&self, host: HostId, image: Id<Image>, bytes: Bytes) -> BoxFuture<'_, Result<(), Error>>;
    /// How long, from before this call, the host may go on running what needs a lease. An error grants nothing.
    fn lease(&self, host: HostId) -> BoxFuture<'_, Result<Duration, Error>>;
}

/// Reaches the controller at an address, as a controller.
pub type Reach = Box<dyn Fn(String) -> BoxFuture<'static, Result<Link, Error>> + Send + Sync>;

/// What a controller has beyond its sessions when it serves real machines and may have neighbours.
pub struct Cloud {
    pub authority: Arc<Authority>,
    /// For how long hosts' certificates are good.
    pub life: Duration,
    pub reach: Reach,
}

/// All sessions of one controller.
pub struct LinkServer {
    store: Store,
    control: Arc<dyn Control>,
    sessions: Mutex<HashMap<HostId, Session>>,
    /// How many words each host that ever was connected here has said.
    words: Mutex<HashMap<HostId, u64>>,
    tunnels: Mutex<HashMap<String, (HostId, oneshot::Sender<DuplexStream>)>>,
    cloud: OnceLock<Cloud>,
    interests: Arc<Interests>,
    /// Ends with the last session and holder of this.
    _waker: AbortOnDropHandle<()>,
}

struct Session {
    number: u64,
    down: mpsc::Sender<Down>,
}

/// One connection's other end.
#[derive(Clone)]
struct Peer {
    host: HostId,
    /// The enrolment that its certificate names; none in the controller's own process, where there is nothing to prove.
    enrolment: Option<u64>,
    /// Ends the connection.
    cut: CancellationToken,
}

impl Peer {
    /// Is what it proved by still good?
    fn is_admitted(&self, view: &View) -> bool {
        match (view.get(&self.host), self.enrolment) {
            (Some(host), Some(enrolment)) => host.status.admission.admits(enrolment),
            (Some(host), None) => host.status.admission.revoked.is_none(),
            (None, enrolment) => enrolment.is_none(),
        }
    }
}

impl LinkServer {
    /// Must be called on a runtime: a task of its own follows the store.
    pub fn new(store: Store, control: Arc<dyn Control>) -> Arc<Self> {
        let (sessions, words, tunnels, cloud) = Default::default();
        let interests = Arc::new(Interests::default());
        let _waker = AbortOnDropHandle::new(tokio::spawn(interests.clone().follow(store.clone())));
        Arc::new(LinkServer { store, control, sessions, words, tunnels, cloud, interests, _waker })
    }

    /// From here on machines can enrol, and tunnels reach hosts of other controllers.
    pub fn join_cloud(&self, cloud: Cloud) -> Result<(), Error> {
        self.cloud.set(cloud).map_err(|_| Error::internal("the controller was started twice"))
    }

    /// The process of this controller, as documents name it.
    pub fn process(&self) -> &str {
        self.control.process()
    }

    /// How many words each host has said here so far. What counts is whether the number grows.
    pub fn heard(&self) -> HashMap<HostId, u64> {
        self.lock_words().clone()
    }

    /// Serves one connection whose other end is known to be `host`. Returns when it ends.
    pub async fn serve(self: Arc<Self>, io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, host: HostId) {
        self.serve_peer(io, Peer { host, enrolment: None, cut: CancellationToken::new() }).await;
    }

    /// The same for one that has proven it by a certificate of an enrolment.
    pub async fn serve_host(self: Arc<Self>, io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, host: HostId, enrolment: u64) {
        let peer = Peer { host, enrolment: Some(enrolment), cut: CancellationToken::new() };
        match self.store.read().await {
            Ok(view) if peer.is_admitted(&view) => self.serve_peer(io, peer).await,
            Ok(_) => tracing::warn!(host = %peer.host, enrolment, "refused a host whose certificate is no longer good"),
            Err(error) => tracing::warn!(host = %peer.host, %error, "refused a host: it cannot be told whether it is admitted"),
        }
    }

    async fn serve_peer(self: Arc<Self>, io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, peer: Peer) {
        let (server, of) = (self.clone(), peer.clone());
        let service = service_fn(move |request| {
            let (server, peer) = (server.clone(), of.clone());
            async move { Ok::<_, std::convert::Infallible>(server.handle(peer, request).await) }
        });
        let connection = http2().serve_connection(TokioIo::new(io), service);
        tokio::select! {
            ended = connection => if let Err(error) = ended {
                tracing::debug!(host = %peer.host, %error, "a link ended");
            },
            () = peer.cut.cancelled() => tracing::warn!(host = %peer.host, "cut off"),
        }
    }

    /// Serves a machine that has no certificate: it can enrol, and nothing else.
    pub async fn serve_stranger(self: Arc<Self>, io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let service = service_fn(move |request: Request<Incoming>| {
            let server = self.clone();
            async move {
                let result = match (request.method(), request.uri().path()) {
                    (&Method::POST, "/enrol") => server.enrol(request.into_body()).await,
                    _ => Err(Error::Denied("without a certificate there is only enrolment".into())),
                };
                Ok::<_, std::convert::Infallible>(result.unwrap_or_else(|error| refusal(&error)))
            }
        });
        let connection = http2().serve_connection(TokioIo::new(io), service);
        if tokio::time::timeout(STRANGER_PATIENCE, connection).await.is_err() {
            tracing::debug!("a machine that wanted to enrol took too long");
        }
    }

    /// Serves another controller, which wants tunnels to hosts that are connected here.
    pub async fn serve_controller(self: Arc<Self>, io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let service = service_fn(move |request: Request<Incoming>| {
            let server = self.clone();
            async move {
                let result = match (request.method(), request.uri().path().strip_prefix("/relay/").map(str::to_owned)) {
                    (&Method::POST, Some(host)) => server.relay(&Id::new(host), request).await,
                    _ => Err(Error::Denied("between controllers there are only relays".into())),
                };
                Ok::<_, std::convert::Infallible>(result.unwrap_or_else(|error| refusal(&error)))
            }
        });
        if let Err(error) = http2().serve_connection(TokioIo::new(io), service).await {
            tracing::debug!(%error, "a connection of another controller ended");
        }
    }

    async fn handle(self: Arc<Self>, peer: Peer, request: Request<Incoming>) -> Response<Body> {
        if !peer.is_admitted(&self.store.view()) {
            peer.cut.cancel();
            return refusal(&Error::Denied("this host is not admitted any more".into()));
        }
        let host = peer.host.clone();
        let path = request.uri().path().to_owned();
        let mut parts = path.trim_start_matches('/').splitn(2, '/');
        let (noun, id) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default().to_owned());
        let result = match (request.method(), noun) {
            (&Method::POST, "session") => self.session(peer, request.into_body()),
            (&Method::GET, "images") => self.send_image(host, Id::new(id)).await,
            (&Method::PUT, "images") => {
                let bytes = Box::new(wire::reader_of(request.into_body()));
                self.control.take_image(host, Id::new(id), bytes).await.map(|()| Response::new(wire::empty()))
            }
            (&Method::POST, "tunnels") => self.join_tunnel(host, &id, request.into_body()),
            (&Method::POST, "renew") => self.renew(&peer, request.into_body()).await,
            _ => Err(Error::NotFound { kind: "link path", id: path }),
        };
        result.unwrap_or_else(|error| refusal(&error))
    }

    async fn enrol(&self, body: Incoming) -> Result<Response<Body>, Error> {
        let enrol: Enrol = read_json(body).await?;
        // A request that cannot be signed must not spend the token.
        self.sign(&enrol.request, &Id::new("nobody"), 0)?;
        let request = enrol.request.clone();
        let (host, enrolment) = self.control.enrol(enrol).await?;
        tracing::info!(%host, enrolment, "enrolled");
        self.admitted(&request, host, enrolment)
    }

    async fn renew(&self, peer: &Peer, body: Incoming) -> Result<Response<Body>, Error> {
        let renew: Renew = read_json(body).await?;
        let enrolment = peer.enrolment.ok_or_else(|| Error::invalid("this host has no certificate to renew"))?;
        self.admitted(&renew.request, peer.host.clone(), enrolment)
    }

    fn admitted(&self, request: &str, host: HostId, enrolment: u64) -> Result<Response<Body>, Error> {
        let (certificate, authority, life) = self.sign(request, &host, enrolment)?;
        let admitted =
            Admitted { host, certificate, authority, life_seconds: life.as_secs(), controllers: controllers(&self.store.view()) };
        let text = serde_json::to_vec(&admitted).map_err(|e| Error::caused("encoding an admission", e))?;
        Ok(Response::new(wire::text(text)))
    }

    fn sign(&self, request: &str, host: &HostId, enrolment: u64) -> Result<(String, String, Duration), Error> {
        let cloud = self.cloud.get().ok_or_else(|| Error::unavailable("the controller is starting"))?;
        let certificate = cloud.authority.sign_host(request, host.as_str(), enrolment, cloud.life)?;
        Ok((certificate, cloud.authority.pem().to_owned(), cloud.life))
    }

    async fn send_image(&self, host: HostId, image: Id<Image>) -> Result<Response<Body>, Error> {
        let (bytes, length) = self.control.open_image(host, image).await?;
        let mut response = Response::new(wire::from_reader(bytes));
        response.headers_mut().insert(http::header::CONTENT_LENGTH, length.into());
        Ok(response)
    }

    fn session(self: Arc<Self>, peer: Peer, up: Incoming) -> Result<Response<Body>, Error> {
        let (down, queue) = mpsc::channel(QUEUE);
        let host = peer.host.clone();
        let number = self.enter(&host, down.clone());
        tokio::spawn(async move {
            let interest = self.interests.enter();
            let mut follower =
                Follower { server: self.clone(), host: host.clone(), peer, down, interest, controllers: None, sent: HashMap::new() };
            if let Err(error) = follower.run(up).await {
                tracing::info!(%host, %error, "a session ended");
            }
            self.leave(&host, number);
        });
        Ok(Response::new(wire::lines(queue)))
    }

    /// A new session of a host replaces an older one, whose channel then closes.
    fn enter(&self, host: &HostId, down: mpsc::Sender<Down>) -> u64 {
        let mut sessions = self.lock_sessions();
        let number = sessions.get(host).map_or(0, |old| old.number + 1);
        sessions.insert(host.clone(), Session { number, down });
        drop(sessions);
        self.mark_heard(host);
        number
    }

    fn leave(&self, host: &HostId, number: u64) {
        let mut sessions = self.lock_sessions();
        if sessions.get(host).is_some_and(|session| session.number == number) {
            sessions.remove(host);
        }
    }

    /// Writes reports down, in order and together as they come, apart from the session so that neither waits for the other.
    fn ingest(self: Arc<Self>, host: HostId, session: u64) -> mpsc::Sender<Up> {
        let (reports, mut queue) = mpsc::channel(QUEUE);
        tokio::spawn(async move {
            let mut batch = Vec::new();
            while queue.recv_many(&mut batch, LARGEST_REPORT).await > 0 {
                if let Err(error) = self.control.report(host.clone(), session, std::mem::take(&mut batch)).await {
                    tracing::warn!(%host, %error, "reports were not taken");
                }
            }
        });
        reports
    }

    fn lock_sessions(&self) -> std::sync::MutexGuard<'_, HashMap<HostId, Session>> {
        self.sessions.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn mark_heard(&self, host: &HostId) {
        *self.lock_words().entry(host.clone()).or_default() += 1;
    }

    fn lock_words(&self) -> std::sync::MutexGuard<'_, HashMap<HostId, u64>> {
        self.words.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// A tunnel to `target` on `host`: from its agent, or through the controller that it is connected to.
    pub async fn open_tunnel(&self, host: &HostId, target: serde_json::Value) -> Result<DuplexStream, Error> {
        if self.lock_sessions().contains_key(host) {
            return self.open_here(host, target).await;
        }
        let absent = || Error::unavailable(format!("host {host} is not connected"));
        let (cloud, view) = (self.cloud.get().ok_or_else(absent)?, self.store.read().await?);
        let process = view.get(host).and_then(|host| host.status.heard_by.clone()).filter(|process| process != self.process());
        let other = process.and_then(|process| view.by_index::<Controller>("process", &process).next()).ok_or_else(absent)?;
        (cloud.reach)(other.meta.id.to_string()).await?.relay(host, &target).await
    }

    async fn relay(&self, host: &HostId, request: Request<Incoming>) -> Result<Response<Body>, Error> {
        let target = request.headers().get(TARGET).and_then(|text| serde_json::from_slice(text.as_bytes()).ok());
        let target = target.ok_or_else(|| Error::invalid("a relayed tunnel without a target"))?;
        let mut tunnel = self.open_here(host, target).await?;
        let (mut stream, body) = wire::duplex(request.into_body());
        tokio::spawn(async move { tokio::io::copy_bidirectional(&mut tunnel, &mut stream).await });
        Ok(Response::new(body))
    }

    /// Asks the agent of `host` to dial a tunnel to `target`, and waits for it.
    async fn open_here(&self, host: &HostId, target: serde_json::Value) -> Result<DuplexStream, Error> {
        let absent = || Error::unavailable(format!("host {host} is not connected"));
        let down = self.lock_sessions().get(host).map(|session| session.down.clone()).ok_or_else(absent)?;
        let id = uuid::Uuid::new_v4().simple().to_string();
        let (give, take) = oneshot::channel();
        self.lock_tunnels().insert(id.clone(), (host.clone(), give));
        let asked = down.send(Down::Tunnel { id: id.clone(), target }).await;
        let joined = match asked {
            Ok(()) => tokio::time::timeout(TUNNEL_WAIT, take).await.ok().and_then(Result::ok),
            Err(_) => None,
        };
        self.lock_tunnels().remove(&id);
        joined.ok_or_else(|| Error::unavailable(format!("host {host} did not open the stream")))
    }

    fn join_tunnel(&self, host: HostId, id: &str, body: Incoming) -> Result<Response<Body>, Error> {
        let unknown = || Error::NotFound { kind: "tunnel", id: id.to_owned() };
        let mut tunnels = self.lock_tunnels();
        if tunnels.get(id).is_none_or(|(owner, _)| *owner != host) {
            return Err(unknown());
        }
        let (_, give) = tunnels.remove(id).ok_or_else(unknown)?;
        let (stream, body) = wire::duplex(body);
        give.send(stream).map_err(|_| unknown())?;
        Ok(Response::new(body))
    }

    fn lock_tunnels(&self) -> std::sync::MutexGuard<'_, HashMap<String, (HostId, oneshot::Sender<DuplexStream>)>> {
        self.tunnels.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// The settings of every connection, with signs of life both ways.
fn http2() -> hyper::server::conn::http2::Builder<TokioExecutor> {
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(Duration::from_secs(5)))
        .keep_alive_timeout(Duration::from_secs(10))
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20);
    builder
}

async fn read_json<T: serde::de::DeserializeOwned>(body: Incoming) -> Result<T, Error> {
    let bytes = Limited::new(body, LARGEST_REQUEST).collect().await;
    let bytes = bytes.map_err(|e| Error::invalid(format!("the request cannot be read: {e}")))?.to_bytes();
    serde_json::from_slice(&bytes).map_err(|e| Error::invalid(format!("the request cannot be read: {e}")))
}

/// Where the cloud's controllers answer, as far as the store says.
fn controllers(view: &View) -> Vec<String> {
    view.all::<Controller>().map(|controller| controller.meta.id.to_string()).collect()
}

/// One session: what it has sent, and the two directions.
struct Follower {
    server: Arc<LinkServer>,
    host: HostId,
    peer: Peer,
    down: mpsc::Sender<Down>,
    interest: Interest,
    /// As they were told; none: not yet.
    controllers: Option<Vec<String>>,
    sent: HashMap<ItemKey, u64>,
}

impl Follower {
    async fn run(&mut self, up: Incoming) -> Result<(), Error> {
        let mut up = Lines::new(up);
        let lost = |e: io::Error| Error::caused("reading from the agent", e);
        let number = match up.next::<Up>().await.map_err(lost)? {
            Some(Up::Hello(inventory)) => self.server.control.hello(self.host.clone(), *inventory).await?,
            _ => return Err(Error::invalid("the agent did not introduce itself")),
        };
        let reports = self.server.clone().ingest(self.host.clone(), number);
        self.catch_up(number).await?;
        self.send(Down::Synced).await?;
        let mut beat = tokio::time::interval(BEAT);
        loop {
            // In this order, so that a simulation is the same each time; none of them comes without pause.
            tokio::select! {
                biased;
                _ = beat.tick() => self.send(Down::Ping).await?,
                report = up.next::<Up>() => match report.map_err(lost)? {
                    Some(report) => self.take(&reports, report).await?,
                    None => return Ok(()),
                },
                goes_on = self.interest.woken() => {
                    if !goes_on {
                        return Ok(());
                    }
                    tokio::time::sleep(GATHER).await;
                    self.catch_up(number).await?;
                }
            }
        }
    }

    /// Sends what is not as it was sent, until nothing that was read for that has changed since.
    async fn catch_up(&mut self, number: u64) -> Result<(), Error> {
        loop {
            self.interest.begin();
            let view = self.server.store.view();
            let (found, reads) = view.record(|view| {
                self.check_session(view, number)?;
                Ok((controllers(view), self.server.control.assigned(view, &self.host)))
            });
            self.interest.set(view.revision(), &reads);
            let (controllers, assigned) = found?;
            if self.controllers.as_ref() != Some(&controllers) {
                self.controllers = Some(controllers.clone());
                self.send(Down::Controllers(controllers)).await?;
            }
            self.send_changed(assigned).await?;
            let now = self.server.store.view();
            if now.revision() == view.revision() || now.differences(&view).is_some_and(|changed| !changed.touch(&reads)) {
                return Ok(());
            }
        }
    }

    /// Ends what is over: the host's admission, or this session because there is a newer one, here or at another controller.
    fn check_session(&self, view: &View, number: u64) -> Result<(), Error> {
        if !self.peer.is_admitted(view) {
            self.peer.cut.cancel();
            return Err(Error::Denied("this host is not admitted any more".into()));
        }
        if view.get::<Host>(&self.host).is_none_or(|host| host.status.session != number) {
            self.peer.cut.cancel();
            return Err(Error::unavailable("there is a newer session"));
        }
        Ok(())
    }

    async fn take(&self, reports: &mpsc::Sender<Up>, report: Up) -> Result<(), Error> {
        self.server.mark_heard(&self.host);
        if let Up::Renew(number) = report {
            self.renew(number);
            return Ok(());
        }
        reports.send(report).await.map_err(|_| Error::internal("the task that takes reports ended"))
    }

    /// Apart from the session: a store that cannot be reached delays leases only.
    fn renew(&self, number: u64) {
        let (server, host, down) = (self.server.clone(), self.host.clone(), self.down.clone());
        tokio::spawn(async move {
            match server.control.lease(host.clone()).await {
                Ok(lease) => drop(down.send(Down::Lease { number, millis: lease.as_millis() as u64 }).await),
                Err(error) => tracing::warn!(%host, %error, "a lease was not renewed"),
            }
        });
    }

    async fn send_changed(&mut self, assigned: Vec<Item>) -> Result<(), Error> {
        let mut gone: HashMap<ItemKey, u64> = std::mem::take(&mut self.sent);
        for item in assigned {
            let key = item.key();
            let content = fingerprint(&item)?;
            let before = gone.remove(&key);
            self.sent.insert(key, content);
            if before != Some(content) {
                self.send(Down::Put(Box::new(item))).await?;
            }
        }
        let mut gone: Vec<ItemKey> = gone.into_keys().collect();
        gone.sort_by(|a, b| b.cmp(a));
        for key in gone {
            self.send(Down::Drop(key)).await?;
        }
        Ok(())
    }

    async fn send(&self, down: Down) -> Result<(), Error> {
        self.down.send(down).await.map_err(|_| Error::unavailable("the agent's connection is closed"))
    }
}

fn fingerprint(item: &Item) -> Result<u64, Error> {
    let mut hasher = DefaultHasher::new();
    serde_json::to_vec(item).map_err(|e| Error::caused("encoding an item", e))?.hash(&mut hasher);
    Ok(hasher.finish())
}

fn refusal(error: &Error) -> Response<Body> {
    let status = match error {
        Error::NotFound { .. } => StatusCode::NOT_FOUND,
        Error::Denied(_) => StatusCode::FORBIDDEN,
        Error::Conflict(_) | Error::Taken { .. } | Error::InUse { .. } => StatusCode::CONFLICT,
        Error::Invalid(_) => StatusCode::BAD_REQUEST,
        Error::Quota { .. } | Error::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        Error::Internal { .. } => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let mut response = Response::new(wire::text(error.to_string()));
    *response.status_mut() = status;
    response
}
