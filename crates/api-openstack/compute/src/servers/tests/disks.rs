//! Servers made with volumes: what is made, what is attached, and what is refused.

use serde_json::{Value, json};
use unkai_model::compute::{BootDisk, Phase, Server};
use unkai_model::image::Image;
use unkai_model::settings::Settings;
use unkai_model::volume::{AttachState, Attachment, Snapshot, SnapshotPhase, Source, Volume};
use unkai_model::{Error, Id, Meta};
use unkai_openstack::testing::Answer;

use super::message;
use crate::servers::fixture::{IMAGE, World};

/// A root volume made from the image, as clients ask for it.
fn from_image(extra: Value) -> Value {
    let mut mapping = json!({"boot_index": 0, "uuid": IMAGE, "source_type": "image", "destination_type": "volume", "volume_size": 2});
    mapping.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    mapping
}

impl World {
    async fn boot(&self, minor: u16, change: Value) -> Answer {
        let mut server = json!({"name": "one", "flavorRef": "1", "imageRef": "", "networks": "none"});
        server.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        self.at(minor, "POST", "/v2.1/servers", json!({ "server": server })).await
    }

    async fn booted(&self, change: Value) -> String {
        let answer = self.boot(79, change).await;
        assert_eq!(answer.status, 202, "{}", answer.body);
        answer.body["server"]["id"].as_str().unwrap().to_owned()
    }

    fn volume_of(&self, attachment: &Attachment) -> std::sync::Arc<Volume> {
        self.cloud.store.view().get(&attachment.volume).unwrap()
    }

    async fn snapshot(&self, volume: &str, size_gib: u64) -> String {
        let volume = Id::<Volume>::new(volume);
        let body = move |tx: &mut unkai_store::Tx| {
            let meta = Meta::new(tx.new_id()).owned_by("p");
            let volume = volume.clone();
            let snapshot = Snapshot { phase: SnapshotPhase::Available, ..Snapshot::new(meta, "u", volume, size_gib) };
            Ok::<_, Error>(tx.insert(snapshot)?.meta.id.to_string())
        };
        self.cloud.store.transact(body).await.unwrap()
    }

    async fn set(&self, change: impl Fn(&mut Settings) + Send + 'static) {
        let body = move |tx: &mut unkai_store::Tx| {
            let mut settings = Settings::standard();
            change(&mut settings);
            tx.insert(settings).map(drop)
        };
        self.cloud.store.transact::<_, Error>(body).await.unwrap();
    }
}

#[tokio::test]
async fn a_server_starts_from_a_volume_made_from_an_image() {
    let world = World::new().await;
    let mapping = from_image(json!({"delete_on_termination": true, "volume_type": "standard", "tag": "root"}));
    let id = world.booted(json!({"block_device_mapping_v2": [mapping]})).await;
    let server = world.document(&id);
    assert_eq!((&server.spec.launch.boot, &server.spec.launch.image), (&BootDisk::Volume, &None));
    let attachment = world.attachments(&id)[0].clone();
    assert_eq!(
        (attachment.state, attachment.boot_index, attachment.device.as_deref()),
        (AttachState::Attaching, Some(0), Some("/dev/vda"))
    );
    assert_eq!((attachment.delete_on_termination, attachment.tag.as_deref()), (true, Some("root")));
    let volume = world.volume_of(&attachment);
    assert_eq!((volume.spec.size_gib, &volume.spec.source), (2, &Source::Image(IMAGE.into())));
    assert_eq!((volume.meta.project.as_ref(), volume.spec.user.as_str()), (Some(&Id::new("p")), "u"));
    assert_eq!(server.status.host, None, "it waits");

    world.settle(&id, Phase::Running).await;
    let shown = world.show(&id).await;
    assert_eq!((&shown["image"], &shown["status"]), (&json!(""), &json!("ACTIVE")));
    assert_eq!(shown["os-extended-volumes:volumes_attached"], json!([{"id": volume.meta.id, "delete_on_termination": true}]));
    let disk = world.document(&id).charges().any(|(_, class, _)| class == "DISK_GB");
    assert!(!disk, "the root disk is not the host's");
    let path = format!("/v2.1/servers/{id}/os-volume_attachments/{}", volume.meta.id);
    let refused = world.at(1, "DELETE", &path, Value::Null).await;
    assert_eq!((refused.status, message(&refused).as_str()), (400, "Cannot detach a root device volume"));

    let waiting = world.booted(json!({"block_device_mapping_v2": [from_image(json!({"delete_on_termination": true}))]})).await;
    let volume = world.volume_of(&world.attachments(&waiting)[0]);
    assert_eq!(world.at(1, "DELETE", &format!("/v2.1/servers/{waiting}"), Value::Null).await.status, 204);
    assert!(world.cloud.store.view().get(&volume.meta.id).unwrap().spec.deleted, "it goes with the server that never ran");
}

