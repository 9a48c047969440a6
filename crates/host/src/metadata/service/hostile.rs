//! Guests that ask awkwardly: the corpus and changed copies of it over a real stream, and clients that never stop or never go on.
//!
//! The asker is always the first of three servers. A second one sits beside it, a third has the same address in another network;
//! what they hold must never be in an answer.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use unkai_link::item::Item;

use super::*;

#[path = "../../../../../tests/corpus/format.rs"]
mod format;

const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 5));
/// More than all documents of one server together.
const LONGEST_ANSWER: usize = 16 << 10;

fn samples() -> Vec<format::Sample> {
    format::read(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus/metadata"))
}

struct Cloud {
    desired: Desired,
    _dir: tempfile::TempDir,
}

fn cloud() -> Cloud {
    let dir = tempfile::tempdir().unwrap();
    let desired = Desired::open(dir.path()).unwrap();
    for (name, network, address) in [("asker", "n", "10.0.0.5"), ("beside", "n", "10.0.0.6"), ("elsewhere", "m", "10.0.0.5")] {
        let super::Guest { mut server, mut ports, mut networks } = super::tests::guest();
        server.id = format!("id-{name}").into();
        server.ports = vec![format!("port-{name}")];
        server.guest.name = format!("name-{name}");
        server.guest.hostname = format!("host-{name}");
        server.guest.public_key = Some(format!("ssh-ed25519 {name}"));
        server.guest.admin_password = Some(format!("password-{name}"));
        server.guest.personality = [("/etc/secret".into(), "c2VjcmV0".into())].into();
        ports[0].id = server.ports[0].clone();
        ports[0].network_id = network.into();
        ports[0].fixed_ips[0].address = address.parse().unwrap();
        networks[0].id = network.into();
        let items = [Item::Server(server), Item::Port(ports.remove(0)), Item::Network(networks.remove(0))];
        for item in items {
            desired.put(item).unwrap();
        }
    }
    Cloud { desired, _dir: dir }
}

/// Everything that comes back for these bytes over TCP, after which both sides are done.
async fn exchange(desired: &Desired, bytes: Vec<u8>) -> Vec<u8> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let server = tokio::spawn(serve(desired.clone(), "n".into(), ADDRESS, stream));
    let (mut read, mut write) = client.into_split();
    let sent = tokio::spawn(async move {
        // The server may have had enough before everything is sent.
        let _ = write.write_all(&bytes).await;
        let _ = write.shutdown().await;
    });
    let mut answer = Vec::new();
    let _ = read.read_to_end(&mut answer).await;
    server.await.expect("serving does not panic");
    sent.await.unwrap();
    answer
}

fn others_shown(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    text.contains("beside") || text.contains("elsewhere")
}

