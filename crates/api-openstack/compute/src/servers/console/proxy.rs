//! The console proxy: a page, and the websocket whose bytes are the console's.
//!
//! The token in the query is the only credential. A bad one gets an empty refusal and a closed connection, so that a websocket
//! client does not take the text of an error for the console's.

use axum::Extension;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::{Html, IntoResponse, Response};
use futures_util::{SinkExt, StreamExt};
use http::{StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use unkai_model::Timestamp;
use unkai_model::compute::ConsoleKind;
use unkai_openstack::{ByteStream, Cloud, Target};

use super::token;
use crate::query::Query;

/// Bytes carried in one message.
const CHUNK: usize = 32 * 1024;

pub async fn page() -> Html<&'static str> {
    Html(include_str!("page.html"))
}

pub async fn websocket(
    State(cloud): State<Cloud>,
    query: Query,
    connection: Option<Extension<OnUpgrade>>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let refused = || {
        tokio::spawn(end(connection));
        (StatusCode::FORBIDDEN, [(header::CONNECTION, "close")]).into_response()
    };
    let (Ok(upgrade), Some(text)) = (upgrade, query.get("token")) else { return refused() };
    let Ok(view) = cloud.store.read().await else { return refused() };
    let Some((server, console)) = token::redeem(&view, text, Timestamp::now()) else { return refused() };
    let Some(host) = server.status.host.clone() else { return refused() };
    let id = server.meta.id.clone();
    let target = match console {
        ConsoleKind::Vnc => Target::Vnc { server: id },
        ConsoleKind::Serial => Target::Serial { server: id },
    };
    match cloud.tunnels.open(host, target).await {
        Ok(stream) => upgrade.protocols(["binary"]).on_upgrade(move |socket| join(socket, stream)),
        Err(error) => {
            tracing::info!(server = %server.meta.id, %error, "console not opened");
            refused()
        }
    }
}

/// Ends a connection that wanted to be a websocket and did not become one. Its server hands it over all the same, and what nobody takes
/// is dropped without TLS's goodbye, which a client cannot tell from an answer cut short.
async fn end(connection: Option<Extension<OnUpgrade>>) {
    let Some(Extension(connection)) = connection else { return };
    if let Ok(connection) = connection.await {
        let _ = TokioIo::new(connection).shutdown().await;
    }
}

/// Carries bytes both ways until either side ends.
async fn join(socket: WebSocket, stream: ByteStream) {
    let (mut to_client, mut from_client) = socket.split();
    let (mut from_guest, mut to_guest) = tokio::io::split(stream);
    let down = async {
        let mut buffer = vec![0; CHUNK];
        while let Ok(length @ 1..) = from_guest.read(&mut buffer).await {
            let message = Message::Binary(Bytes::copy_from_slice(&buffer[..length]));
            if to_client.send(message).await.is_err() {
                break;
            }
        }
        let _ = to_client.close().await;
    };
    let up = async {
        while let Some(Ok(message)) = from_client.next().await {
            let bytes = match message {
                Message::Binary(bytes) => bytes,
                Message::Text(text) => Bytes::from(text),
                Message::Close(_) => break,
                Message::Ping(_) | Message::Pong(_) => continue,
            };
            if to_guest.write_all(&bytes).await.is_err() || to_guest.flush().await.is_err() {
                break;
            }
        }
        let _ = to_guest.shutdown().await;
    };
    tokio::select! {
        () = down => {}
        () = up => {}
    }
}
