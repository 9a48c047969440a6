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
use crate::cli::ControllerArgs;
use crate::port::Port;
use crate::state::StateDir;
use crate::{access, authority, local};

/// The server certificate is made anew this often; it is good for much longer.
const CERTIFICATE_PERIOD: Duration = Duration::from_secs(24 * 3600);
/// How long the address may still be in use at the start.
const ADDRESS_PATIENCE: Duration = Duration::from_secs(2);

/// A running controller.
pub struct Running {
    pub url: String,
    pub address: SocketAddr,
    pub authority: Arc<Authority>,
    pub store: Store,
    pub link: Arc<LinkServer>,
}

/// All routes of all dialects. Identity's come with the identity that also checks the tokens of the others.
pub fn routes_with(cloud: &Cloud, identity: Routes, images: unkai_image::Settings) -> Routes {
    Routes::new()
        .nest("/identity", identity)
        .nest("/image", unkai_image::routes_with(cloud, images))
        .nest("/network", unkai_network::routes(cloud))
        .nest("/compute", unkai_compute::routes(cloud))
        .nest("/volume", unkai_volume::routes(cloud))
        .nest("/console", unkai_compute::console_routes(cloud))
}

/// Starts it; it runs in background tasks until the process ends.
pub async fn start(state: &StateDir, config: &ControllerArgs) -> Result<Running> {
    let store = match &config.store {
        Some(url) => Store::open_url(url, Arc::new(System))?,
        None => Store::open_sqlite(&state.store(), Arc::new(System))?,
    };
    let authority = authority::open(state, &store).await?;
    let listener = listen(config.listen).await.with_context(|| format!("listening on {}", config.listen))?;
    let address = listener.local_addr().context("reading the address listened on")?;
    let url = match &config.public_url {
        Some(url) => checked(url)?,
        None => format!("https://{}", public_address(address)),
    };
    let advertised = config.advertise.clone().unwrap_or_else(|| public_address(address).to_string());
    let has_administrator = store.read().await?.is_claimed("user-name", ADMINISTRATOR);
    let password = access::write(state, &url, &config.region, has_administrator)?;
    let images_dir = config.images.clone().unwrap_or_else(|| state.path().to_path_buf());

    let tunnels = LinkTunnels::default();
    let identity = Arc::new(unkai_identity::Identity::new(&store));
    let cloud = Cloud::new(Parts {
        store: store.clone(),
        auth: identity.clone(),
        tunnels: Arc::new(tunnels.clone()),
        url: url.clone(),
        region: config.region.clone(),
        state_dir: images_dir,
    });
    unkai_identity::bootstrap(&store, bootstrap_options(password, &url, &config.region)).await?;
    unkai_compute::admin::bootstrap(&store).await?;
    store.transact(unkai_control::volume::operate::standard_type).await?;

    let images_settings = config.images_settings();
    let images = unkai_image::images(&cloud, &images_settings);
    tokio::spawn(images.clone().follow_deletions());
    let control = Controller::new(store.clone(), Arc::new(StoredImages(images.clone())));
    let link = LinkServer::new(store.clone(), control);
    if is_alone(&store, link.process()).await? {
        images.recover().await?;
    }
    tunnels.0.set(link.clone()).map_err(|_| anyhow::anyhow!("the controller was started twice"))?;

    let reach = reach(authority.clone());
    link.join_cloud(unkai_link::server::Cloud { authority: authority.clone(), life: config.host_certificates, reach })?;
    let names = names(&url, &advertised);
    let certificate = Arc::new(tls::Certificate::new(server_identity(&authority, address, &names)?)?);
    let settings = tls::server(&authority, certificate.clone())?;
    tokio::spawn(renew(authority.clone(), certificate, address, names));
    tokio::spawn(Port { listener, tls: settings, http: http(&cloud, &identity, images_settings), link: link.clone() }.serve());
    let local = local::Local { store: store.clone(), url: url.clone(), authority: authority.clone() };
    tokio::spawn(local::serve(state.socket(), local));
    enter(&store, &advertised, link.process()).await?;
    tokio::spawn(unkai_control::run(store.clone(), link.clone()));
    tokio::spawn(identity_upkeep(identity));
    Ok(Running { url, address, authority, store, link })
}

