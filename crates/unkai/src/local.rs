//! The socket in the state directory: what the local commands ask the running process. Whoever may open it is the operator.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use axum::extract::{Path as UrlPath, Query, State};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::{UnixListener, UnixStream};
use unkai_control::availability;
use unkai_control::volume::operate;
use unkai_link::ca::Authority;
use unkai_link::enrolment::{self, Token};
use unkai_model::compute::Host;
use unkai_model::settings::Domain;
use unkai_model::volume::Pool;
use unkai_model::{Error, Id};
use unkai_store::{Store, Tx};

use crate::state::StateDir;
use crate::storage::{self, PoolRequest};
use crate::why;

#[derive(Clone)]
pub struct Local {
    pub store: Store,
    pub url: String,
    pub authority: Arc<Authority>,
}

pub async fn serve(path: PathBuf, local: Local) {
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).and_then(|listener| {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    });
    let listener = match listener {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(path = %path.display(), %error, "local commands will not work"),
    };
    let router = Router::new()
        .route("/status", get(status))
        .route("/why/{id}", get(explain))
        .route("/hosts", get(hosts))
        .route("/host/token", post(host_token))
        .route("/host/revoke", post(host_revoke))
        .route("/host/drain", post(host_drain))
        .route("/host/undrain", post(host_undrain))
        .route("/survive", get(survive))
        .route("/availability", post(set_availability))
        .route("/settings", post(settings))
        .route("/pools", get(pools).post(pool_create))
        .route("/pool/delete", post(pool_delete))
        .route("/pool/disable", post(pool_disable))
        .route("/pool/enable", post(pool_enable))
        .with_state(local);
    if let Err(error) = axum_serve(listener, router).await {
        tracing::error!(%error, "the local socket ended");
    }
}

async fn axum_serve(listener: UnixListener, router: Router) -> std::io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        let service = hyper_util::service::TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn status(State(local): State<Local>) -> String {
    why::status(&local.store.view(), &local.url, local.store.now())
}

async fn explain(State(local): State<Local>, UrlPath(id): UrlPath<String>) -> String {
    why::explain(&local.store.view(), &id)
}

async fn hosts(State(local): State<Local>) -> Result<String, Refusal> {
    Ok(why::hosts(&local.store.read().await?))
}

#[derive(Deserialize)]
struct TokenWish {
    seconds: u64,
    uses: u32,
    host: Option<String>,
}

async fn host_token(State(local): State<Local>, Query(wish): Query<TokenWish>) -> Result<String, Refusal> {
    let mut secret = [0; 24];
    aws_lc_rs::rand::fill(&mut secret).map_err(|e| Error::caused("asking for random bytes", e))?;
    let token = Token { authority: enrolment::fingerprint(local.authority.certificate()), secret };
    let host = match &wish.host {
        Some(name) => Some(find(&local, name).await?),
        None => None,
    };
    let (hash, life) = (token.hash(), Duration::from_secs(wish.seconds));
    local.store.transact(move |tx| unkai_control::hosts::token(tx, &hash, life, wish.uses, host.clone())).await?;
    Ok(format!("{token}\n"))
}

#[derive(Deserialize)]
struct HostNamed {
    host: String,
}

async fn host_revoke(State(local): State<Local>, Query(named): Query<HostNamed>) -> Result<String, Refusal> {
    let host = find(&local, &named.host).await?;
    let revoked = host.clone();
    local.store.transact(move |tx| unkai_control::hosts::revoke(tx, &revoked)).await?;
    Ok(format!("host {host} is cut off\n"))
}

async fn host_drain(State(local): State<Local>, Query(named): Query<HostNamed>) -> Result<String, Refusal> {
    let host = find(&local, &named.host).await?;
    let drained = host.clone();
    local.store.transact(move |tx| unkai_control::migration::drain::set(tx, &drained, true)).await?;
    Ok(why::drain(&local.store.read().await?, &host, local.store.now()))
}

async fn host_undrain(State(local): State<Local>, Query(named): Query<HostNamed>) -> Result<String, Refusal> {
    let host = find(&local, &named.host).await?;
    let open = host.clone();
    local.store.transact(move |tx| unkai_control::migration::drain::set(tx, &open, false)).await?;
    Ok(format!("host {host} takes servers again; what has left does not come back by itself\n"))
}

#[derive(Deserialize)]
struct Deaths {
    /// Ids or names with commas between them.
    hosts: String,
}

async fn survive(State(local): State<Local>, Query(deaths): Query<Deaths>) -> Result<String, Refusal> {
    let mut dead = BTreeSet::new();
    for name in deaths.hosts.split(',').filter(|name| !name.is_empty()) {
        dead.insert(find(&local, name).await?);
    }
    Ok(why::survive(&local.store.read().await?, &dead))
}

#[derive(Deserialize)]
struct Times {
    silence_ms: Option<u64>,
    lease_ms: Option<u64>,
    reserve: Option<ReserveFor>,
    strict: Option<bool>,
}

/// What the loss of is to be survived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum ReserveFor {
    Off,
    Host,
    Rack,
    Zone,
}

