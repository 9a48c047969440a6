use serde_json::{Value, json};
use unkai_model::image::{Content, Image, ImageSpec, ImageState};
use unkai_model::volume::{Cipher, Source, VolumeKey, VolumeType};
use unkai_model::{Id, Meta};

use super::*;

#[tokio::test]
async fn a_volume_is_made_shown_changed_and_ended() {
    let s = Setup::new().await;
    let wish = json!({ "volume": { "size": 2, "name": " a ", "description": "d", "metadata": { "k": "v" } } });
    let made = expect(202, s.member("POST", "/volumes", wish).await)["volume"].take();
    assert_eq!(
        (&made["name"], &made["size"], &made["status"], &made["volume_type"]),
        (&json!("a"), &json!(2), &json!("creating"), &json!("standard"))
    );
    assert!(made.get("os-vol-tenant-attr:tenant_id").is_none(), "not for those who make it");
    let id = made["id"].as_str().unwrap();
    s.settle(id).await;
    let shown = expect(200, s.member("GET", &format!("/volumes/{id}"), Value::Null).await)["volume"].take();
    assert_eq!((&shown["status"], &shown["os-vol-tenant-attr:tenant_id"]), (&json!("available"), &json!("p")));
    assert!(shown.get("os-vol-host-attr:host").is_none(), "only administrators know where it is");
    let of_admin = expect(200, s.admin("GET", &format!("/volumes/{id}"), Value::Null).await);
    assert_eq!(of_admin["volume"]["os-vol-host-attr:host"], "unkai@local#local");
    let change = json!({ "volume": { "name": "b", "metadata": { "x": "y" } } });
    let changed = expect(200, s.member("PUT", &format!("/volumes/{id}"), change).await);
    assert_eq!((&changed["volume"]["name"], &changed["volume"]["metadata"]), (&json!("b"), &json!({ "x": "y" })));
    expect(400, s.member("PUT", &format!("/volumes/{id}"), json!({ "volume": {} })).await);
    expect(202, s.member("DELETE", &format!("/volumes/{id}"), Value::Null).await);
    assert_eq!(s.status(id).await, "deleting");
    expect(202, s.member("DELETE", &format!("/volumes/{id}"), Value::Null).await);
    assert_eq!(s.document(id).meta.generation, 2, "asked once");
}

#[tokio::test]
async fn others_know_of_nothing_and_readers_change_nothing() {
    let s = Setup::new().await;
    let id = s.volume(json!({})).await;
    let path = format!("/volumes/{id}");
    expect(404, s.send(OTHER, "GET", &path, Value::Null).await);
    expect(404, s.send(OTHER, "DELETE", &path, Value::Null).await);
    expect(200, s.send(READER, "GET", &path, Value::Null).await);
    for (method, path, body) in [
        ("POST", "/volumes".to_owned(), json!({ "volume": { "size": 1 } })),
        ("PUT", path.clone(), json!({ "volume": { "name": "x" } })),
        ("DELETE", path.clone(), Value::Null),
        ("POST", format!("{path}/action"), json!({ "os-extend": { "new_size": 2 } })),
        ("POST", format!("{path}/metadata"), json!({ "metadata": { "a": "b" } })),
    ] {
        let said = refusal(403, s.send(READER, method, &path, body).await);
        assert!(said.starts_with("Policy doesn't allow volume"), "{said}");
    }
    assert_eq!(s.document(&id).meta.name, "");
}

#[tokio::test]
async fn the_project_of_the_path_is_that_of_the_token() {
    let mut s = Setup::new().await;
    assert_eq!(refusal(400, s.raw(MEMBER, "GET", "/v3/q/volumes").await), "Malformed request url");
    expect(200, s.raw(MEMBER, "GET", "/v3/volumes").await);
    s.minor = 66;
    expect(404, s.raw(MEMBER, "GET", "/v3/volumes").await);
    expect(200, s.raw(MEMBER, "GET", "/v3/p/volumes").await);
}