/// A process that was killed while it started another may have left its socket with that one for a moment.
async fn listen(address: SocketAddr) -> std::io::Result<tokio::net::TcpListener> {
    let deadline = tokio::time::Instant::now() + ADDRESS_PATIENCE;
    loop {
        match tokio::net::TcpListener::bind(address).await {
            Err(e) if e.kind() == std::io::ErrorKind::AddrInUse && tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            result => return result,
        }
    }
}

/// The claim of the administrator that the cloud begins with.
const ADMINISTRATOR: &str = "default/admin";
/// Other controllers say so often that they live that this long without a word means that they do not.
const OTHERS_PATIENCE: Duration = Duration::from_secs(3);

/// Is no other controller at work on this store? What a starting controller clears away may otherwise be in use.
async fn is_alone(store: &Store, process: &str) -> Result<bool> {
    let others =
        async || -> Result<Vec<(String, u64)>> { Ok(store.beat(process).await?.into_iter().filter(|(name, _)| name != process).collect()) };
    let before = others().await?;
    let deadline = tokio::time::Instant::now() + OTHERS_PATIENCE;
    while !before.is_empty() && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = others().await?;
        if now.iter().any(|other| !before.contains(other)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Says in the store where this controller answers.
async fn enter(store: &Store, advertised: &str, process: &str) -> Result<()> {
    use unkai_model::controller::Controller as Entry;
    let (id, process) = (unkai_model::Id::<Entry>::new(advertised), process.to_owned());
    let body = move |tx: &mut unkai_store::Tx| -> Result<(), unkai_model::Error> {
        match tx.get(&id) {
            Some(_) => tx
                .update(&id, |entry: &mut Entry| {
                    entry.process = process.clone();
                    Ok(())
                })
                .map(drop),
            None => tx.insert(Entry { meta: unkai_model::Meta::new(id.clone()), process: process.clone() }).map(drop),
        }
    };
    store.transact(body).await.context("entering this controller")
}

/// How this controller comes to others: as a controller, by a fresh certificate.
fn reach(authority: Arc<Authority>) -> unkai_link::server::Reach {
    Box::new(move |address| {
        let authority = authority.clone();
        Box::pin(async move {
            let tls = tls::agent(authority.certificate(), authority.issue_controller()?)?;
            unkai_host::connect(&address, tls).await.map(|(link, _)| link)
        })
    })
}

/// An https URL without a path.
fn checked(url: &str) -> Result<String> {
    let url = url.trim_end_matches('/');
    let parsed: http::Uri = url.parse().with_context(|| format!("`{url}` is not a URL"))?;
    if parsed.scheme_str() != Some("https") || parsed.host().is_none() || !matches!(parsed.path(), "" | "/") {
        anyhow::bail!("the public URL `{url}` must be https://HOST or https://HOST:PORT");
    }
    Ok(url.to_owned())
}

/// What clients and agents call this controller.
fn names(url: &str, advertised: &str) -> Vec<String> {
    let host = |text: &str| text.parse::<http::uri::Authority>().ok().map(|authority| authority.host().trim_matches(['[', ']']).to_owned());
    [url.trim_start_matches("https://"), advertised].iter().filter_map(|text| host(text)).collect()
}

fn bootstrap_options(password: Option<String>, url: &str, region: &str) -> unkai_identity::BootstrapOptions {
    unkai_identity::BootstrapOptions { admin_password: password, region: region.to_owned(), url: url.to_owned() }
}

fn http(cloud: &Cloud, identity: &Arc<unkai_identity::Identity>, images: unkai_image::Settings) -> Router {
    let app = routes_with(cloud, unkai_identity::routes_with(identity.clone()), images)
        .into_router(cloud.clone())
        .layer(axum::middleware::from_fn(unkai_openstack::request_id));
    // A layer of a router comes after its choice of a route; the path is put right before.
    Router::new().fallback_service(tower::ServiceExt::map_request(app, normal_path))
}

/// Clients write `/identity/v3/` and `//identity/v3`: around a service's root and version documents, extra slashes mean nothing. Elsewhere
/// they do: `/v2/images/` is not the list of images.
fn normal_path(mut request: axum::extract::Request) -> axum::extract::Request {
    if let Some(path) = normal(request.uri().path()) {
        let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
        if let Ok(uri) = format!("{path}{query}").parse() {
            *request.uri_mut() = uri;
        }
    }
    request
}

/// The path as it is meant; none when it is right as it is.
fn normal(path: &str) -> Option<String> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let root = parts.len() <= 2 && !parts.is_empty() && path.ends_with('/');
    if path.starts_with("//") || root {
        let end = if root || !path.ends_with('/') { "" } else { "/" };
        return Some(format!("/{}{end}", parts.join("/")));
    }
    None
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

fn server_identity(authority: &Authority, address: SocketAddr, more: &[String]) -> Result<unkai_link::ca::Identity> {
    let mut names = vec!["localhost".to_owned(), tls::CONTROLLER_NAME.to_owned()];
    names.extend(nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()));
    let mut addresses = vec![IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]), public_address(address).ip()];
    for name in more {
        match name.parse() {
            Ok(address) => addresses.push(address),
            Err(_) => names.push(name.clone()),
        }
    }
    addresses.sort();
    addresses.dedup();
    names.sort();
    names.dedup();
    Ok(authority.issue_server(&names, &addresses)?)
}

