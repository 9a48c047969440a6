//! The HTTP side of metadata.

use std::convert::Infallible;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use unkai_driver_network::{MetadataConnection, Services};

use super::{Guest, Way, ec2, openstack};
use crate::desired::Desired;

const HEADERS: Duration = Duration::from_secs(10);
/// A guest that holds a connection open longer than this is not reading metadata.
const LONGEST: Duration = Duration::from_secs(60);

/// Answers guests from the present items.
pub struct Service {
    desired: Desired,
}

impl Service {
    pub fn new(desired: Desired) -> Self {
        Service { desired }
    }
}

impl Services for Service {
    fn metadata(&self, connection: MetadataConnection) {
        let desired = self.desired.clone();
        tokio::spawn(async move {
            let MetadataConnection { network_id, peer, stream, permit } = connection;
            serve(desired, network_id, peer.ip(), stream).await;
            drop(permit);
        });
    }
}

/// One connection of whoever has `address` in `network`, until either side has enough.
async fn serve(desired: Desired, network: String, address: IpAddr, stream: impl AsyncRead + AsyncWrite + Unpin) {
    let _ = tokio::time::timeout(LONGEST, converse(stream, || guest(&desired, &network, address))).await;
}

/// Answers the requests of one connection.
async fn converse<S>(stream: S, guest: impl Fn() -> Option<Guest>) -> Result<(), hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let service = service_fn(|request: Request<Incoming>| {
        let response = respond(guest(), request.method(), request.uri().path());
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let mut server = hyper::server::conn::http1::Builder::new();
    // A plain client (`printf ... | nc`) closes its side once it has asked, and waits for the answer.
    server.timer(TokioTimer::new()).header_read_timeout(HEADERS).max_buf_size(16 << 10).half_close(true);
    server.serve_connection(TokioIo::new(stream), service).await
}

fn guest(desired: &Desired, network: &str, address: IpAddr) -> Option<Guest> {
    let (server, ports) = desired.server_at(network, address)?;
    let networks = ports.iter().filter_map(|port| desired.network(&port.network_id)).collect();
    Some(Guest { server, ports, networks })
}

fn respond(guest: Option<Guest>, method: &Method, path: &str) -> Response<Full<Bytes>> {
    let Some(guest) = guest else { return plain(StatusCode::NOT_FOUND, "no server has this address") };
    if method == Method::POST && path.ends_with("/password") {
        return plain(StatusCode::CONFLICT, "passwords are not kept here");
    }
    if method != Method::GET && method != Method::HEAD {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "");
    }
    match answer(&guest, path) {
        Some((content, kind)) => {
            let mut response = Response::new(Full::new(Bytes::from(content)));
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
            response
        }
        None => plain(StatusCode::NOT_FOUND, "404 Not Found"),
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response
}

/// Content and its type; none when there is nothing at this path.
fn answer(guest: &Guest, path: &str) -> Option<(Vec<u8>, &'static str)> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let text = |text: String| (text.into_bytes(), "text/plain; charset=UTF-8");
    match parts.as_slice() {
        [] => Some(text(ec2::VERSIONS.join("\n") + "\nopenstack")),
        ["openstack"] => Some(text(openstack::VERSIONS.join("\n") + "\nlatest")),
        ["openstack", "content", no] => {
            let (_, content) = openstack::contents(guest).into_iter().nth(no.parse().ok()?)?;
            Some((content, "application/octet-stream"))
        }
        ["openstack", version] if openstack_version(version) => {
            let there = openstack::FILES.iter().filter(|name| openstack::file(guest, name, Way::Service).is_some());
            Some(text(there.copied().collect::<Vec<_>>().join("\n")))
        }
        ["openstack", version, name] if openstack_version(version) => {
            let kind = if name.ends_with(".json") { "application/json" } else { "text/plain; charset=UTF-8" };
            openstack::file(guest, name, Way::Service).map(|content| (content, kind))
        }
        [version] if ec2::VERSIONS.contains(version) => {
            Some(text(if guest.user_data().is_some() { "meta-data/\nuser-data".into() } else { "meta-data/".into() }))
        }
        [version, "user-data"] if ec2::VERSIONS.contains(version) => guest.user_data().map(|data| (data, "text/plain; charset=UTF-8")),
        [version, "meta-data", path @ ..] if ec2::VERSIONS.contains(version) => ec2::answer(guest, path).map(text),
        _ => None,
    }
}

fn openstack_version(version: &str) -> bool {
    version == "latest" || openstack::VERSIONS.contains(&version)
}

#[cfg(test)]
mod hostile;

#[cfg(test)]
mod tests {
    use super::*;
    use unkai_link::item::{GuestData, ServerItem, net};
    use unkai_model::compute::Run;

    pub(super) fn guest() -> Guest {
        let data = GuestData {
            name: "web".into(),
            hostname: "web".into(),
            key_name: Some("mine".into()),
            public_key: Some("ssh-ed25519 AAAA me".into()),
            user_data: Some("IyEvYmluL3NoCg==".into()),
            zone: "nova".into(),
            admin_password: Some("secret".into()),
            floating: [("10.0.0.5".to_owned(), "203.0.113.9".to_owned())].into(),
            ..GuestData::default()
        };
        let server = ServerItem {
            id: "0198aaaa-bbbb-7ccc-8ddd-eeeeffff0001".into(),
            generation: 1,
            run: Run::Running,
            off_at_once: false,
            incarnation: 0,
            hard_reboots: 0,
            soft_reboots: 0,
            vcpus: 1,
            memory_mib: 128,
            root_gib: 0,
            ephemeral_gib: 0,
            swap_mib: 0,
            image: None,
            kernel: None,
            ramdisk: None,
            hardware: Default::default(),
            config_drive: true,
            ports: vec!["p".into()],
            rescue: None,
            volumes: Vec::new(),
            leased: false,
            migration: None,
            guest: data,
        };
        let port: net::PortSpec = serde_json::from_value(serde_json::json!({
            "id": "p", "network_id": "n", "mac": "fa:16:3e:00:00:01", "fixed_ips": [{"subnet_id": "s", "address": "10.0.0.5"}],
        }))
        .unwrap();
        let network: net::NetworkSpec = serde_json::from_value(serde_json::json!({
            "id": "n", "mtu": 1450, "subnets": [{"id": "s", "cidr": "10.0.0.0/24", "gateway": "10.0.0.1"}],
        }))
        .unwrap();
        Guest { server, ports: vec![port], networks: vec![network] }
    }

    fn text(path: &str) -> Option<String> {
        answer(&guest(), path).map(|(content, _)| String::from_utf8(content).unwrap())
    }

    #[test]
    fn ec2_paths_answer_as_cloud_init_walks_them() {
        assert_eq!(text("/latest/meta-data/instance-id").unwrap(), "i-ffff0001");
        assert_eq!(text("/latest/meta-data/public-keys/").unwrap(), "0=mine");
        assert_eq!(text("/latest/meta-data/public-keys/0/").unwrap(), "openssh-key");
        assert_eq!(text("/2009-04-04/meta-data/public-keys/0/openssh-key").unwrap(), "ssh-ed25519 AAAA me");
        assert_eq!(text("/latest/meta-data/public-ipv4").unwrap(), "203.0.113.9");
        assert_eq!(text("/latest/user-data").unwrap(), "#!/bin/sh\n");
        assert!(text("/latest/meta-data/").unwrap().lines().any(|line| line == "placement/"));
        assert_eq!(text("/latest/meta-data/public-keys/0/_name"), None);
        assert_eq!(text("/latest/meta-data/nothing"), None);
        assert_eq!(text("/../../etc/passwd"), None);
    }

    #[test]
    fn openstack_documents_name_the_server() {
        let meta: serde_json::Value = serde_json::from_str(&text("/openstack/latest/meta_data.json").unwrap()).unwrap();
        assert_eq!(meta["uuid"], "0198aaaa-bbbb-7ccc-8ddd-eeeeffff0001");
        assert_eq!(meta["public_keys"]["mine"], "ssh-ed25519 AAAA me");
        let network: serde_json::Value = serde_json::from_str(&text("/openstack/2018-08-27/network_data.json").unwrap()).unwrap();
        assert_eq!(network["links"][0]["mtu"], 1450);
        assert_eq!(network["networks"][0]["type"], "ipv4_dhcp");
        assert_eq!(text("/openstack/2099-01-01/meta_data.json"), None);
    }

    #[tokio::test]
    async fn a_client_that_has_closed_its_side_is_answered() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut client, server) = tokio::io::duplex(64 << 10);
        client.write_all(b"GET /openstack/latest/user_data HTTP/1.0\r\n\r\n").await.unwrap();
        client.shutdown().await.unwrap();
        converse(server, || Some(guest())).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.0 200") && answer.ends_with("\r\n\r\n#!/bin/sh\n"), "{answer}");
    }

    #[test]
    fn strangers_and_writers_are_refused() {
        assert_eq!(respond(None, &Method::GET, "/").status(), StatusCode::NOT_FOUND);
        assert_eq!(respond(Some(guest()), &Method::DELETE, "/").status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(respond(Some(guest()), &Method::POST, "/openstack/2013-04-04/password").status(), StatusCode::CONFLICT);
    }

    #[test]
    fn the_configuration_drive_holds_the_same_documents() {
        let guest = guest();
        let files = super::super::config_drive(&guest.server, &guest.ports, &guest.networks);
        assert_eq!(files["openstack/latest/user_data"], b"#!/bin/sh\n");
        // The password goes to the drive, which only root reads, and not to whoever in the guest can open a connection.
        let told = |content: &[u8]| String::from_utf8_lossy(content).contains("\"admin_pass\":\"secret\"");
        assert!(told(&files["openstack/latest/meta_data.json"]) && !told(text("/openstack/latest/meta_data.json").unwrap().as_bytes()));
        assert!(files.contains_key("openstack/2012-08-10/meta_data.json") && files.contains_key("ec2/latest/meta-data.json"));
    }
}
