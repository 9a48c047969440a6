//! The controller's end: one session per connected agent.
//!
//! A session follows the store and sends the items of its host whose content changed. It owns nothing that outlives it: a lost
//! connection is a new session later, and the agent keeps what it has.

use std::collections::HashMap;
use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use unkai_model::image::Image;
use unkai_model::{Error, Id};
use unkai_store::{Changes, Store, View};

use crate::item::{Down, HostId, Item, ItemKey};
use crate::report::{Inventory, Up};
use crate::wire::{self, Body, Lines};

/// Changes within this time are looked at together.
const GATHER: Duration = Duration::from_millis(4);
const BEAT: Duration = Duration::from_secs(2);
const TUNNEL_WAIT: Duration = Duration::from_secs(10);
const QUEUE: usize = 1024;
const LARGEST_REPORT: usize = 256;

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
pub type Bytes = Box<dyn AsyncRead + Send + Unpin>;

/// What control knows and the link needs. All methods are cheap or go through the store.
pub trait Control: Send + Sync + 'static {
    /// Everything assigned to this host; a pure function of the view.
    fn assigned(&self, view: &View, host: &HostId) -> Vec<Item>;
    /// Could these changes alter what any host is assigned?
    fn concerns(&self, changes: &Changes) -> bool;
    /// The agent introduced itself; afterwards the host exists in the store.
    fn hello(&self, host: HostId, inventory: Inventory) -> BoxFuture<'_, Result<(), Error>>;
    /// Reports in the order they were said; one that no longer makes sense is dropped, not an error.
    fn report(&self, host: HostId, reports: Vec<Up>) -> BoxFuture<'_, Result<(), Error>>;
    fn open_image(&self, host: HostId, image: Id<Image>) -> BoxFuture<'_, Result<(Bytes, u64), Error>>;
    fn take_image(&self, host: HostId, image: Id<Image>, bytes: Bytes) -> BoxFuture<'_, Result<(), Error>>;
}

/// All sessions of one controller.
pub struct LinkServer {
    store: Store,
    control: Arc<dyn Control>,
    sessions: Mutex<HashMap<HostId, Session>>,
    tunnels: Mutex<HashMap<String, (HostId, oneshot::Sender<DuplexStream>)>>,
}

struct Session {
    number: u64,
    down: mpsc::Sender<Down>,
    heard: Instant,
}

impl LinkServer {
    pub fn new(store: Store, control: Arc<dyn Control>) -> Arc<Self> {
        Arc::new(LinkServer { store, control, sessions: Mutex::default(), tunnels: Mutex::default() })
    }

    /// How long ago each connected host was heard.
    pub fn heard(&self) -> HashMap<HostId, Duration> {
        let now = Instant::now();
        self.lock_sessions().iter().map(|(host, session)| (host.clone(), now - session.heard)).collect()
    }

    /// Serves one connection whose other end has proven to be `host`. Returns when it ends.
    pub async fn serve(self: Arc<Self>, io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, host: HostId) {
        let server = self.clone();
        let peer = host.clone();
        let service = service_fn(move |request| {
            let (server, host) = (server.clone(), peer.clone());
            async move { Ok::<_, std::convert::Infallible>(server.handle(host, request).await) }
        });
        let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(Some(Duration::from_secs(5)))
            .keep_alive_timeout(Duration::from_secs(10))
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(4 << 20)
            .serve_connection(TokioIo::new(io), service);
        if let Err(error) = connection.await {
            tracing::debug!(%host, %error, "a link ended");
        }
    }