async fn renew(authority: Arc<Authority>, certificate: Arc<tls::Certificate>, address: SocketAddr, names: Vec<String>) {
    loop {
        tokio::time::sleep(CERTIFICATE_PERIOD).await;
        let renewed = server_identity(&authority, address, &names).and_then(|identity| Ok(certificate.replace(identity)?));
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

#[cfg(test)]
mod access_rules;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use unkai_openstack::testing::{Client, cloud};
    use unkai_openstack::{Access, RouteInfo};

    /// A path that the route matches, naming things that do not exist.
    fn concrete(route: &RouteInfo) -> String {
        let parts = route.path.split('/').map(|part| if part.starts_with('{') { "00000000000000000000000000000000" } else { part });
        parts.collect::<Vec<_>>().join("/")
    }

    fn client(token: &str) -> (tempfile::TempDir, Client, Vec<RouteInfo>) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let cloud = cloud(dir.path());
        let routes = || routes_with(&cloud, unkai_identity::routes(&cloud), unkai_image::Settings::default());
        let list = routes().list().to_vec();
        let client = Client::new(&cloud, routes(), token);
        (dir, client, list)
    }

    #[tokio::test]
    async fn every_route_refuses_callers_without_a_token() {
        let (_dir, client, list) = client("not a token");
        assert!(list.len() > 300, "only {} routes are listed", list.len());
        let mut open = Vec::new();
        for route in list.iter().filter(|route| route.access == Access::Token) {
            let answer = client.call(route.method.as_str(), &concrete(route), json!({})).await;
            if answer.status != 401 {
                open.push(format!("{} {} -> {}", route.method, route.path, answer.status));
            }
        }
        assert!(open.is_empty(), "answered without a token: {open:#?}");
    }

    #[tokio::test]
    async fn only_these_routes_are_public() {
        let (_dir, _, list) = client("");
        let public = list.iter().filter(|route| route.access == Access::Public);
        let mut public: Vec<String> = public.map(|route| format!("{} {}", route.method, route.path)).collect();
        public.sort();
        let known = include_str!("../tests/public_routes.txt");
        assert_eq!(public, known.lines().collect::<Vec<_>>(), "a route became public, or is no longer");
    }

    #[test]
    fn slashes_matter_only_below_versions() {
        assert_eq!(normal("/identity/").as_deref(), Some("/identity"));
        assert_eq!(normal("/identity/v3/").as_deref(), Some("/identity/v3"));
        assert_eq!(normal("//identity/v3").as_deref(), Some("/identity/v3"));
        assert_eq!(normal("/image/v2/images/"), None);
        assert_eq!(normal("/identity/v3/users"), None);
        assert_eq!(normal("/"), None);
    }

    /// A reader of one project changes nothing anywhere, and no route breaks on an empty body.
    #[tokio::test]
    async fn a_reader_changes_nothing_and_nothing_breaks() {
        let (_dir, client, list) = client("someproject/someone/reader");
        let mut wrong = Vec::new();
        for route in list.iter().filter(|route| route.access == Access::Token) {
            for body in [Value::Null, json!({}), json!([]), json!({"server": null, "network": 1})] {
                let answer = client.call(route.method.as_str(), &concrete(route), body).await;
                let changes = !matches!(route.method.as_str(), "GET" | "HEAD");
                if answer.status >= 500 && answer.status != 501 || (changes && answer.status < 300) {
                    wrong.push(format!("{} {} -> {}", route.method, route.path, answer.status));
                }
            }
        }
        wrong.dedup();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}
