use serde_json::{Value, json};
use unkai_model::volume::{Snapshot, SnapshotPhase};

use super::*;

async fn taken(s: &Setup, volume: &str, name: &str) -> String {
    let wish = json!({ "snapshot": { "volume_id": volume, "name": name } });
    let made = expect(202, s.member("POST", "/snapshots", wish).await);
    let id = made["snapshot"]["id"].as_str().unwrap().to_owned();
    phase(s, &id, SnapshotPhase::Available).await;
    s.settle(volume).await;
    id
}

async fn phase(s: &Setup, id: &str, phase: SnapshotPhase) {
    let id = Id::<Snapshot>::new(id);
    s.act(move |tx| {
        tx.update(&id, |snapshot: &mut Snapshot| {
            snapshot.phase = phase.clone();
            Ok::<_, Error>(())
        })
        .map(drop)
    })
    .await;
}

#[tokio::test]
async fn a_snapshot_is_taken_shown_and_ended() {
    let s = Setup::new().await;
    let volume = s.volume(json!({ "size": 2 })).await;
    let before = s.document(&volume).meta.generation;
    let id = taken(&s, &volume, "one").await;
    assert_eq!(s.document(&volume).meta.generation, before + 1, "its carrier hears of it");
    let shown = expect(200, s.member("GET", &format!("/snapshots/{id}"), Value::Null).await)["snapshot"].take();
    assert_eq!((&shown["status"], &shown["size"], &shown["name"]), (&json!("available"), &json!(2), &json!("one")));
    assert_eq!(shown["os-extended-snapshot-attributes:progress"], "100%");
    let two = taken(&s, &volume, "two").await;
    let list = expect(200, s.member("GET", "/snapshots?name=two", Value::Null).await);
    assert_eq!((list["snapshots"].as_array().unwrap().len(), &list["snapshots"][0]["id"]), (1, &json!(two)));
    let made = s.document(&s.volume(json!({ "size": null, "snapshot_id": id })).await);
    assert_eq!(made.spec.size_gib, 2);
    let small = json!({ "volume": { "size": 1, "snapshot_id": id } });
    assert!(refusal(400, s.member("POST", "/volumes", small).await).contains("cannot be smaller than the snapshot size 2GB"));
    expect(202, s.member("DELETE", &format!("/snapshots/{id}"), Value::Null).await);
    assert_eq!(expect(200, s.member("GET", &format!("/snapshots/{id}"), Value::Null).await)["snapshot"]["status"], "deleting");
    phase(&s, &id, SnapshotPhase::Failed("stuck".into())).await;
    assert_eq!(expect(200, s.member("GET", &format!("/snapshots/{id}"), Value::Null).await)["snapshot"]["status"], "error_deleting");
    expect(202, s.member("DELETE", &format!("/snapshots/{id}"), Value::Null).await);
    assert_eq!(expect(200, s.member("GET", &format!("/snapshots/{id}"), Value::Null).await)["snapshot"]["status"], "deleting");
}

#[tokio::test]
async fn what_cannot_be_taken_is_refused() {
    let mut s = Setup::new().await;
    let volume = s.volume(json!({})).await;
    for (wish, status) in [
        (json!({ "volume_id": super::id(9) }), 404),
        (json!({ "volume_id": null }), 404),
        (json!({}), 400),
        (json!({ "volume_id": "x" }), 400),
        (json!({ "volume_id": volume, "force": "perhaps" }), 400),
        (json!({ "volume_id": volume, "force": false }), 400),
    ] {
        let answer = s.member("POST", "/snapshots", json!({ "snapshot": wish })).await;
        assert_eq!(answer.status, status, "{wish} {}", answer.body);
    }
    expect(202, s.action(&volume, json!({ "os-attach": { "instance_uuid": super::id(5), "mountpoint": "/dev/vdb" } })).await);
    s.minor = 65;
    let wish = |force: bool| json!({ "snapshot": { "volume_id": volume, "force": force } });
    expect(400, s.member("POST", "/snapshots", wish(false)).await);
    expect(202, s.member("POST", "/snapshots", wish(true)).await);
}

#[tokio::test]
async fn a_volume_goes_back_to_its_newest_snapshot() {
    let s = Setup::new().await;
    let volume = s.volume(json!({})).await;
    let (old, new) = (taken(&s, &volume, "old").await, taken(&s, &volume, "new").await);
    let back = |id: &str| json!({ "revert": { "snapshot_id": id } });
    assert!(refusal(400, s.action(&volume, back(&old)).await).contains("isn't the latest one"));
    expect(202, s.action(&volume, back(&new)).await);
    assert_eq!(s.status(&volume).await, "reverting");
    expect(400, s.action(&volume, back(&new)).await);
    s.settle(&volume).await;
    expect(202, s.action(&volume, json!({ "os-extend": { "new_size": 2 } })).await);
    s.settle(&volume).await;
    assert!(refusal(400, s.action(&volume, back(&new)).await).contains("must be equal to the snapshot size"));
}