#[tokio::test]
async fn a_server_is_made_with_all_kinds_of_disks() {
    let world = World::new().await;
    world
        .change_flavor("2", |flavor| {
            flavor.ephemeral_gib = 4;
            flavor.swap_mib = 512;
        })
        .await;
    let root = world.volume(|volume| volume.spec.bootable = true).await;
    let data = world.volume(|_| {}).await;
    let snapshot = world.snapshot(&data, 7).await;
    let mappings = json!([
        {"source_type": "snapshot", "uuid": snapshot, "destination_type": "volume", "boot_index": null},
        {"source_type": "volume", "uuid": root, "destination_type": "volume", "boot_index": 0, "device_name": "vda"},
        {"source_type": "blank", "destination_type": "volume", "volume_size": 3, "tag": "blank", "disk_bus": "virtio"},
        {"source_type": "volume", "uuid": data, "destination_type": "volume", "boot_index": -1},
        {"source_type": "blank", "destination_type": "local", "volume_size": 2},
        {"source_type": "blank", "destination_type": "local", "guest_format": "swap", "volume_size": 64},
    ]);
    let id = world.booted(json!({"flavorRef": "2", "block_device_mapping_v2": mappings})).await;
    let attachments = world.attachments(&id);
    let devices: Vec<_> = attachments.iter().map(|one| one.device.clone().unwrap()).collect();
    assert_eq!(devices, ["/dev/vda", "/dev/vdd", "/dev/vde", "/dev/vdf"], "the host's own disks are vdb and vdc");
    assert_eq!(attachments[0].volume.as_str(), root);
    let volumes: Vec<_> = attachments.iter().map(|one| world.volume_of(one)).collect();
    assert_eq!((&volumes[1].spec.source, volumes[1].spec.size_gib), (&Source::Snapshot(snapshot.as_str().into()), 7));
    assert_eq!((&volumes[2].spec.source, volumes[2].meta.name.as_str()), (&Source::Blank, format!("{id}-blank-vol").as_str()));
    assert_eq!((attachments[2].tag.as_deref(), attachments[2].bus.as_deref()), (Some("blank"), Some("virtio")));
    assert_eq!(volumes[3].meta.id.as_str(), data);
    let launch = &world.document(&id).spec.launch;
    assert_eq!((launch.ephemeral_gib(), launch.swap_mib()), (2, 64));
    assert_eq!((launch.flavor.ephemeral_gib, launch.flavor.swap_mib), (4, 512), "the flavor is shown as it is");
}

#[tokio::test]
async fn an_image_and_volumes_beside_it() {
    let world = World::new().await;
    let data = world.volume(|_| {}).await;
    let mappings = json!([
        {"source_type": "image", "uuid": IMAGE, "destination_type": "local", "boot_index": 0, "delete_on_termination": true},
        {"source_type": "volume", "uuid": data, "destination_type": "volume"},
    ]);
    let id = world.booted(json!({"imageRef": IMAGE, "block_device_mapping_v2": mappings})).await;
    let server = world.document(&id);
    assert_eq!((&server.spec.launch.boot, server.spec.launch.image.as_ref().map(|id| id.as_str())), (&BootDisk::Local, Some(IMAGE)));
    assert_eq!(world.attachments(&id)[0].device.as_deref(), Some("/dev/vdb"));
    world.settle(&id, Phase::Running).await;
    assert_eq!(world.show(&id).await["image"]["id"], IMAGE);
}

#[tokio::test]
async fn the_legacy_form_is_understood() {
    let world = World::new().await;
    let (root, data) = (world.volume(|volume| volume.spec.bootable = true).await, world.volume(|_| {}).await);
    let mappings = json!([
        {"device_name": "vda", "volume_id": root, "delete_on_termination": "1"},
        {"device_name": "/dev/vdb", "volume_id": data},
    ]);
    let id = world.booted(json!({"block_device_mapping": mappings})).await;
    let attachments = world.attachments(&id);
    assert_eq!((attachments[0].volume.as_str(), attachments[0].delete_on_termination), (root.as_str(), true));
    assert_eq!((attachments[1].volume.as_str(), attachments[1].boot_index), (data.as_str(), None));
    let beside = world.volume(|_| {}).await;
    let id = world.booted(json!({"imageRef": IMAGE, "block_device_mapping": [{"device_name": "vdb", "volume_id": beside}]})).await;
    assert_eq!(world.document(&id).spec.launch.boot, BootDisk::Local);
}

