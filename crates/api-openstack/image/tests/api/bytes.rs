//! Uploads, downloads, hostile content, crashes.

use serde_json::json;
use unkai_image::bytes::{BytesError, FileLimits};
use unkai_image::{Choices, Settings};
use unkai_model::Id;
use unkai_model::image::{Image, ImageState};

use crate::cloud::{OCTETS, eventually, fixture, fixture_with, id};

/// A qcow2 header: version 3, 1 MiB disk, and a name of a backing file when wanted.
fn qcow2(backing: Option<&str>) -> Vec<u8> {
    let mut file = vec![0; 4 * 65536];
    file[..4].copy_from_slice(b"QFI\xfb");
    file[4..8].copy_from_slice(&3u32.to_be_bytes());
    if let Some(name) = backing {
        file[8..16].copy_from_slice(&512u64.to_be_bytes());
        file[16..20].copy_from_slice(&(name.len() as u32).to_be_bytes());
        file[512..512 + name.len()].copy_from_slice(name.as_bytes());
    }
    file[20..24].copy_from_slice(&16u32.to_be_bytes());
    file[24..32].copy_from_slice(&(1u64 << 20).to_be_bytes());
    file[36..40].copy_from_slice(&1u32.to_be_bytes());
    file[40..48].copy_from_slice(&(3u64 * 65536).to_be_bytes());
    file[48..56].copy_from_slice(&65536u64.to_be_bytes());
    file[56..60].copy_from_slice(&1u32.to_be_bytes());
    file[96..100].copy_from_slice(&4u32.to_be_bytes());
    file[100..104].copy_from_slice(&104u32.to_be_bytes());
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_up_comes_down() {
    let f = fixture();
    let id = id(&f.queued(json!({})).await);
    assert_eq!(f.member.get(&format!("/v2/images/{id}/file")).await.status, 204);
    let data: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    assert_eq!(f.put(&id, &data).await.status, 204);
    let image = f.show(&id).await;
    assert_eq!(image["status"], "active");
    assert_eq!(image["size"], 3_000_000);
    assert_eq!(image["virtual_size"], 3_000_000);
    assert_eq!(image["os_hash_algo"], "sha512");
    let down = f.member.get(&format!("/v2/images/{id}/file")).await;
    assert_eq!((down.status, down.bytes.as_ref()), (200, data.as_slice()));
    assert_eq!(down.headers["content-md5"], image["checksum"].as_str().unwrap());
    assert_eq!(down.headers["content-length"], "3000000");
    let part = f.member.send("GET", &format!("/v2/images/{id}/file"), &[("range", "bytes=1000000-1000009")], vec![]).await;
    assert_eq!((part.status, part.bytes.as_ref()), (206, &data[1_000_000..1_000_010]));
    assert_eq!(part.headers["content-range"], "bytes 1000000-1000009/3000000");
    let again = f.put(&id, b"other").await;
    assert_eq!(again.status, 409, "{again:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn digests_are_those_of_the_bytes() {
    let f = fixture();
    let id = f.active(json!({}), b"abc").await;
    let image = f.show(&id).await;
    assert_eq!(image["checksum"], "900150983cd24fb0d6963f7d28e17f72");
    assert!(image["os_hash_value"].as_str().unwrap().starts_with("ddaf35a193617abacc417349ae204131"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_needs_its_type_and_the_formats() {
    let f = fixture();
    let image = id(&f.queued(json!({})).await);
    let path = format!("/v2/images/{image}/file");
    assert_eq!(f.member.send("PUT", &path, &[("content-type", "application/json")], b"{}".to_vec()).await.status, 415);
    let bare = f.member.call("POST", "/v2/images", json!({ "name": "bare" })).await.body;
    let answer = f.put(&id(&bare), b"x").await;
    assert_eq!(answer.status, 400);
    assert!(answer.bytes.windows(11).any(|text| text == b"disk_format"));
    assert_eq!(f.put("0b2b8e2e-7d3c-4b8f-9a3a-0d0e5f8c1a11", b"x").await.status, 404);
    assert_eq!(f.reader.send("PUT", &path, &[OCTETS], b"x".to_vec()).await.status, 403);
    assert_eq!(f.other.send("PUT", &path, &[OCTETS], b"x".to_vec()).await.status, 404);
    assert_eq!(f.show(&image).await["status"], "queued");
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_content_is_refused_and_nothing_is_kept() {
    let f = fixture();
    let cases = [
        ("qcow2", qcow2(Some("/etc/passwd")), "backing file"),
        ("raw", qcow2(None), "qcow2"),
        ("qcow2", b"just text, no image".to_vec(), "raw"),
        ("vmdk", b"# Disk DescriptorFile\nversion=1\nRW 1 FLAT \"/etc/shadow\" 0\n".to_vec(), "vmdk"),
    ];
    for (format, data, reason) in cases {
        let image = id(&f.queued(json!({ "disk_format": format })).await);
        let answer = f.put(&image, &data).await;
        assert_eq!(answer.status, 415, "{format}: {answer:?}");
        assert!(String::from_utf8_lossy(&answer.bytes).contains(reason), "{format}: {answer:?}");
        assert_eq!(f.show(&image).await["status"], "queued");
        assert_eq!(f.files(), Vec::<String>::new());
    }
    let good = f.active(json!({ "disk_format": "qcow2" }), &qcow2(None)).await;
    assert_eq!(f.show(&good).await["virtual_size"], 1 << 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_are_kept_as_they_are() {
    let f = fixture();
    let image = f.active(json!({ "disk_format": "vmdk", "container_format": "ova" }), b"an archive").await;
    assert_eq!(f.show(&image).await["virtual_size"], json!(null));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_declared_stays_while_bytes_arrive() {
    let f = fixture();
    let image = id(&f.queued(json!({ "disk_format": "qcow2" })).await);
    let wanted = Id::<Image>::new(image.as_str());
    let change = json!([{ "op": "replace", "path": "/disk_format", "value": "raw" }]);
    for state in [ImageState::Saving, ImageState::Uploading, ImageState::Importing] {
        let receiving = f.images.receive(&wanted, state, |_, _| Ok::<_, BytesError>(())).await.unwrap();
        assert_eq!(f.patch(&f.member, &image, change.clone()).await.status, 403, "{state}");
        drop(receiving);
        eventually("the image is queued", async || f.show(&image).await["status"] == "queued").await;
    }
    assert_eq!(f.patch(&f.member, &image, change).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_much_is_refused_announced_or_not() {
    let limits = FileLimits { max_size: 1000, ..FileLimits::default() };
    let f = fixture_with(Settings::new(Choices { limits, ..Choices::default() }));
    let image = id(&f.queued(json!({})).await);
    let path = format!("/v2/images/{image}/file");
    assert_eq!(f.put(&image, &[0; 1001]).await.status, 413);
    let announced = f.member.send("PUT", &path, &[OCTETS, ("x-openstack-image-size", "5000")], vec![]).await;
    assert_eq!(announced.status, 413);
    assert_eq!(f.show(&image).await["status"], "queued");
    assert_eq!(f.put(&image, &[0; 1000]).await.status, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_and_the_image_is_queued_again() {
    let limits = FileLimits { reserve: u64::MAX, ..FileLimits::default() };
    let f = fixture_with(Settings::new(Choices { limits, ..Choices::default() }));
    let image = id(&f.queued(json!({})).await);
    let answer = f.put(&image, b"x").await;
    assert_eq!(answer.status, 413);
    assert!(String::from_utf8_lossy(&answer.bytes).contains("storage media is full"));
    assert_eq!(f.show(&image).await["status"], "queued");
    assert_eq!(f.files(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_who_goes_away_leaves_nothing() {
    let f = fixture();
    let image = id(&f.queued(json!({})).await);
    let wanted = Id::<Image>::new(image.as_str());
    let mut receiving = f.images.receive(&wanted, ImageState::Saving, |_, _| Ok::<_, BytesError>(())).await.unwrap();
    receiving.write(vec![1; 3 << 20].into()).await.unwrap();
    assert_eq!(f.show(&image).await["status"], "saving");
    assert_eq!(f.files(), [format!("{image}.1.part")]);
    drop(receiving);
    eventually("the image is queued", async || f.show(&image).await["status"] == "queued").await;
    eventually("the part is removed", async || f.files().is_empty()).await;
    assert_eq!(f.put(&image, b"second try").await.status, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_deleted_while_it_is_uploaded_leaves_nothing() {
    let f = fixture();
    let image = id(&f.queued(json!({})).await);
    let wanted = Id::<Image>::new(image.as_str());
    let mut receiving = f.images.receive(&wanted, ImageState::Saving, |_, _| Ok::<_, BytesError>(())).await.unwrap();
    receiving.write(vec![1; 100].into()).await.unwrap();
    assert_eq!(f.member.call("DELETE", &format!("/v2/images/{image}"), json!(null)).await.status, 204);
    assert!(receiving.finish().await.is_err());
    assert_eq!(f.files(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_an_image_deletes_its_file() {
    let f = fixture();
    let image = f.active(json!({}), b"data").await;
    assert_eq!(f.files(), [format!("{image}.1")]);
    assert_eq!(f.member.call("DELETE", &format!("/v2/images/{image}"), json!(null)).await.status, 204);
    assert_eq!(f.member.get(&format!("/v2/images/{image}")).await.status, 404);
    eventually("the file is removed", async || f.files().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_removes_leftovers_and_ends_what_was_cut_off() {
    let f = fixture();
    let kept = f.active(json!({}), b"data").await;
    let cut = id(&f.queued(json!({})).await);
    let wanted = Id::<Image>::new(cut.as_str());
    let mut receiving = f.images.receive(&wanted, ImageState::Saving, |_, _| Ok::<_, BytesError>(())).await.unwrap();
    receiving.write(vec![1; 2 << 20].into()).await.unwrap();
    // As if the process died here: no destructor runs.
    std::mem::forget(receiving);
    std::fs::write(f.dir.path().join("images/renamed-but-not-committed.1"), b"x").unwrap();
    f.images.recover().await.unwrap();
    assert_eq!(f.files(), [format!("{kept}.1")]);
    assert_eq!(f.show(&cut).await["status"], "queued");
    assert_eq!(f.member.get(&format!("/v2/images/{kept}/file")).await.bytes.as_ref(), b"data");
    assert_eq!(f.put(&cut, b"again").await.status, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_brings_a_snapshot() {
    let f = fixture();
    let image = id(&f.queued(json!({ "disk_format": "qcow2" })).await);
    let wanted = Id::<Image>::new(image.as_str());
    assert!(f.images.open(&wanted).is_err());
    assert!(f.images.take(&wanted, &b"not a disk"[..]).await.is_err());
    assert_eq!(f.show(&image).await["status"], "queued");
    let disk = qcow2(None);
    f.images.take(&wanted, disk.as_slice()).await.unwrap();
    let (_, length) = f.images.open(&wanted).unwrap();
    assert_eq!(length, disk.len() as u64);
    assert!(f.images.take(&wanted, disk.as_slice()).await.is_err(), "an active image takes no other bytes");
}
