//! Shelved servers: what they leave, and when it goes.

use serde_json::json;

use crate::cloud::Cloud;
use crate::crash::scene;

/// Files of the controller's images.
fn files(cloud: &Cloud) -> Vec<String> {
    let entries = std::fs::read_dir(cloud.state().join("images")).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// The image of a deleted server that was offloaded stayed, and of one that came back its file, until the next start.
#[tokio::test(flavor = "multi_thread")]
async fn the_image_of_a_shelved_server_goes_with_it_or_when_it_is_back() {
    let scene = scene().await;
    let cloud = &scene.cloud;
    let before = files(cloud);
    for ends in [true, false] {
        let id = scene.create().await;
        let action = format!("/compute/v2.1/servers/{id}/action");
        // An empty disk holds no system that would switch off when asked to.
        cloud.must("POST", &action, Some(json!({"suspend": null}))).await;
        cloud.until("the server is suspended", || async { scene.status(&id).await.as_deref() == Some("SUSPENDED") }).await;
        cloud.must("POST", &action, Some(json!({"shelve": null}))).await;
        cloud.until("the server is offloaded", || async { scene.status(&id).await.as_deref() == Some("SHELVED_OFFLOADED") }).await;
        assert_eq!(files(cloud).len(), before.len() + 1, "the image is the server's disk now");
        if ends {
            scene.delete(&id).await;
            scene.clean("deleted while offloaded").await;
        } else {
            cloud.must("POST", &action, Some(json!({"unshelve": null}))).await;
            scene.active(&id).await;
        }
        let left = || async { cloud.get("/image/v2/images").await["images"].as_array().expect("a list").len() };
        cloud.until("only the first image is listed", || async { left().await == 1 }).await;
        cloud.until("no file of the shelved image is left", || async { files(cloud) == before }).await;
        if !ends {
            scene.delete(&id).await;
            scene.clean("deleted after it came back").await;
        }
        assert_eq!(cloud.agent_dir("snapshots"), Vec::<String>::new());
    }
}
