use super::*;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixListener;

const GREETING: &[u8] = b"{\"QMP\": {\"version\": {\"qemu\": {\"major\": 7, \"minor\": 2, \"micro\": 1}}}}\r\n";

struct Peer {
    _dir: tempfile::TempDir,
    socket: std::path::PathBuf,
    listener: UnixListener,
}

fn peer() -> Peer {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("qmp");
    let listener = UnixListener::bind(&socket).unwrap();
    Peer { _dir: dir, socket, listener }
}

/// Answers the capability negotiation, then hands over the stream.
async fn serve(listener: &UnixListener) -> BufReader<UnixStream> {
    let (stream, _) = listener.accept().await.unwrap();
    let mut stream = BufReader::new(stream);
    stream.write_all(GREETING).await.unwrap();
    let request = request(&mut stream).await;
    assert_eq!(request["execute"], "qmp_capabilities");
    reply(&mut stream, json!({"return": {}, "id": request["id"]})).await;
    stream
}

async fn request(stream: &mut BufReader<UnixStream>) -> Value {
    let mut line = String::new();
    stream.read_line(&mut line).await.unwrap();
    serde_json::from_str(&line).unwrap()
}

async fn reply(stream: &mut BufReader<UnixStream>, value: Value) {
    stream.write_all(format!("{value}\n").as_bytes()).await.unwrap();
}

#[tokio::test]
async fn replies_may_come_in_any_order_between_events() {
    let peer = peer();
    let server = tokio::spawn(async move {
        let mut stream = serve(&peer.listener).await;
        let (a, b) = (request(&mut stream).await, request(&mut stream).await);
        reply(&mut stream, json!({"event": "STOP", "timestamp": {}})).await;
        reply(&mut stream, json!({"return": b["execute"], "id": b["id"]})).await;
        reply(&mut stream, json!({"error": {"class": "GenericError", "desc": a["execute"]}, "id": a["id"]})).await;
        stream
    });
    let qmp = Qmp::connect(&peer.socket, Duration::from_secs(5)).await.unwrap();
    assert_eq!(qmp.version(), (7, 2, 1));
    let mut events = qmp.events();
    let (one, two) = tokio::join!(qmp.run("one"), qmp.run("two"));
    assert!(matches!(one, Err(Error::Refused { text, .. }) if text == "one"));
    assert_eq!(two.unwrap(), "two");
    assert_eq!(events.recv().await.unwrap().name, "STOP");
    drop(server.await.unwrap());
}

#[tokio::test]
async fn the_end_of_the_connection_fails_whoever_waits() {
    let peer = peer();
    let server = tokio::spawn(async move {
        let mut stream = serve(&peer.listener).await;
        request(&mut stream).await;
    });
    let qmp = Qmp::connect(&peer.socket, Duration::from_secs(5)).await.unwrap();
    let mut events = qmp.events();
    assert!(matches!(qmp.run("query-status").await, Err(Error::Disconnected(_))));
    assert_eq!(events.recv().await.unwrap().name, CLOSED);
    assert!(matches!(qmp.run("query-status").await, Err(Error::Disconnected(_))));
    assert!(qmp.is_closed());
    server.await.unwrap();
}

#[tokio::test]
async fn garbage_ends_the_connection_and_nothing_else() {
    for garbage in [&b"\xff\xfe\x00\n"[..], b"{}\n[1]\n", b"{\"return\":{},\"id\":\n"] {
        let peer = peer();
        let server = tokio::spawn(async move {
            let mut stream = serve(&peer.listener).await;
            stream.write_all(garbage).await.unwrap();
            // the client hangs up by itself once its handle is gone
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
        });
        let qmp = Qmp::connect(&peer.socket, Duration::from_secs(5)).await.unwrap();
        assert!(matches!(qmp.run("query-status").await, Err(Error::Disconnected(_))), "{garbage:?}");
        drop(qmp);
        server.await.unwrap();
    }
}

#[tokio::test]
async fn no_greeting_is_a_timeout() {
    let peer = peer();
    let result = Qmp::connect(&peer.socket, Duration::from_millis(50)).await;
    assert!(matches!(result, Err(Error::Timeout { .. })));
}

#[tokio::test]
async fn a_descriptor_travels_with_its_command() {
    use nix::sys::socket::{ControlMessageOwned, recvmsg};
    use std::io::IoSliceMut;
    let peer = peer();
    let server = tokio::spawn(async move {
        let stream = serve(&peer.listener).await.into_inner();
        stream
            .async_io(Interest::READABLE, || {
                let mut bytes = [0u8; 4096];
                let mut space = nix::cmsg_space!([RawFd; 4]);
                let mut iov = [IoSliceMut::new(&mut bytes)];
                let message = recvmsg::<()>(stream.as_raw_fd(), &mut iov, Some(&mut space), MsgFlags::empty())?;
                let fds: Vec<RawFd> =
                    message.cmsgs()?.flat_map(|c| if let ControlMessageOwned::ScmRights(fds) = c { fds } else { Vec::new() }).collect();
                Ok(fds.len())
            })
            .await
            .unwrap()
    });
    let qmp = Qmp::connect(&peer.socket, Duration::from_secs(5)).await.unwrap();
    let file = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    let _ = qmp.execute_with_fd("getfd", json!({"fdname": "x"}), file).await;
    assert_eq!(server.await.unwrap(), 1);
}
