//! The socket in the state directory: what the local commands ask the running process. Whoever may open it is the operator.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use axum::Router;
use axum::extract::{Path as UrlPath, State};
use axum::routing::get;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use unkai_store::Store;

use crate::state::StateDir;
use crate::why;

#[derive(Clone)]
struct Local {
    store: Store,
    url: String,
}

pub async fn serve(path: PathBuf, store: Store, url: String) {
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).and_then(|listener| {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    });
    let listener = match listener {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(path = %path.display(), %error, "local commands will not work"),
    };
    let router = Router::new().route("/status", get(status)).route("/why/{id}", get(explain)).with_state(Local { store, url });
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
    why::status(&local.store.view(), &local.url)
}

async fn explain(State(local): State<Local>, UrlPath(id): UrlPath<String>) -> String {
    why::explain(&local.store.view(), &id)
}

/// Asks the running process and prints its answer.
pub fn print(dir: &Path, path: &str) -> Result<()> {
    let socket = StateDir::at(dir).socket();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the async runtime")?;
    print!("{}", runtime.block_on(ask(&socket, path))?);
    Ok(())
}

async fn ask(socket: &Path, path: &str) -> Result<String> {
    let stream = UnixStream::connect(socket).await.with_context(|| format!("no cloud answers at `{}`; is it up?", socket.display()))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = http::Request::get(path).header("host", "local").body(Empty::<bytes::Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    let text = String::from_utf8_lossy(&body).into_owned();
    if !status.is_success() {
        bail!("{status}: {text}");
    }
    Ok(text)
}
