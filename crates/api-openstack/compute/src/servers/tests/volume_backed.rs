//! What is asked of servers that start from volumes.

use std::sync::Arc;

use serde_json::{Value, json};
use unkai_model::compute::{Availability, Phase, Run, StopReason};
use unkai_model::image::{Image, ImageState};
use unkai_model::volume::{Snapshot, SnapshotPhase, Source, Volume};
use unkai_model::{Error, Id};

use super::message;
use crate::servers::fixture::{HOST, IMAGE, World};

const OTHER: &str = "77777777-7777-4777-8777-777777777777";

impl World {
    /// A running server on a bootable volume that was made from the image.
    async fn on_volume(&self, extra: Value) -> (String, String) {
        let volume = self
            .volume(|volume| {
                volume.spec.bootable = true;
                volume.spec.image_metadata = [("image_id", IMAGE), ("min_disk", "0"), ("hw_vif_model", "e1000")]
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
                    .collect();
            })
            .await;
        let mapping = json!([{"boot_index": 0, "uuid": volume, "source_type": "volume", "destination_type": "volume"}]);
        let mut change = json!({"imageRef": "", "block_device_mapping_v2": mapping});
        change.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let server = self.create(change).await;
        self.settle(&server, Phase::Running).await;
        (server, volume)
    }

    /// Another image, with these properties.
    async fn image(&self, properties: &[(&str, &str)]) {
        let properties: Vec<_> = properties.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        let body = move |tx: &mut unkai_store::Tx| {
            let mut image = Image::clone(&*tx.require(&Id::<Image>::new(IMAGE))?);
            image.meta.id = OTHER.into();
            image.spec.properties.extend(properties.clone());
            tx.insert(image).map(drop)
        };
        self.cloud.store.transact::<_, Error>(body).await.unwrap();
    }

    fn volume_document(&self, id: &str) -> Arc<Volume> {
        self.cloud.store.view().get(&id.into()).unwrap()
    }
}

#[tokio::test]
async fn a_rebuild_keeps_the_root_volume() {
    let world = World::new().await;
    world.image(&[]).await;
    let (server, volume) = world.on_volume(json!({})).await;
    let path = format!("/v2.1/servers/{server}/action");
    let other = world.at(92, "POST", &path, json!({"rebuild": {"imageRef": OTHER}})).await;
    let text = format!("Image {OTHER} is unacceptable: Unable to rebuild with a different image for a volume-backed server.");
    assert_eq!((other.status, message(&other)), (400, text));
    let anew = world.at(93, "POST", &path, json!({"rebuild": {"imageRef": IMAGE}})).await;
    assert_eq!(anew.status, 400, "{}", anew.body);
    let answer = world.at(92, "POST", &path, json!({"rebuild": {"imageRef": IMAGE, "name": "again"}})).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    assert_eq!((&answer.body["server"]["status"], &answer.body["server"]["image"]), (&json!("REBUILD"), &json!("")));
    assert_eq!(world.attachments(&server)[0].volume.as_str(), volume);
}

#[tokio::test]
async fn a_rescue_needs_an_image_that_says_which_disk_it_is() {
    let world = World::new().await;
    world.image(&[("hw_rescue_bus", "virtio"), ("hw_rescue_device", "disk")]).await;
    let (server, _) = world.on_volume(json!({})).await;
    let path = format!("/v2.1/servers/{server}/action");
    let refusal = format!("Instance {server} cannot be rescued: Cannot rescue a volume-backed instance");
    for (minor, body) in [(87, json!({"rescue": null})), (86, json!({"rescue": {"rescue_image_ref": OTHER}}))] {
        let refused = world.at(minor, "POST", &path, body).await;
        assert_eq!((refused.status, message(&refused)), (400, refusal.clone()), "2.{minor}");
    }
    assert_eq!(world.at(87, "POST", &path, json!({"rescue": {"rescue_image_ref": OTHER}})).await.status, 200);
    let rescue = world.document(&server).spec.rescue.clone().unwrap();
    assert_eq!(rescue.image.as_ref().map(|image| image.as_str()), Some(OTHER));
}

#[tokio::test]
async fn a_resize_does_not_look_at_the_disk() {
    let world = World::new().await;
    let (server, _) = world.on_volume(json!({"flavorRef": "2"})).await;
    assert_eq!(world.act(&server, json!({"resize": {"flavorRef": "1"}})).await.status, 202);
    world.settle(&server, Phase::Running).await;
    assert_eq!(world.act(&server, json!({"confirmResize": null})).await.status, 204);
    assert_eq!(world.act(&server, json!({"resize": {"flavorRef": "0"}})).await.status, 202);
}