/// The status codes of the answers, in their order; `closed` when nothing came. Whatever came has to be answers, each whole.
fn verdict(answer: &[u8]) -> String {
    if answer.is_empty() {
        return "closed".into();
    }
    let text = std::str::from_utf8(answer).expect("answers are text");
    let (before, answers) = text.split_once("HTTP/1.").expect("an answer begins with its version");
    assert_eq!(before, "", "something stands before the first answer");
    let code = |answer: &str| {
        let code = answer.get(2..5).filter(|code| code.bytes().all(|byte| byte.is_ascii_digit()));
        assert!(answer.contains("\r\n\r\n"), "an answer without an end: {answer:?}");
        code.unwrap_or_else(|| panic!("no status in {answer:?}")).to_owned()
    };
    answers.split("HTTP/1.").map(code).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn the_corpus_gets_its_verdicts() {
    let cloud = cloud();
    let samples = samples();
    assert!(samples.len() > 20, "only {} files", samples.len());
    let mut wrong = Vec::new();
    for sample in samples {
        let answer = exchange(&cloud.desired, sample.bytes).await;
        assert!(!others_shown(&answer), "{}", sample.name);
        if verdict(&answer) != sample.verdict {
            wrong.push(format!("{}: {} instead of {}", sample.name, verdict(&answer), sample.verdict));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn check(runtime: &tokio::runtime::Runtime, cloud: &Cloud, bytes: Vec<u8>) -> Result<(), TestCaseError> {
    // One answer for every request there can be in so many bytes.
    let bound = LONGEST_ANSWER * (1 + bytes.windows(4).filter(|end| *end == b"\r\n\r\n" || end.ends_with(b"\n\n")).count());
    let answer = runtime.block_on(exchange(&cloud.desired, bytes));
    prop_assert!(!others_shown(&answer));
    prop_assert!(answer.len() <= bound, "{} bytes", answer.len());
    prop_assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."));
    Ok(())
}

#[test]
fn changed_requests_and_random_bytes_do_no_harm() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let cloud = cloud();
    proptest!(|(bytes in format::mutated(samples()))| check(&runtime, &cloud, bytes)?);
    proptest!(|(bytes in proptest::collection::vec(any::<u8>(), 0..600))| check(&runtime, &cloud, bytes)?);
    proptest!(|(path in "[ -~\u{80}-\u{ff}]{0,80}")| check(&runtime, &cloud, format!("GET /{path} HTTP/1.0\r\n\r\n").into_bytes())?);
}

/// Writes the same piece until the server takes no more, or for ever; how many bytes it took.
async fn pour(head: &str, piece: &str) -> usize {
    let cloud = cloud();
    let (client, server) = tokio::io::duplex(1 << 10);
    let server = tokio::spawn(serve(cloud.desired.clone(), "n".into(), ADDRESS, server));
    let (mut read, mut write) = tokio::io::split(client);
    let reader = tokio::spawn(async move { tokio::io::copy(&mut read, &mut tokio::io::sink()).await });
    let mut taken = 0;
    let mut next = head;
    while write.write_all(next.as_bytes()).await.is_ok() {
        taken += next.len();
        next = piece;
        assert!(taken < 1 << 30, "there is no end");
    }
    server.await.unwrap();
    reader.abort();
    taken
}

#[tokio::test(start_paused = true)]
async fn what_has_no_end_is_cut_off() {
    for (head, piece) in [
        ("GET / HTTP/1.1\r\n", "x-more: and more\r\n"),
        ("GET /", "aaaaaaaaaaaaaaaa"),
        ("GET / HTTP/1.1\r\nx: ", "aaaaaaaaaaaaaaaa"),
        ("", "\r\n"),
        ("PUT / HTTP/1.1\r\ncontent-length: 1000000000000\r\n\r\n", "aaaaaaaaaaaaaaaa"),
        ("PUT / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n", "1\r\na\r\n"),
        ("PUT / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n", "0000000000000000"),
    ] {
        let taken = pour(head, piece).await;
        assert!(taken < 256 << 10, "{head:?} {piece:?}: {taken} bytes");
    }
}

#[tokio::test(start_paused = true)]
async fn who_does_not_read_is_not_read_from() {
    let cloud = cloud();
    let (mut client, server) = tokio::io::duplex(1 << 10);
    let server = tokio::spawn(serve(cloud.desired.clone(), "n".into(), ADDRESS, server));
    let request = b"GET /openstack/latest/network_data.json HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut taken = 0;
    while client.write_all(request).await.is_ok() {
        taken += request.len();
        assert!(taken < 256 << 10, "answers pile up");
    }
    server.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_does_not_go_on_is_let_go() {
    let cloud = cloud();
    let (mut client, server) = tokio::io::duplex(1 << 10);
    let began = tokio::time::Instant::now();
    let server = tokio::spawn(serve(cloud.desired.clone(), "n".into(), ADDRESS, server));
    // One byte at a time, for ever.
    while client.write_all(b"G").await.is_ok() {
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    server.await.unwrap();
    assert!(began.elapsed() <= LONGEST + HEADERS);
}