#[tokio::test]
async fn several_servers_have_volumes_of_their_own() {
    let world = World::new().await;
    let several = |mapping: Value| json!({"min_count": 2, "block_device_mapping_v2": [mapping], "return_reservation_id": false});
    let volume = world.volume(|volume| volume.spec.bootable = true).await;
    let existing = json!({"boot_index": 0, "uuid": volume, "source_type": "volume", "destination_type": "volume"});
    let refused = world.boot(79, several(existing)).await;
    assert_eq!((refused.status, message(&refused).as_str()), (400, "Cannot attach one or more volumes to multiple instances"));
    assert_eq!(world.boot(79, several(from_image(json!({})))).await.status, 202);
    let view = world.cloud.store.view();
    let mut made: Vec<_> = view.all::<Server>().flat_map(|server| world.attachments(server.meta.id.as_str())).collect();
    made.dedup_by(|a, b| a.volume == b.volume);
    assert_eq!(made.len(), 2);
}

#[tokio::test]
async fn what_cannot_be_is_refused_in_the_originals_words() {
    let world = World::new().await;
    let missing = "99999999-9999-4999-8999-999999999999";
    let plain = world.volume(|_| {}).await;
    let used = world.volume(|volume| volume.spec.bootable = true).await;
    world.booted(json!({"block_device_mapping_v2": [{"boot_index": 0, "uuid": used, "source_type": "volume"}]})).await;
    let shared = world.volume(|volume| volume.spec.multi_attach = true).await;
    let hungry = world
        .volume(|volume| {
            volume.spec.bootable = true;
            volume.spec.image_metadata.insert("min_ram".into(), "9999".into());
        })
        .await;
    let one = |mapping: Value| json!({"block_device_mapping_v2": [mapping]});
    let beside = |mapping: Value| {
        let root = json!({"source_type": "image", "uuid": IMAGE, "destination_type": "local", "boot_index": 0});
        json!({"imageRef": IMAGE, "block_device_mapping_v2": [root, mapping]})
    };
    let volume = |id: &str| json!({"source_type": "volume", "uuid": id, "destination_type": "volume"});
    let root = |id: &str| json!({"boot_index": 0, "source_type": "volume", "uuid": id, "destination_type": "volume"});
    let order = "Block Device Mapping is Invalid: Boot sequence for the instance and image/block device mapping combination is not valid.";
    #[rustfmt::skip]
    let table: Vec<(u16, Value, u16, String)> = vec![
        (79, one(root(missing)), 400, format!("Block Device Mapping is Invalid: failed to get volume {missing}.")),
        (79, beside(volume(missing)), 400, format!("Volume {missing} could not be found.")),
        (79, one(root(&plain)), 400, format!("Block Device {plain} is not bootable.")),
        (79, one(root(&hungry)), 400, "Flavor's memory is too small for requested image.".into()),
        (79, one(root(&used)), 400, "Invalid volume: volume ".into()),
        (59, beside(volume(&shared)), 400, "Multiattach volumes are only supported starting with compute API version 2.60.".into()),
        (79, one(volume(&plain)), 400, order.into()),
        (79, one(from_image(json!({"boot_index": 1}))), 400, order.into()),
        (79, json!({"imageRef": IMAGE, "block_device_mapping_v2": [volume(&plain)]}), 400, order.into()),
        (79, one(from_image(json!({"volume_size": ""}))), 400, "Images with destination_type 'volume' need to have a non-zero size specified".into()),
        (79, one(from_image(json!({"uuid": missing}))), 400, format!("Block Device Mapping is Invalid: failed to get image {missing}.")),
        (79, beside(json!({"source_type": "blank", "destination_type": "volume"})), 400, "Blank volumes (source: 'blank', dest: 'volume') need to have non-zero size".into()),
        (79, one(json!({"boot_index": 0, "source_type": "snapshot", "uuid": missing})), 400, format!("Snapshot {missing} could not be found.")),
        (79, beside(json!({"source_type": "snapshot", "uuid": missing})), 400, format!("Block Device Mapping is Invalid: failed to get snapshot {missing}.")),
        (79, one(from_image(json!({"volume_type": "gold"}))), 400, "Volume type gold could not be found.".into()),
        (66, one(from_image(json!({"volume_type": "gold"}))), 400, "Invalid input for field/attribute 0.".into()),
        (79, beside(json!({"source_type": "blank", "destination_type": "local", "volume_size": 1})), 400, "Ephemeral disks requested are larger".into()),
        (79, beside(json!({"source_type": "blank", "destination_type": "local", "guest_format": "swap", "volume_size": 1})), 400, "Swap drive requested is larger than instance type allows.".into()),
        (79, beside(json!({"source_type": "volume", "uuid": plain, "destination_type": "volume", "device_name": "vda"})), 400, "The volume cannot be assigned the same device name as the root device vda".into()),
        (79, json!({"block_device_mapping_v2": []}), 400, "Invalid imageRef provided.".into()),
        (79, json!({"flavorRef": "0", "imageRef": IMAGE}), 403, "Only volume-backed servers are allowed for flavors with zero disk.".into()),
    ];
    let before = world.cloud.store.view().count::<Volume>();
    for (minor, change, status, text) in table {
        let answer = world.boot(minor, change.clone()).await;
        assert_eq!(answer.status, status, "{change}: {}", answer.body);
        assert!(message(&answer).starts_with(&text), "{change}: {}", message(&answer));
    }
    assert_eq!(world.cloud.store.view().count::<Volume>(), before, "a refused request leaves nothing");
    let small = world.boot(79, json!({"flavorRef": "0", "block_device_mapping_v2": [from_image(json!({}))]})).await;
    assert_eq!(small.status, 202, "a flavor without a disk is for this: {}", small.body);
}

