use serde_json::{Value, json};
use unkai_model::image::{Image, ImageState};
use unkai_model::volume::RestoreFrom;

use super::*;

#[tokio::test]
async fn a_volume_grows() {
    let mut s = Setup::new().await;
    let id = s.volume(json!({})).await;
    let grow = |size: u64| json!({ "os-extend": { "new_size": size } });
    assert!(refusal(400, s.action(&id, grow(1)).await).contains("must be greater than current size. (current: 1, extended: 1)"));
    expect(400, s.action(&id, json!({ "os-extend": { "new_size": "large" } })).await);
    assert!(refusal(400, s.action(&id, grow(200)).await).contains("pool local has 99 of 100 GiB free"));
    expect(202, s.action(&id, grow(2)).await);
    assert_eq!(s.status(&id).await, "extending");
    s.settle(&id).await;
    expect(202, s.action(&id, json!({ "os-attach": { "instance_uuid": super::id(5), "mountpoint": "/dev/vdb" } })).await);
    s.minor = 41;
    expect(400, s.action(&id, grow(3)).await);
    s.minor = 42;
    expect(202, s.action(&id, grow(3)).await);
}

#[tokio::test]
async fn servers_of_other_clouds_are_noted() {
    let s = Setup::new().await;
    let id = s.volume(json!({})).await;
    expect(400, s.action(&id, json!({ "os-attach": { "mountpoint": "/dev/vdb" } })).await);
    expect(202, s.action(&id, json!({ "os-attach": { "instance_uuid": super::id(5), "mountpoint": "/dev/vdb" } })).await);
    assert_eq!(s.status(&id).await, "in-use");
    expect(400, s.action(&id, json!({ "os-attach": { "instance_uuid": super::id(6) } })).await);
    let shown = expect(200, s.member("GET", &format!("/volumes/{id}"), Value::Null).await)["volume"]["attachments"][0].take();
    assert_eq!((&shown["server_id"], &shown["device"]), (&json!(super::id(5)), &json!("/dev/vdb")));
    expect(404, s.action(&id, json!({ "os-detach": { "attachment_id": super::id(6) } })).await);
    expect(202, s.action(&id, json!({ "os-detach": { "attachment_id": shown["attachment_id"] } })).await);
    assert_eq!(s.status(&id).await, "available");
    expect(202, s.action(&id, json!({ "os-reserve": {} })).await);
    assert_eq!(s.status(&id).await, "attaching");
    expect(400, s.action(&id, json!({ "os-reserve": {} })).await);
    expect(202, s.action(&id, json!({ "os-unreserve": {} })).await);
    let said = refusal(400, s.action(&id, json!({ "os-initialize_connection": { "connector": {} } })).await);
    assert!(said.ends_with("is in a pool of files, which only hosts of this cloud reach."), "{said}");
}

#[tokio::test]
async fn an_image_is_made_of_it_and_it_of_an_image() {
    let s = Setup::new().await;
    let id = s.volume(json!({})).await;
    let upload = |format: &str| json!({ "os-volume_upload_image": { "image_name": "i", "disk_format": format, "visibility": "private" } });
    expect(400, s.action(&id, upload("vhd")).await);
    let public = json!({ "os-volume_upload_image": { "image_name": "i", "visibility": "public" } });
    expect(403, s.action(&id, public).await);
    let answer = expect(202, s.action(&id, upload("qcow2")).await)["os-volume_upload_image"].take();
    assert_eq!((&answer["status"], &answer["disk_format"]), (&json!("uploading"), &json!("qcow2")));
    let image = Id::<Image>::new(answer["image_id"].as_str().unwrap());
    assert_eq!(s.cloud.store.view().get(&image).unwrap().status.state, ImageState::Queued);
    assert_eq!(s.document(&id).spec.upload.as_ref().unwrap().image, image);
    expect(400, s.action(&id, upload("raw")).await);
    s.settle(&id).await;
    let reimage = json!({ "os-reimage": { "image_id": super::id(8) } });
    expect(400, s.action(&id, reimage.clone()).await);
    let mut fit = Image::new(Meta::new(super::id(8)).named("other").owned_by("p"), Default::default());
    fit.status.state = ImageState::Active;
    let (file, md5, sha512) = ("f".into(), "m".into(), "s".into());
    fit.status.content = Some(unkai_model::image::Content { file, size: 5, virtual_size: None, md5, sha512 });
    s.put(fit).await;
    expect(202, s.action(&id, reimage).await);
    let volume = s.document(&id);
    assert_eq!(volume.spec.restore.as_ref().unwrap().from, RestoreFrom::Image(Id::new(super::id(8))));
    assert_eq!((volume.spec.image_metadata["image_name"].as_str(), s.status(&id).await.as_str()), ("other", "downloading"));
}