#[tokio::test]
async fn what_cannot_be_made_is_refused_in_the_originals_words() {
    let s = Setup::new().await;
    let source = s.volume(json!({ "size": 3 })).await;
    let none = super::id(99);
    for (wish, status, text) in [
        (json!({}), 400, "Invalid input received: Volume size 'None' must be an integer and greater than 0".to_owned()),
        (json!({ "size": 0 }), 400, "Invalid input for field/attribute size.".into()),
        (json!({ "size": "ten" }), 400, "Invalid input for field/attribute size.".into()),
        (json!({ "size": 1, "odd": 1 }), 400, "Invalid input for field/attribute volume.".into()),
        (json!({ "size": 1, "volume_type": "gold" }), 404, "Volume type gold could not be found.".into()),
        (json!({ "size": 1, "snapshot_id": none }), 404, format!("Snapshot {none} could not be found.")),
        (json!({ "size": 1, "source_volid": none }), 404, format!("Volume {none} could not be found.")),
        (json!({ "size": 1, "backup_id": none }), 404, format!("Backup {none} could not be found.")),
        (json!({ "size": 1, "imageRef": none }), 400, "Invalid image identifier or unable to access requested image.".into()),
        (json!({ "size": 1, "availability_zone": "moon" }), 400, "Invalid input received: Availability zone 'moon' is invalid.".into()),
        (json!({ "size": 1, "multiattach": true }), 400, "Invalid volume: multiattach is a property of volume types".into()),
        (
            json!({ "size": 1, "source_volid": source, "snapshot_id": none }),
            400,
            "Invalid input received: A volume is made from one thing".into(),
        ),
        (
            json!({ "size": 2, "source_volid": source }),
            400,
            "Invalid input received: Volume size '2'GB cannot be smaller than original volume size  3GB.".into(),
        ),
    ] {
        let said = refusal(status, s.member("POST", "/volumes", json!({ "volume": wish })).await);
        assert!(said.starts_with(&text), "{wish}: {said}");
    }
    let hints = json!({ "volume": { "size": 1 }, "OS-SCH-HNT:scheduler_hints": { "same_host": [source] } });
    assert!(refusal(400, s.member("POST", "/volumes", hints).await).contains("Scheduler hints are not supported"));
    assert_eq!(s.cloud.store.view().count::<Volume>(), 1, "a refused request leaves nothing");
}

#[tokio::test]
async fn what_a_volume_is_made_from_says_what_it_is() {
    let s = Setup::new().await;
    let mut image =
        Image::new(Meta::new(super::id(7)).named("debian").owned_by("p"), ImageSpec { min_disk_gib: 2, ..ImageSpec::default() });
    image.spec.properties.insert("hw_disk_bus".into(), "virtio".into());
    image.status.state = ImageState::Active;
    let (file, md5, sha512) = ("f".into(), "m".into(), "s".into());
    image.status.content = Some(Content { file, size: 5, virtual_size: Some(3 << 30), md5, sha512 });
    s.put(image).await;
    let wish = json!({ "volume": { "size": 2, "imageRef": super::id(7) } });
    let small = refusal(400, s.member("POST", "/volumes", wish).await);
    assert_eq!(small, "Size of specified image 3GB is larger than volume size 2GB.".replace("Size", "Invalid input received: Size"));
    let id = s.volume(json!({ "size": 4, "imageRef": format!("http://images/{}", super::id(7)) })).await;
    let shown = expect(200, s.member("GET", &format!("/volumes/{id}"), Value::Null).await)["volume"].take();
    assert_eq!(shown["bootable"], "true");
    let noted = &shown["volume_image_metadata"];
    assert_eq!((&noted["image_name"], &noted["hw_disk_bus"], &noted["min_disk"]), (&json!("debian"), &json!("virtio"), &json!("2")));
    let clone = s.document(&s.volume(json!({ "size": null, "source_volid": id })).await);
    assert_eq!((clone.spec.size_gib, clone.spec.bootable, &clone.spec.source), (4, true, &Source::Volume(Id::new(id))));
    assert_eq!(clone.spec.image_metadata["image_name"], "debian");
}

#[tokio::test]
async fn encrypted_types_give_keys() {
    let s = Setup::new().await;
    let cipher = |provider: &str, bits| Cipher {
        provider: provider.into(),
        cipher: Some("aes-xts-plain64".into()),
        key_size: Some(bits),
        control_location: "front-end".into(),
    };
    for (number, name, cipher) in [(2, "luks", cipher("luks", 256)), (3, "luks2", cipher("luks2", 256)), (4, "short", cipher("luks", 128))]
    {
        let (description, access, extra_specs) = Default::default();
        let meta = Meta::new(super::id(number)).named(name);
        let encryption_id = Some(super::id(number));
        s.put(VolumeType { meta, description, public: true, access, extra_specs, encryption: Some(cipher), encryption_id }).await;
    }
    let id = s.volume(json!({ "volume_type": "luks" })).await;
    let volume = s.document(&id);
    let key = s.cloud.store.view().get::<VolumeKey>(volume.spec.key.as_ref().unwrap()).unwrap();
    assert_eq!((key.cipher.as_str(), key.mode.as_str(), key.passphrase.len()), ("aes-128", "xts", 64));
    let another = s.document(&s.volume(json!({ "volume_type": "luks" })).await);
    assert_ne!(another.spec.key, volume.spec.key, "a key per volume");
    for (name, text) in [
        ("luks2", "Encryption provider luks2 is not supported; luks is."),
        ("short", "Cipher aes-xts-plain64 with 128 bits is not supported"),
    ] {
        let said = refusal(400, s.member("POST", "/volumes", json!({ "volume": { "size": 1, "volume_type": name } })).await);
        assert!(said.contains(text), "{said}");
    }
}

