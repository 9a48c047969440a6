//! Consoles: the log, and the live ones behind a token.
//!
//! [`output`] reads the end of the log through the host's tunnel. For live consoles a token is made and its hash kept for a while;
//! [`proxy`] joins a websocket that brings the token with the tunnel to the guest.

mod proxy;
mod token;

use std::time::Duration;

use axum::Json;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::io::AsyncReadExt;
use unkai_model::Id;
use unkai_model::compute::{ConsoleKind, Host, Server, VmState};
use unkai_openstack::Target;

use super::actions::{Action, no_longer};
use super::cx::Cx;
use super::perform::{Rule, find, look};
use super::schemas;
use super::state::State;
use crate::Fault;
use crate::body::Body;
use crate::schema::as_int;

pub use proxy::{page, websocket};

/// The most of a log that one answer carries.
const MOST_OUTPUT: usize = 102_400;
/// How long a host may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

static CONSOLE: Rule = Rule { lock: false, ..Rule::note("os-getConsoleOutput", "os_compute_api:os-console-output", &[]) };

/// The host a server is on; refused while there is none to ask.
pub fn host_of(server: &Server, state: &State) -> Result<Id<Host>, Fault> {
    let not_ready = || Fault::conflict(format!("Instance {} is not ready", server.meta.id));
    if state.vm == VmState::Building && state.task != Some("spawning") {
        return Err(not_ready());
    }
    server.status.host.clone().ok_or_else(not_ready)
}

/// Everything a tunnel says, up to the end of its stream.
pub async fn read_all(cx: &Cx, host: Id<Host>, target: Target) -> Result<Vec<u8>, Fault> {
    let reading = async {
        let mut stream = cx.cloud.tunnels.open(host, target).await?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.map_err(|e| unkai_model::Error::caused("reading from a host", e))?;
        Ok::<_, unkai_model::Error>(bytes)
    };
    match tokio::time::timeout(PATIENCE, reading).await {
        Ok(read) => Ok(read?),
        Err(_) => Err(unkai_model::Error::unavailable("The host did not answer in time.").into()),
    }
}

pub async fn output(request: Action) -> Result<Response, Fault> {
    request.check(&schemas::CONSOLE_OUTPUT)?;
    let (cx, length) = (&request.cx, as_int(&request.body["os-getConsoleOutput"]["length"]));
    let (_, server, state) = look(cx, &request.id).await?;
    CONSOLE.check(cx, &server, &state)?;
    let host = host_of(&server, &state)?;
    let lines = length.and_then(|length| u64::try_from(length).ok());
    let bytes = read_all(cx, host, Target::ConsoleLog { server: server.meta.id.clone(), lines }).await?;
    Ok(Json(json!({ "output": readable(&bytes, lines) })).into_response())
}

/// The last lines, without what no client can show.
fn readable(bytes: &[u8], lines: Option<u64>) -> String {
    let text = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(MOST_OUTPUT)..]);
    let clean: String = text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect();
    let Some(lines) = lines.and_then(|lines| usize::try_from(lines).ok()) else { return clean };
    if lines == 0 {
        return String::new();
    }
    let body = clean.strip_suffix('\n').unwrap_or(&clean);
    match body.rmatch_indices('\n').nth(lines - 1) {
        Some((at, _)) => clean[at + 1..].to_owned(),
        None => clean,
    }
}

/// `os-getVNCConsole` and its like, which became `remote-consoles` in 2.6.
pub async fn old(request: Action, key: &str) -> Result<Response, Fault> {
    if request.cx.version.at_least(6) {
        return Err(no_longer());
    }
    let (schema, console) = match key {
        "os-getVNCConsole" => (schemas::old_console("os-getVNCConsole", &["novnc", "xvpvnc"]), Some(ConsoleKind::Vnc)),
        "os-getSerialConsole" => (schemas::old_console("os-getSerialConsole", &["serial"]), Some(ConsoleKind::Serial)),
        "os-getSPICEConsole" => (schemas::old_console("os-getSPICEConsole", &["spice-html5"]), None),
        _ => (schemas::old_console("os-getRDPConsole", &["rdp-html5"]), None),
    };
    request.check(&schema)?;
    let kind = request.body[key]["type"].as_str().unwrap_or_default().to_owned();
    let url = open(&request.cx, &request.id, console.filter(|_| kind != "xvpvnc"), &kind).await?;
    Ok(Json(json!({ "console": { "type": kind, "url": url } })).into_response())
}