    async fn handle(self: Arc<Self>, host: HostId, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let mut parts = path.trim_start_matches('/').splitn(2, '/');
        let (noun, id) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default().to_owned());
        let result = match (request.method(), noun) {
            (&Method::POST, "session") => self.session(host, request.into_body()),
            (&Method::GET, "images") => self.send_image(host, Id::new(id)).await,
            (&Method::PUT, "images") => {
                let bytes = Box::new(wire::reader_of(request.into_body()));
                self.control.take_image(host, Id::new(id), bytes).await.map(|()| Response::new(wire::empty()))
            }
            (&Method::POST, "tunnels") => self.join_tunnel(host, &id, request.into_body()),
            _ => Err(Error::NotFound { kind: "link path", id: path }),
        };
        result.unwrap_or_else(|error| refusal(&error))
    }

    async fn send_image(&self, host: HostId, image: Id<Image>) -> Result<Response<Body>, Error> {
        let (bytes, length) = self.control.open_image(host, image).await?;
        let mut response = Response::new(wire::from_reader(bytes));
        response.headers_mut().insert(http::header::CONTENT_LENGTH, length.into());
        Ok(response)
    }

    fn session(self: Arc<Self>, host: HostId, up: Incoming) -> Result<Response<Body>, Error> {
        let (down, queue) = mpsc::channel(QUEUE);
        let number = self.enter(&host, down.clone());
        tokio::spawn(async move {
            let reports = self.clone().ingest(host.clone());
            let mut follower = Follower { server: self.clone(), host: host.clone(), down, reports, sent: HashMap::new() };
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
        sessions.insert(host.clone(), Session { number, down, heard: Instant::now() });
        number
    }

    fn leave(&self, host: &HostId, number: u64) {
        let mut sessions = self.lock_sessions();
        if sessions.get(host).is_some_and(|session| session.number == number) {
            sessions.remove(host);
        }
    }

    /// Writes reports down, in order and together as they come, apart from the session so that neither waits for the other.
    fn ingest(self: Arc<Self>, host: HostId) -> mpsc::Sender<Up> {
        let (reports, mut queue) = mpsc::channel(QUEUE);
        tokio::spawn(async move {
            let mut batch = Vec::new();
            while queue.recv_many(&mut batch, LARGEST_REPORT).await > 0 {
                if let Err(error) = self.control.report(host.clone(), std::mem::take(&mut batch)).await {
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
        if let Some(session) = self.lock_sessions().get_mut(host) {
            session.heard = Instant::now();
        }
    }

    /// Asks the agent of `host` to dial a tunnel to `target`, and waits for it.
    pub async fn open_tunnel(&self, host: &HostId, target: serde_json::Value) -> Result<DuplexStream, Error> {
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

/// One session: what it has sent, and the two directions.
struct Follower {
    server: Arc<LinkServer>,
    host: HostId,
    down: mpsc::Sender<Down>,
    reports: mpsc::Sender<Up>,
    sent: HashMap<ItemKey, u64>,
}

impl Follower {
    async fn run(&mut self, up: Incoming) -> Result<(), Error> {
        let mut up = Lines::new(up);
        let lost = |e: io::Error| Error::caused("reading from the agent", e);
        match up.next::<Up>().await.map_err(lost)? {
            Some(Up::Hello(inventory)) => self.server.control.hello(self.host.clone(), *inventory).await?,
            _ => return Err(Error::invalid("the agent did not introduce itself")),
        }
        let mut watch = self.server.store.watch();
        self.send_changed(&self.server.store.view()).await?;
        self.send(Down::Synced).await?;
        let mut beat = tokio::time::interval(BEAT);
        loop {
            // In this order, so that a simulation is the same each time; none of them comes without pause.
            tokio::select! {
                biased;
                _ = beat.tick() => self.send(Down::Ping).await?,
                report = up.next::<Up>() => match report.map_err(lost)? {
                    Some(report) => self.take(report).await?,
                    None => return Ok(()),
                },
                change = watch.next() => {
                    let Some((_, changes)) = change else { return Ok(()) };
                    if self.server.control.concerns(&changes) {
                        tokio::time::sleep(GATHER).await;
                        self.send_changed(&self.server.store.view()).await?;
                    }
                }
            }
        }
    }

    async fn take(&self, report: Up) -> Result<(), Error> {
        self.server.mark_heard(&self.host);
        if report == Up::Beat {
            return Ok(());
        }
        self.reports.send(report).await.map_err(|_| Error::internal("the task that takes reports ended"))
    }

    async fn send_changed(&mut self, view: &View) -> Result<(), Error> {
        let mut gone: HashMap<ItemKey, u64> = std::mem::take(&mut self.sent);
        for item in self.server.control.assigned(view, &self.host) {
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