#[tokio::test]
async fn administrators_have_a_word_about_its_state() {
    let s = Setup::new().await;
    let id = s.volume(json!({})).await;
    let path = format!("/volumes/{id}/action");
    let reset = |word: &str| json!({ "os-reset_status": { "status": word } });
    expect(403, s.action(&id, reset("error")).await);
    expect(400, s.admin("POST", &path, reset("odd")).await);
    expect(400, s.admin("POST", &path, json!({ "os-reset_status": {} })).await);
    expect(202, s.admin("POST", &path, reset("error")).await);
    assert_eq!(s.status(&id).await, "error");
    expect(202, s.admin("POST", &path, reset("available")).await);
    assert_eq!((s.status(&id).await.as_str(), &s.document(&id).spec.reset), ("available", &None));
    expect(202, s.admin("POST", &path, reset("in-use")).await);
    expect(400, s.member("DELETE", &format!("/volumes/{id}"), Value::Null).await);
    expect(202, s.admin("POST", &path, json!({ "os-force_delete": {} })).await);
    assert_eq!(s.status(&id).await, "deleting");
}

#[tokio::test]
async fn another_type_must_be_what_the_volume_is() {
    let s = Setup::new().await;
    for body in [
        json!({ "name": "same" }),
        json!({ "name": "shared", "extra_specs": { "multiattach": "<is> True" } }),
        json!({ "name": "elsewhere", "extra_specs": { "volume_backend_name": "other" } }),
        json!({ "name": "secret" }),
    ] {
        expect(200, s.admin("POST", "/types", json!({ "volume_type": body })).await);
    }
    let secret = s.cloud.store.view().holder::<VolumeType>("volume-type-name", "secret").unwrap();
    expect(200, s.admin("POST", &format!("/types/{secret}/encryption"), json!({ "encryption": { "provider": "luks" } })).await);
    let id = s.volume(json!({})).await;
    let retype = |name: &str| json!({ "os-retype": { "new_type": name } });
    for (name, status, text) in [
        ("standard", 400, "New volume_type same as original"),
        ("nothing", 404, "Volume type nothing could not be found."),
        ("elsewhere", 400, "its pool local does not have volume_backend_name=other"),
        ("secret", 400, "it is encrypted otherwise"),
    ] {
        let said = refusal(status, s.action(&id, retype(name)).await);
        assert!(said.contains(text), "{name}: {said}");
    }
    expect(202, s.action(&id, retype("shared")).await);
    assert!(s.document(&id).spec.multi_attach);
}

#[tokio::test]
async fn small_words_of_a_volume() {
    let mut s = Setup::new().await;
    let id = s.volume(json!({})).await;
    expect(202, s.action(&id, json!({ "os-update_readonly_flag": { "readonly": true } })).await);
    expect(200, s.action(&id, json!({ "os-set_bootable": { "bootable": true } })).await);
    let set = expect(200, s.action(&id, json!({ "os-set_image_metadata": { "metadata": { "a": "b" } } })).await);
    assert_eq!(set, json!({ "metadata": { "a": "b" } }));
    let shown = expect(200, s.member("GET", &format!("/volumes/{id}"), Value::Null).await)["volume"].take();
    assert_eq!(
        (&shown["bootable"], &shown["metadata"]["readonly"], &shown["volume_image_metadata"]["a"]),
        (&json!("true"), &json!("True"), &json!("b"))
    );
    expect(200, s.action(&id, json!({ "os-unset_image_metadata": { "key": "a" } })).await);
    expect(404, s.action(&id, json!({ "os-unset_image_metadata": { "key": "a" } })).await);
    for body in [json!({}), json!({ "os-fly": {} }), json!({ "os-reserve": {}, "os-unreserve": {} }), json!([])] {
        expect(400, s.action(&id, body).await);
    }
    s.minor = 39;
    expect(400, s.action(&id, json!({ "revert": { "snapshot_id": super::id(1) } })).await);
}
