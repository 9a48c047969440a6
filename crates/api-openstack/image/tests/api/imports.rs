//! Staging, importing, downloading from the web.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Redirect;
use axum::routing::get;
use futures_util::stream::{self, Stream, StreamExt};
use serde_json::{Value, json};
use unkai_image::bytes::FileLimits;
use unkai_image::{Choices, Origin, Settings};

use crate::cloud::{Fixture, OCTETS, eventually, fixture, fixture_with, id};

/// The most bytes of an image here.
const LIMIT: usize = 1000;

async fn stage(f: &Fixture, image: &str, data: &[u8]) -> u16 {
    f.member.send("PUT", &format!("/v2/images/{image}/stage"), &[OCTETS], data.to_vec()).await.status
}

async fn import(f: &Fixture, image: &str, method: Value) -> u16 {
    f.member.call("POST", &format!("/v2/images/{image}/import"), json!({ "method": method })).await.status
}

async fn task(f: &Fixture, image: &str) -> Value {
    f.member.get(&format!("/v2/images/{image}/tasks")).await.body["tasks"][0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn staged_bytes_are_imported() {
    let f = fixture();
    let image = id(&f.queued(json!({})).await);
    let direct = json!({ "name": "glance-direct" });
    assert_eq!(import(&f, &image, direct.clone()).await, 409, "nothing is staged");
    assert_eq!(stage(&f, &image, b"staged").await, 204);
    assert_eq!(f.show(&image).await["status"], "uploading");
    assert_eq!(f.member.get(&format!("/v2/images/{image}/file")).await.status, 204);
    assert_eq!(stage(&f, &image, b"again").await, 409);
    f.images.recover().await.unwrap();
    assert_eq!(import(&f, &image, direct.clone()).await, 202, "what was staged outlives a restart");
    assert_eq!(f.show(&image).await["status"], "active");
    assert_eq!(f.member.get(&format!("/v2/images/{image}/file")).await.bytes.as_ref(), b"staged");
    let task = task(&f, &image).await;
    assert_eq!(task["status"], "success");
    assert_eq!(task["input"]["import_req"]["method"]["name"], "glance-direct");
    assert_eq!(import(&f, &image, direct).await, 409);
    let id = task["id"].as_str().unwrap();
    assert_eq!(f.admin.get("/v2/tasks").await.body["tasks"][0]["id"], json!(id));
    assert_eq!(f.admin.get(&format!("/v2/tasks/{id}")).await.body["result"]["image_id"], json!(image));
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_staged_bytes_are_refused_at_the_import() {
    let f = fixture();
    let image = id(&f.queued(json!({ "disk_format": "vmdk" })).await);
    assert_eq!(stage(&f, &image, b"# Disk DescriptorFile\nRW 1 FLAT \"/etc/shadow\" 0\n").await, 204);
    assert_eq!(f.files(), Vec::<String>::new(), "nothing of it is kept");
    assert_eq!(import(&f, &image, json!({ "name": "glance-direct" })).await, 202);
    assert_eq!(f.show(&image).await["status"], "queued");
    let task = task(&f, &image).await;
    assert_eq!(task["status"], "failure");
    assert!(task["message"].as_str().unwrap().contains("vmdk"), "{task}");
}

/// Bytes that come in pieces, without a length before them.
fn pieces(pieces: impl Stream<Item = &'static str> + Send + 'static) -> Body {
    Body::from_stream(pieces.map(Ok::<_, std::convert::Infallible>))
}

/// A web server with one image and many traps.
async fn web() -> String {
    let router = Router::new()
        .route("/image", get(|| async { "from the web" }))
        .route("/moved", get(|| async { Redirect::temporary("/image") }))
        .route("/elsewhere", get(|| async { Redirect::temporary("http://127.0.0.1:1/secret") }))
        .route("/other-scheme", get(|| async { Redirect::temporary("file:///etc/passwd") }))
        .route("/round", get(|| async { Redirect::temporary("/round") }))
        .route("/large", get(|| async { "x".repeat(LIMIT + 1) }))
        .route("/endless", get(|| async { pieces(stream::repeat("a piece")) }))
        .route("/mute", get(std::future::pending::<&str>))
        .route("/stalls", get(|| async { pieces(stream::iter(["a piece"]).chain(stream::pending())) }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

#[tokio::test(flavor = "multi_thread")]
async fn images_come_from_allowed_places_only() {
    let web = web().await;
    let download_from = vec![Origin::parse(&web).unwrap()];
    let limits = FileLimits { max_size: LIMIT as u64, ..FileLimits::default() };
    let download_silence = Duration::from_millis(300);
    let f = fixture_with(Settings::new(Choices { limits, download_from, download_silence }));
    let download = |path: &str| json!({ "name": "web-download", "uri": format!("{web}{path}") });
    let image = id(&f.queued(json!({})).await);
    let other = json!({ "method": { "name": "web-download", "uri": "http://127.0.0.1:1/x" } });
    let refused = f.member.call("POST", &format!("/v2/images/{image}/import"), other).await;
    assert_eq!(refused.status, 400);
    assert!(String::from_utf8_lossy(&refused.bytes).contains("URI for web-download does not pass filtering: http://127.0.0.1:1/x"));
    let traps = [
        ("/missing", "404"),
        ("/elsewhere", "from where images may not come"),
        ("/other-scheme", "answered 307"),
        ("/round", "too often"),
        ("/large", "limit"),
        ("/endless", "limit"),
        ("/mute", "timed out"),
        ("/stalls", "timed out"),
    ];
    for (path, reason) in traps {
        assert_eq!(import(&f, &image, download(path)).await, 202);
        eventually("the import fails", async || task(&f, &image).await["status"] == "failure").await;
        let message = task(&f, &image).await["message"].as_str().unwrap().to_owned();
        assert!(message.contains(reason), "{path}: {message}");
        assert_eq!(f.show(&image).await["status"], "queued", "{path}");
        assert_eq!(f.files(), Vec::<String>::new(), "{path}: something is left");
    }
    assert_eq!(import(&f, &image, download("/moved")).await, 202);
    eventually("the image is active", async || f.show(&image).await["status"] == "active").await;
    eventually("the task ends", async || task(&f, &image).await["status"] == "success").await;
    assert_eq!(f.member.get(&format!("/v2/images/{image}/file")).await.bytes.as_ref(), b"from the web");
}

#[tokio::test]
async fn without_a_list_nothing_is_downloaded() {
    let f = fixture();
    let image = id(&f.queued(json!({})).await);
    assert_eq!(import(&f, &image, json!({ "name": "web-download", "uri": "http://127.0.0.1:1/x" })).await, 400);
    assert_eq!(f.member.get("/v2/info/import").await.body["import-methods"]["value"], json!(["glance-direct"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn administrators_import_by_a_task() {
    let web = web().await;
    let download_from = vec![Origin::parse(&web).unwrap()];
    let f = fixture_with(Settings::new(Choices { download_from, ..Choices::default() }));
    let body = |from: &str, format: &str| {
        let properties = json!({ "name": "by task", "disk_format": "raw", "container_format": "bare", "visibility": "public" });
        json!({ "type": "import", "input": { "import_from": from, "import_from_format": format, "image_properties": properties } })
    };
    assert_eq!(f.member.call("POST", "/v2/tasks", body(&format!("{web}/image"), "raw")).await.status, 403);
    assert_eq!(f.admin.call("POST", "/v2/tasks", body("http://nowhere.test/x", "raw")).await.status, 400);
    assert_eq!(f.admin.call("POST", "/v2/tasks", body(&format!("{web}/image"), "qcow2")).await.status, 400);
    assert_eq!(f.admin.call("POST", "/v2/tasks", json!({ "type": "export", "input": {} })).await.status, 400);
    let made = f.admin.call("POST", "/v2/tasks", body(&format!("{web}/image"), "raw")).await;
    assert_eq!(made.status, 201, "{made:?}");
    let path = format!("/v2/tasks/{}", made.body["id"].as_str().unwrap());
    eventually("the task ends", async || f.admin.get(&path).await.body["status"] == "success").await;
    let image = f.admin.get(&path).await.body["result"]["image_id"].as_str().unwrap().to_owned();
    assert_eq!(f.show(&image).await["status"], "active");
}
