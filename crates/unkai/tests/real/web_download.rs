//! `unkai up --web-download-from`: from where images may be imported.

use std::process::Command;

use axum::Router;
use axum::routing::get;
use serde_json::{Value, json};

use crate::cloud::Cloud;

async fn web() -> String {
    let router = Router::new().route("/image", get(|| async { "from the web" }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port of the loopback");
    let address = listener.local_addr().expect("a bound address");
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

async fn queued(cloud: &Cloud) -> String {
    let image = json!({"name": "web", "disk_format": "raw", "container_format": "bare"});
    let image = cloud.must("POST", "/image/v2/images", Some(image)).await;
    format!("/image/v2/images/{}", image["id"].as_str().expect("an id"))
}

fn from(uri: &str) -> Option<Value> {
    Some(json!({"method": {"name": "web-download", "uri": uri}}))
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_imported_from_the_places_of_the_command_line() {
    let (one, two, other) = (web().await, web().await, web().await);
    let cloud = Cloud::with(&["--web-download-from", &one, "--web-download-from", &two]).await;
    for allowed in [&one, &two] {
        let image = queued(&cloud).await;
        cloud.must("POST", &format!("{image}/import"), from(&format!("{allowed}/image"))).await;
        cloud.until("the image is active", || async { cloud.get(&image).await["status"] == "active" }).await;
        assert_eq!(cloud.get(&image).await["size"], "from the web".len());
    }
    let image = queued(&cloud).await;
    let refused = cloud.call("POST", &format!("{image}/import"), from(&format!("{other}/image"))).await.expect("an answer");
    assert_eq!(refused.0, 400);
}

#[test]
fn a_place_that_is_none_is_refused() {
    for place in ["images.example.org", "ftp://images.example.org", "https://images.example.org/only/here", "https://u@images.example.org"]
    {
        let output =
            Command::new(env!("CARGO_BIN_EXE_unkai")).args(["up", "--web-download-from", place]).output().expect("the binary starts");
        assert!(!output.status.success(), "{place}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("an origin is"), "{place}");
    }
}