#[tokio::test]
async fn a_volume_that_is_used_or_has_snapshots_stays() {
    let s = Setup::new().await;
    let id = s.volume(json!({})).await;
    expect(202, s.member("POST", "/snapshots", json!({ "snapshot": { "volume_id": id } })).await);
    s.settle(&id).await;
    let path = format!("/volumes/{id}");
    assert!(
        refusal(400, s.member("DELETE", &path, Value::Null).await).starts_with("Invalid volume: Volume status must be available or error")
    );
    expect(202, s.member("DELETE", &format!("{path}?cascade=true"), Value::Null).await);
    let used = s.volume(json!({})).await;
    expect(202, s.action(&used, json!({ "os-attach": { "instance_uuid": super::id(50), "mountpoint": "/dev/vdb" } })).await);
    expect(400, s.member("DELETE", &format!("/volumes/{used}"), Value::Null).await);
    let force = json!({ "os-force_delete": {} });
    expect(403, s.action(&used, force.clone()).await);
    expect(400, s.admin("POST", &format!("/volumes/{used}/action"), force).await);
}

#[tokio::test]
async fn metadata_has_a_path_of_its_own() {
    let s = Setup::new().await;
    let path = format!("/volumes/{}/metadata", s.volume(json!({ "metadata": { "a": "1" } })).await);
    let all = json!({ "metadata": { "b": "2" } });
    assert_eq!(expect(200, s.member("POST", &path, all.clone()).await), json!({ "metadata": { "a": "1", "b": "2" } }));
    assert_eq!(expect(200, s.member("PUT", &path, all.clone()).await), all);
    assert_eq!(expect(200, s.member("PUT", &format!("{path}/b"), json!({ "meta": { "b": "3" } })).await), json!({ "meta": { "b": "3" } }));
    assert_eq!(expect(200, s.member("GET", &format!("{path}/b"), Value::Null).await), json!({ "meta": { "b": "3" } }));
    expect(400, s.member("PUT", &format!("{path}/b"), json!({ "meta": { "c": "3" } })).await);
    expect(400, s.member("POST", &path, json!({ "metadata": { "x".repeat(256): "1" } })).await);
    expect(400, s.member("POST", &path, json!({ "metadata": { "x": "1".repeat(256) } })).await);
    expect(200, s.member("DELETE", &format!("{path}/b"), Value::Null).await);
    let gone = refusal(404, s.member("DELETE", &format!("{path}/b"), Value::Null).await);
    assert!(gone.ends_with("has no metadata with key b."), "{gone}");
}

#[tokio::test]
async fn why_it_failed_is_a_message() {
    let s = Setup::new().await;
    let id = s.volume(json!({})).await;
    assert_eq!(expect(200, s.member("GET", "/messages", Value::Null).await), json!({ "messages": [] }));
    s.change(&id, |volume| {
        let at = jiff::Timestamp::from_second(1).unwrap();
        volume.status.fault = Some(unkai_model::compute::Fault { code: 500, message: "no room".into(), details: String::new(), at });
    })
    .await;
    let list = expect(200, s.member("GET", "/messages", Value::Null).await);
    assert_eq!((&list["messages"][0]["user_message"], &list["messages"][0]["resource_uuid"]), (&json!("no room"), &json!(id)));
    expect(404, s.send(OTHER, "GET", &format!("/messages/{id}"), Value::Null).await);
    expect(403, s.send(READER, "DELETE", &format!("/messages/{id}"), Value::Null).await);
    expect(204, s.member("DELETE", &format!("/messages/{id}"), Value::Null).await);
    expect(404, s.member("GET", &format!("/messages/{id}"), Value::Null).await);
}