impl ReserveFor {
    pub fn word(self) -> &'static str {
        match self {
            ReserveFor::Off => "off",
            ReserveFor::Host => "host",
            ReserveFor::Rack => "rack",
            ReserveFor::Zone => "zone",
        }
    }

    fn domain(self) -> Option<Domain> {
        match self {
            ReserveFor::Off => None,
            ReserveFor::Host => Some(Domain::Host),
            ReserveFor::Rack => Some(Domain::Rack),
            ReserveFor::Zone => Some(Domain::Zone),
        }
    }
}

async fn set_availability(State(local): State<Local>, Query(times): Query<Times>) -> Result<String, Refusal> {
    let Times { silence_ms, lease_ms, reserve, strict } = times;
    let change = availability::Change { silence_ms, lease_ms, reserve: reserve.map(ReserveFor::domain), strict };
    let changed = local.store.transact(move |tx| availability::set(tx, &change)).await?;
    let kept = changed.reserve.map_or_else(|| "none".to_owned(), |domain| format!("one {domain:?}").to_lowercase());
    let admission = if changed.strict { "strict" } else { "lenient" };
    Ok(format!("silence {:?}, lease {:?}\nroom kept for the loss of {kept}, admission {admission}\n", changed.silence(), changed.lease()))
}

#[derive(Deserialize)]
struct Set {
    boot_from_volume: Option<bool>,
}

async fn settings(State(local): State<Local>, Query(set): Query<Set>) -> Result<String, Refusal> {
    let now = local.store.transact(move |tx| unkai_control::settings::set(tx, set.boot_from_volume)).await?;
    Ok(format!("boot from volume {}\n", if now.boot_from_volume { "on" } else { "off" }))
}

async fn pools(State(local): State<Local>) -> Result<String, Refusal> {
    Ok(storage::list(&local.store.read().await?))
}

async fn pool_create(State(local): State<Local>, Json(request): Json<PoolRequest>) -> Result<String, Refusal> {
    let id = local.store.transact(move |tx| storage::create(tx, &request)).await?;
    Ok(format!("pool {id}\n"))
}

#[derive(Deserialize)]
struct PoolNamed {
    pool: String,
    #[serde(default)]
    reason: String,
}

async fn pool_delete(State(local): State<Local>, Query(named): Query<PoolNamed>) -> Result<String, Refusal> {
    change_pool(&local, named, operate::delete).await
}

async fn pool_disable(State(local): State<Local>, Query(named): Query<PoolNamed>) -> Result<String, Refusal> {
    let reason = named.reason.clone();
    change_pool(&local, named, move |tx, pool| operate::disable(tx, pool, Some(reason.clone()))).await
}

async fn pool_enable(State(local): State<Local>, Query(named): Query<PoolNamed>) -> Result<String, Refusal> {
    change_pool(&local, named, |tx, pool| operate::disable(tx, pool, None)).await
}

async fn change_pool(
    local: &Local,
    named: PoolNamed,
    change: impl Fn(&mut Tx, &Id<Pool>) -> Result<(), Error> + Send + 'static,
) -> Result<String, Refusal> {
    let body = move |tx: &mut Tx| change(tx, &operate::find(&tx.view(), &named.pool)?);
    local.store.transact(body).await?;
    Ok(String::new())
}

/// A host by id or name.
async fn find(local: &Local, text: &str) -> Result<Id<Host>, Error> {
    let view = local.store.read().await?;
    let found = view.all::<Host>().find(|host| host.meta.id.as_str() == text || host.meta.name == text);
    found.map(|host| host.meta.id.clone()).ok_or_else(|| Error::not_found::<Host>(&Id::<Host>::new(text)))
}

struct Refusal(Error);

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Refusal(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> axum::response::Response {
        (http::StatusCode::CONFLICT, self.0.to_string()).into_response()
    }
}

/// Asks the running process and prints its answer.
pub fn print(dir: &Path, path: &str) -> Result<()> {
    call(dir, http::Method::GET, path, Bytes::new())
}

/// Has the running process do something and prints what it says.
pub fn act(dir: &Path, path: &str) -> Result<()> {
    call(dir, http::Method::POST, path, Bytes::new())
}

/// The same with a document that says what.
pub fn send(dir: &Path, path: &str, what: &impl Serialize) -> Result<()> {
    call(dir, http::Method::POST, path, serde_json::to_vec(what).context("encoding the request")?.into())
}

fn call(dir: &Path, method: http::Method, path: &str, body: Bytes) -> Result<()> {
    let socket = StateDir::at(dir).socket();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the async runtime")?;
    print!("{}", runtime.block_on(ask(&socket, method, path, body))?);
    Ok(())
}

async fn ask(socket: &Path, method: http::Method, path: &str, body: Bytes) -> Result<String> {
    let stream = UnixStream::connect(socket).await.with_context(|| format!("no cloud answers at `{}`; is it up?", socket.display()))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = http::Request::builder().method(method).uri(path).header("host", "local").header("content-type", "application/json");
    let request = request.body(Full::new(body))?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    let text = String::from_utf8_lossy(&body).into_owned();
    if !status.is_success() {
        bail!("{text}");
    }
    Ok(text)
}
