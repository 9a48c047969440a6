//! The controller role: opens the store, makes the cloud's first documents, serves the port, runs the loops.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use unkai_control::Controller;
use unkai_link::ca::Authority;
use unkai_link::server::LinkServer;
use unkai_link::tls;
use unkai_openstack::{Cloud, Parts, Routes};
use unkai_store::{Store, System};

use crate::bridge::{LinkTunnels, StoredImages};
use crate::port::Port;
use crate::state::StateDir;
use crate::{access, local};

/// The server certificate is made anew this often; it is good for much longer.
const CERTIFICATE_PERIOD: Duration = Duration::from_secs(24 * 3600);

pub struct Config {
    pub listen: SocketAddr,
    pub region: String,
}

/// A running controller.
pub struct Running {
    pub url: String,
    pub address: SocketAddr,
    pub authority: Arc<Authority>,
    pub store: Store,
    pub cloud: Cloud,
}

/// All routes of all dialects.
pub fn routes(cloud: &Cloud) -> Routes {
    Routes::new()
        .nest("/identity", unkai_identity::routes(cloud))
        .nest("/image", unkai_image::routes(cloud))
        .nest("/network", unkai_network::routes(cloud))
        .nest("/compute", unkai_compute::routes(cloud))
        .nest("/console", unkai_compute::console_routes(cloud))
}

/// Starts it; it runs in background tasks until the process ends.
pub async fn start(state: &StateDir, config: Config) -> Result<Running> {
    let store = Store::open_sqlite(&state.store(), Arc::new(System))?;
    let authority = Arc::new(Authority::open(state.path())?);
    let listener = tokio::net::TcpListener::bind(config.listen).await.with_context(|| format!("listening on {}", config.listen))?;
    let address = listener.local_addr().context("reading the address listened on")?;
    let url = format!("https://{}", public_address(address));
    let password = access::write(state, &url, &config.region)?;

    let tunnels = LinkTunnels::default();
    let identity = Arc::new(unkai_identity::Identity::new(&store));
    let cloud = Cloud::new(Parts {
        store: store.clone(),
        auth: identity.clone(),
        tunnels: Arc::new(tunnels.clone()),
        url: url.clone(),
        region: config.region.clone(),
        state_dir: state.path().to_path_buf(),
    });
    unkai_identity::bootstrap(&store, bootstrap_options(password, &url, &config.region)).await?;
    unkai_compute::admin::bootstrap(&store).await?;

    let images = unkai_image::images(&cloud, &unkai_image::Settings::default());
    images.recover().await?;
    let control = Controller::new(store.clone(), Arc::new(StoredImages(images)));
    let link = LinkServer::new(store.clone(), control);
    tunnels.0.set(link.clone()).map_err(|_| anyhow::anyhow!("the controller was started twice"))?;

    let certificate = Arc::new(tls::Certificate::new(server_identity(&authority, address)?)?);
    let settings = tls::server(&authority, certificate.clone())?;
    tokio::spawn(renew(authority.clone(), certificate, address));
    tokio::spawn(Port { listener, tls: settings, http: http(&cloud), link: link.clone() }.serve());
    tokio::spawn(local::serve(state.socket(), store.clone(), url.clone()));
    tokio::spawn(unkai_control::run(store.clone(), link));
    tokio::spawn(identity_upkeep(identity));
    Ok(Running { url, address, authority, store, cloud })
}

fn bootstrap_options(password: String, url: &str, region: &str) -> unkai_identity::BootstrapOptions {
    unkai_identity::BootstrapOptions { admin_password: Some(password), region: region.to_owned(), url: url.to_owned() }
}

fn http(cloud: &Cloud) -> Router {
    routes(cloud)
        .into_router(cloud.clone())
        .layer(axum::middleware::from_fn(unkai_openstack::request_id))
        .layer(axum::middleware::map_request(normal_path))
}

/// Clients write `/v3/` and `/v3//users`: slashes at the end and in a row mean nothing.
async fn normal_path(mut request: axum::extract::Request) -> axum::extract::Request {
    let path = request.uri().path();
    if path.len() > 1 && (path.ends_with('/') || path.contains("//")) {
        let mut cleaned = String::with_capacity(path.len());
        for part in path.split('/').filter(|part| !part.is_empty()) {
            cleaned.push('/');
            cleaned.push_str(part);
        }
        if cleaned.is_empty() {
            cleaned.push('/');
        }
        if let Some(query) = request.uri().query() {
            cleaned.push('?');
            cleaned.push_str(query);
        }
        if let Ok(uri) = cleaned.parse() {
            *request.uri_mut() = uri;
        }
    }
    request
}

/// What clients are told: the address listened on, or this machine's when that is any.
fn public_address(address: SocketAddr) -> SocketAddr {
    if !address.ip().is_unspecified() {
        return address;
    }
    SocketAddr::new(outward_address().unwrap_or(IpAddr::from([127, 0, 0, 1])), address.port())
}

/// The address that this machine would use towards others; nothing is sent.
pub fn outward_address() -> Option<IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}

fn server_identity(authority: &Authority, address: SocketAddr) -> Result<unkai_link::ca::Identity> {
    let mut names = vec!["localhost".to_owned()];
    names.extend(nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()));
    let mut addresses = vec![IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]), public_address(address).ip()];
    addresses.sort();
    addresses.dedup();
    Ok(authority.issue_server(&names, &addresses)?)
}

async fn renew(authority: Arc<Authority>, certificate: Arc<tls::Certificate>, address: SocketAddr) {
    loop {
        tokio::time::sleep(CERTIFICATE_PERIOD).await;
        let renewed = server_identity(&authority, address).and_then(|identity| Ok(certificate.replace(identity)?));
        if let Err(error) = renewed {
            tracing::error!(%error, "the server certificate was not renewed");
        }
    }
}

async fn identity_upkeep(identity: Arc<unkai_identity::Identity>) {
    let mut tick = tokio::time::interval(Duration::from_secs(600));
    loop {
        tick.tick().await;
        if let Err(error) = identity.rotate_when_due().await {
            tracing::warn!(%error, "token keys were not rotated");
        }
    }
}
