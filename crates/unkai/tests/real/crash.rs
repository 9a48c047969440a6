//! `kill -9` at every step of creating and of deleting a server: no acknowledged write is lost, nothing is left behind, and what runs is
//! adopted.

use serde_json::{Value, json};

use crate::cloud::Cloud;

/// No road is nearly as long; a loop that gets here does not end.
const MOST_STEPS: u64 = 400;

pub struct Scene {
    pub cloud: Cloud,
    image: String,
    flavor: String,
    network: String,
}

pub async fn scene() -> Scene {
    Scene::of(Cloud::new().await).await
}

impl Scene {
    pub async fn of(cloud: Cloud) -> Self {
        let image = cloud.upload_blank().await;
        let flavors = cloud.get("/compute/v2.1/flavors?sort_key=memory_mb&limit=1").await;
        let flavor = flavors["flavors"][0]["id"].as_str().expect("a flavor").to_owned();
        let network = cloud.must("POST", "/network/v2.0/networks", Some(json!({"network": {"name": "n"}}))).await;
        let network = network["network"]["id"].as_str().expect("an id").to_owned();
        let subnet = json!({"subnet": {"network_id": network, "cidr": "10.9.0.0/24", "ip_version": 4}});
        cloud.must("POST", "/network/v2.0/subnets", Some(subnet)).await;
        Scene { cloud, image, flavor, network }
    }

    pub fn request(&self, name: &str) -> Value {
        json!({"server": {"name": name, "imageRef": self.image, "flavorRef": self.flavor, "networks": [{"uuid": self.network}]}})
    }

    pub async fn servers(&self) -> Vec<Value> {
        self.cloud.get("/compute/v2.1/servers/detail").await["servers"].as_array().expect("a list").clone()
    }

    pub async fn status(&self, id: &str) -> Option<String> {
        let answer = self.cloud.call("GET", &format!("/compute/v2.1/servers/{id}"), None).await.ok()?;
        answer.1["server"]["status"].as_str().map(str::to_owned)
    }

    /// Asks for a server.
    pub async fn ask(&self) -> String {
        let made = self.cloud.must("POST", "/compute/v2.1/servers", Some(self.request("s"))).await;
        made["server"]["id"].as_str().expect("an id").to_owned()
    }

    pub async fn create(&self) -> String {
        let id = self.ask().await;
        self.active(&id).await;
        id
    }

    pub async fn active(&self, id: &str) {
        self.cloud.until("the server is ACTIVE", || async { self.status(id).await.as_deref() == Some("ACTIVE") }).await;
    }

    pub async fn delete(&self, id: &str) {
        self.cloud.must("DELETE", &format!("/compute/v2.1/servers/{id}"), None).await;
    }

    /// Nothing of any server is left: neither in the documents nor on the machine.
    pub async fn clean(&self, context: &str) {
        let cloud = &self.cloud;
        cloud.until(&format!("{context}: no server is listed"), || async { self.servers().await.is_empty() }).await;
        let nothing = || async {
            let dirs = [cloud.agent_dir("servers"), cloud.agent_dir("notes"), cloud.items()];
            dirs.iter().all(Vec::is_empty) && cloud.processes().is_empty() && cloud.namespaces().is_empty()
        };
        cloud.until(&format!("{context}: nothing is left on the machine"), nothing).await;
        let ports = cloud.get("/network/v2.0/ports?device_owner=compute:nova").await;
        assert_eq!(ports["ports"], json!([]), "{context}: ports are left");
        let limits = cloud.get("/compute/v2.1/limits").await;
        let absolute = &limits["limits"]["absolute"];
        let used = ["totalInstancesUsed", "totalCoresUsed", "totalRAMUsed"].map(|key| absolute[key].as_i64());
        assert_eq!(used, [Some(0); 3], "{context}: quota is left");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_at_every_step_of_create_loses_and_leaks_nothing() {
    let scene = scene().await;
    let cloud = &scene.cloud;
    let mut points = Vec::new();
    for number in 1..MOST_STEPS {
        cloud.arm(number);
        let answer = cloud.call("POST", "/compute/v2.1/servers", Some(scene.request("s"))).await;
        let accepted =
            answer.ok().filter(|(status, _)| *status == 202).and_then(|(_, body)| Some(body["server"]["id"].as_str()?.to_owned()));
        let settled = || async {
            match &accepted {
                Some(id) => !cloud.is_alive() || scene.status(id).await.as_deref() == Some("ACTIVE"),
                None => !cloud.is_alive(),
            }
        };
        cloud.until("the server is ACTIVE, or the process dead", settled).await;
        let Some(point) = cloud.disarm() else {
            scene.delete(&accepted.expect("a process that lives has answered")).await;
            scene.clean("without a crash").await;
            break;
        };
        cloud.wait_for_death().await;
        cloud.up();
        let context = format!("killed at point {number}, `{point}`");
        let ids: Vec<String> = scene.servers().await.iter().map(|server| server["id"].as_str().expect("an id").to_owned()).collect();
        assert!(ids.len() <= 1, "{context}: {ids:?}");
        if let Some(id) = accepted {
            assert_eq!(ids, [id], "{context}: an acknowledged server is lost");
        }
        for id in &ids {
            scene.active(id).await;
            // A child of the cloud that has not yet become another program looks like it.
            cloud.until(&format!("{context}: exactly one QEMU runs"), || async { cloud.processes().len() == 1 }).await;
            scene.delete(id).await;
        }
        scene.clean(&context).await;
        points.push(point);
    }
    println!("{} points: {points:#?}", points.len());
    assert!(points.len() > 20, "only {} points were passed", points.len());
    cloud.command(&["down"]);
    assert!(cloud.command(&["store", "check"]).contains("sound"));
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_at_every_step_of_delete_leaves_nothing() {
    let scene = scene().await;
    let cloud = &scene.cloud;
    let mut points = Vec::new();
    for number in 1..MOST_STEPS {
        let id = scene.create().await;
        cloud.arm(number);
        let answer = cloud.call("DELETE", &format!("/compute/v2.1/servers/{id}"), None).await;
        let accepted = answer.is_ok_and(|(status, _)| status == 204);
        let over = || async {
            let gone = cloud.is_alive() && cloud.items().is_empty() && cloud.namespaces().is_empty();
            !cloud.is_alive() || (accepted && gone)
        };
        cloud.until("the server is gone, or the process dead", over).await;
        let Some(point) = cloud.disarm() else {
            scene.clean("without a crash").await;
            break;
        };
        cloud.wait_for_death().await;
        cloud.up();
        let context = format!("killed at point {number}, `{point}`");
        if !accepted && scene.status(&id).await.is_some() {
            // Nobody was told that it goes: it may still be wanted.
            let _ = cloud.call("DELETE", &format!("/compute/v2.1/servers/{id}"), None).await;
        }
        scene.clean(&context).await;
        points.push(point);
    }
    println!("{} points: {points:#?}", points.len());
    assert!(points.len() > 10, "only {} points were passed", points.len());
}