#[tokio::test]
async fn the_least_size_that_an_image_says_holds_for_volumes() {
    let world = World::new().await;
    let raise = |tx: &mut unkai_store::Tx| {
        tx.update(&Id::<Image>::new(IMAGE), |image: &mut Image| {
            image.spec.min_disk_gib = 5;
            Ok::<_, Error>(())
        })
        .map(drop)
    };
    world.cloud.store.transact(raise).await.unwrap();
    let refused = world.boot(79, json!({"block_device_mapping_v2": [from_image(json!({}))]})).await;
    let text = "Volume is smaller than the minimum size specified in image metadata. Volume size is 2147483648 bytes, minimum size is 5368709120 bytes.";
    assert_eq!((refused.status, message(&refused).as_str()), (400, text));
    assert_eq!(world.boot(79, json!({"block_device_mapping_v2": [from_image(json!({"volume_size": 5}))]})).await.status, 202);
}

#[tokio::test]
async fn a_cloud_may_start_all_servers_from_volumes() {
    let world = World::new().await;
    world.set(|settings| settings.boot_from_volume = true).await;
    for (flavor, size) in [("2", 10), ("0", 1)] {
        let id = world.booted(json!({"imageRef": IMAGE, "flavorRef": flavor})).await;
        let server = world.document(&id);
        assert_eq!(server.spec.launch.boot, BootDisk::Volume);
        let attachment = world.attachments(&id)[0].clone();
        assert!(attachment.is_root() && attachment.delete_on_termination);
        let volume = world.volume_of(&attachment);
        assert_eq!((volume.spec.size_gib, &volume.spec.source), (size, &Source::Image(IMAGE.into())));
        world.settle(&id, Phase::Running).await;
        assert_eq!(world.show(&id).await["image"]["id"], IMAGE, "the image that was asked for");
    }
    let local = json!([{"source_type": "image", "uuid": IMAGE, "destination_type": "local", "boot_index": 0}]);
    let id = world.booted(json!({"imageRef": IMAGE, "block_device_mapping_v2": local})).await;
    assert_eq!(world.document(&id).spec.launch.boot, BootDisk::Local, "it was asked for");
}

#[tokio::test]
async fn an_image_may_say_what_disks_its_servers_have() {
    let world = World::new().await;
    let origin = world.volume(|volume| volume.spec.bootable = true).await;
    let snapshot = world.snapshot(&origin, 3).await;
    let stored = json!([{"source_type": "snapshot", "destination_type": "volume", "snapshot_id": snapshot, "boot_index": 0,
        "device_name": "/dev/vda", "delete_on_termination": true, "volume_size": 3}])
    .to_string();
    let say = move |tx: &mut unkai_store::Tx| {
        tx.update(&Id::<Image>::new(IMAGE), |image: &mut Image| {
            image.spec.properties.insert("block_device_mapping".into(), stored.clone());
            image.spec.properties.insert("bdm_v2".into(), "True".into());
            Ok::<_, Error>(())
        })
        .map(drop)
    };
    world.cloud.store.transact(say).await.unwrap();
    let id = world.booted(json!({"imageRef": IMAGE})).await;
    assert_eq!(world.document(&id).spec.launch.boot, BootDisk::Volume);
    let volume = world.volume_of(&world.attachments(&id)[0]);
    assert_eq!((&volume.spec.source, volume.spec.size_gib), (&Source::Snapshot(snapshot.as_str().into()), 3));
}