/// `POST /servers/{id}/remote-consoles`.
pub async fn remote(cx: Cx, Path(id): Path<String>, body: Body) -> Result<Response, Fault> {
    cx.version.require(6..)?;
    let body = body.validated(&schemas::REMOTE_CONSOLE, cx.version)?;
    let word = |key: &str| body["remote_console"][key].as_str().unwrap_or_default().to_owned();
    let (protocol, kind) = (word("protocol"), word("type"));
    let console = match (protocol.as_str(), kind.as_str()) {
        ("vnc", "novnc") => Some(ConsoleKind::Vnc),
        ("serial", "serial") => Some(ConsoleKind::Serial),
        _ => None,
    };
    let url = open(&cx, &id, console, &kind).await?;
    Ok(Json(json!({ "remote_console": { "protocol": protocol, "type": kind, "url": url } })).into_response())
}

/// Makes a token for a console and says where to bring it.
async fn open(cx: &Cx, id: &str, console: Option<ConsoleKind>, kind: &str) -> Result<String, Fault> {
    let (cx_, id) = (cx.clone(), id.to_owned());
    let kind = kind.to_owned();
    let (token, console) = cx
        .cloud
        .store
        .transact(move |tx| {
            let (server, state) = find(&tx.view(), &id)?;
            CONSOLE.check(&cx_, &server, &state)?;
            let console = console.ok_or_else(|| Fault::bad_request(format!("Unavailable console type {kind}.")))?;
            host_of(&server, &state)?;
            Ok::<_, Fault>((token::issue(tx, &server.meta.id, console)?, console))
        })
        .await?;
    Ok(match console {
        // The form that noVNC's own page understands: where the websocket is, below the root.
        ConsoleKind::Vnc => format!("{}/console/?path=console/websockify%3Ftoken%3D{token}", cx.cloud.url),
        ConsoleKind::Serial => format!("{}/console/websockify?token={token}", cx.cloud.url.replacen("http", "ws", 1)),
    })
}

/// `GET /os-console-auth-tokens/{token}`: where a token leads, for consoles' own proxies.
pub async fn show_token(cx: Cx, Path(text): Path<String>) -> Result<Response, Fault> {
    cx.require_admin("os_compute_api:os-console-auth-tokens")?;
    let view = cx.view().await?;
    let missing = || Fault::not_found("Token not found");
    let (server, _) = token::redeem(&view, &text, unkai_model::Timestamp::now()).ok_or_else(missing)?;
    let host = server.status.host.as_ref().and_then(|host| view.get(host)).ok_or_else(missing)?;
    let address = host.status.address.map_or_else(|| host.meta.name.clone(), |address| address.to_string());
    let mut console = json!({ "instance_uuid": server.meta.id, "host": address, "port": 0, "internal_access_path": null });
    if cx.version.at_least(99) {
        console["tls_port"] = serde_json::Value::Null;
    }
    Ok(Json(json!({ "console": console })).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_shown() {
        let log = b"one\r\ntwo\x1b[0m\nthree\n";
        assert_eq!(readable(log, None), "one\ntwo[0m\nthree\n");
        assert_eq!(readable(log, Some(2)), "two[0m\nthree\n");
        assert_eq!(readable(log, Some(9)), "one\ntwo[0m\nthree\n");
        assert_eq!(readable(log, Some(0)), "");
        assert_eq!(readable(b"a\nb", Some(1)), "b");
        assert_eq!(readable(&[0xff, b'x'], None), "\u{fffd}x");
        assert_eq!(readable(&vec![b'x'; MOST_OUTPUT * 2], None).len(), MOST_OUTPUT);
    }
}