#[tokio::test]
async fn shelving_takes_no_image() {
    let world = World::new().await;
    let (server, volume) = world.on_volume(json!({})).await;
    assert_eq!(world.act(&server, json!({"shelve": null})).await.status, 202);
    let document = world.document(&server);
    assert_eq!((document.spec.run, &document.spec.launch.shelved_image), (Run::Shelved, &None));
    assert_eq!(world.cloud.store.view().count::<Image>(), 1);
    world.settle(&server, Phase::Stopped(StopReason::Asked)).await;
    world
        .change(&server, |server| {
            server.spec.run = Run::Offloaded;
            server.status.host = None;
        })
        .await;
    assert_eq!(world.show(&server).await["status"], "SHELVED_OFFLOADED");
    let path = format!("/v2.1/servers/{server}/os-volume_attachments/{volume}");
    assert_eq!(world.at(60, "DELETE", &path, Value::Null).await.status, 400, "a root volume stays also now");
    assert_eq!(world.act(&server, json!({"unshelve": null})).await.status, 202);
}

#[tokio::test]
async fn an_image_of_it_is_snapshots_and_servers_are_made_of_it() {
    let world = World::new().await;
    let (server, volume) = world.on_volume(json!({})).await;
    let data = world.volume(|volume| (volume.spec.size_gib, volume.status.size_gib) = (3, 3)).await;
    let attach = json!({"volumeAttachment": {"volumeId": data, "delete_on_termination": true}});
    let attached = world.at(79, "POST", &format!("/v2.1/servers/{server}/os-volume_attachments"), attach).await;
    assert_eq!(attached.status, 200, "{}", attached.body);
    world.settle(&server, Phase::Running).await;
    let answer = world.act(&server, json!({"createImage": {"name": "two disks", "metadata": {"k": "v"}}})).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    let view = world.cloud.store.view();
    let image = view.get::<Image>(&answer.body["image_id"].as_str().unwrap().into()).unwrap();
    assert_eq!((image.status.state, image.size(), image.spec.source.as_ref()), (ImageState::Active, Some(0), None));
    let properties = &image.spec.properties;
    assert_eq!((properties["k"].as_str(), properties["hw_vif_model"].as_str(), properties.get("image_id")), ("v", "e1000", None));
    let mapping: Value = serde_json::from_str(&properties["block_device_mapping"]).unwrap();
    let snapshots: Vec<Arc<Snapshot>> =
        mapping.as_array().unwrap().iter().map(|one| view.get(&one["snapshot_id"].as_str().unwrap().into()).unwrap()).collect();
    assert_eq!(snapshots.iter().map(|one| one.volume.as_str()).collect::<Vec<_>>(), [volume.as_str(), data.as_str()]);
    assert_eq!((snapshots[0].meta.name.as_str(), snapshots[1].size_gib), ("snapshot for two disks", 3));
    assert_eq!(world.volume_document(&volume).meta.generation, 2, "the volume's host hears of it");
    assert_eq!(world.show(&server).await["OS-EXT-STS:task_state"], Value::Null);

    for snapshot in &snapshots {
        let id = snapshot.meta.id.clone();
        let taken = move |tx: &mut unkai_store::Tx| {
            tx.update(&id, |snapshot: &mut Snapshot| {
                snapshot.phase = SnapshotPhase::Available;
                Ok::<_, unkai_model::Error>(())
            })
        };
        world.cloud.store.transact(taken).await.unwrap();
    }
    let copy = world.create(json!({"imageRef": image.meta.id, "networks": "none"})).await;
    let made: Vec<_> = world.attachments(&copy).iter().map(|one| world.volume_document(one.volume.as_str())).collect();
    let sources: Vec<_> = made.iter().map(|volume| volume.spec.source.clone()).collect();
    assert_eq!(sources, snapshots.iter().map(|one| Source::Snapshot(one.meta.id.clone())).collect::<Vec<_>>());
    assert!(world.attachments(&copy)[1].delete_on_termination);

    let backup = world.act(&server, json!({"createBackup": {"name": "b", "backup_type": "daily", "rotation": 1}})).await;
    assert_eq!((backup.status, message(&backup).as_str()), (400, "Backup is not supported for volume-backed instances."));
    let rescued = world.active().await;
    let hollow = world.act(&rescued, json!({"rebuild": {"imageRef": image.meta.id}})).await;
    assert!(message(&hollow).ends_with("it has no content to start from."), "{}", hollow.body);
}

#[tokio::test]
async fn nothing_binds_it_to_its_host() {
    let world = World::new().await;
    let (server, _) = world.on_volume(json!({"metadata": {"unkai:availability": "ha"}})).await;
    let document = world.document(&server);
    assert_eq!((document.spec.availability, document.is_leased()), (Availability::Ha, true));
    world.change_flavor("1", |flavor| flavor.ephemeral_gib = 1).await;
    let volume = world.volume(|volume| volume.spec.bootable = true).await;
    let mapping = json!([{"boot_index": 0, "uuid": volume, "source_type": "volume", "destination_type": "volume"}]);
    let body = json!({"server": {"name": "e", "flavorRef": "1", "imageRef": "", "networks": "none", "block_device_mapping_v2": mapping,
        "metadata": {"unkai:availability": "ha"}}});
    let refused = world.at(60, "POST", "/v2.1/servers", body).await;
    assert!(message(&refused).contains("its disks are on its host alone"), "{}", refused.body);
    assert_eq!(world.document(&server).status.host.as_ref().map(|host| host.as_str()), Some(HOST));
}
