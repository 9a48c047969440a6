//! Images that an aggregate asks for are on its hosts before any server asks for them.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::cloud::Cloud;

/// An aggregate with this host in it; the path of its images.
async fn aggregate(cloud: &Cloud) -> String {
    let made = cloud.must("POST", "/compute/v2.1/os-aggregates", Some(json!({"aggregate": {"name": "a"}}))).await;
    let path = format!("/compute/v2.1/os-aggregates/{}", made["aggregate"]["id"]);
    let hosts = cloud.get("/compute/v2.1/os-hypervisors").await;
    let host = hosts["hypervisors"][0]["hypervisor_hostname"].as_str().expect("a host").to_owned();
    cloud.must("POST", &format!("{path}/action"), Some(json!({"add_host": {"host": host}}))).await;
    format!("{path}/images")
}

async fn want(cloud: &Cloud, path: &str, images: &[&str]) -> u16 {
    let images: Vec<Value> = images.iter().map(|id| json!({"id": id})).collect();
    cloud.call_at("2.81", "POST", path, Some(json!({"cache": images}))).await.expect("an answer").0
}

fn cached(cloud: &Cloud, image: &str) -> Vec<PathBuf> {
    let dir = cloud.state().join("agent/images");
    let names = cloud.agent_dir("images").into_iter().filter(|name| name.starts_with(image) && !name.ends_with(".part"));
    names.map(|name| dir.join(name)).collect()
}

/// The controller's file of an image.
fn stored(cloud: &Cloud, image: &str) -> PathBuf {
    let mut dirs = vec![cloud.state()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).expect("a directory").flatten() {
            let path = entry.path();
            if path.starts_with(cloud.state().join("agent")) {
                continue;
            }
            if path.is_dir() {
                dirs.push(path);
            } else if entry.file_name().to_string_lossy().contains(image) {
                return path;
            }
        }
    }
    panic!("no file of image {image}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_an_aggregate_wants_is_fetched_and_a_failure_does_not_stick() {
    let cloud = Cloud::new().await;
    let (good, bad) = (cloud.upload_blank().await, cloud.upload_blank().await);
    let file = stored(&cloud, &bad);
    let whole = std::fs::read(&file).expect("the image's bytes");
    let mut damaged = whole.clone();
    damaged[100] ^= 1;
    std::fs::write(&file, damaged).expect("damaging the image");
    let path = aggregate(&cloud).await;
    assert!(cached(&cloud, &good).is_empty());

    assert_eq!(want(&cloud, &path, &[&bad, &good]).await, 202);
    cloud.until("the sound image is on the host", || async { !cached(&cloud, &good).is_empty() }).await;
    let fetched = std::fs::read(&cached(&cloud, &good)[0]).expect("the cached image");
    assert!(fetched == std::fs::read(stored(&cloud, &good)).expect("the stored image"), "other bytes than the image's");
    let said = || cloud.whole_log().lines().any(|line| line.contains("no image ahead of need") && line.contains(&bad));
    cloud.until("the log says that the damaged image failed", || async { said() }).await;
    assert!(cached(&cloud, &bad).is_empty(), "a damaged image was kept");

    std::fs::write(&file, whole).expect("mending the image");
    assert_eq!(want(&cloud, &path, &[&bad]).await, 202);
    cloud.until("the mended image is on the host", || async { !cached(&cloud, &bad).is_empty() }).await;
    assert_eq!(want(&cloud, &path, &["20000000-0000-4000-8000-000000000000"]).await, 400);
}
