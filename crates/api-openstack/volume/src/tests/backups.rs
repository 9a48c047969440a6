use serde_json::{Value, json};
use unkai_model::compute::{Host, HostStatus, Reachability};
use unkai_model::volume::{Backup, BackupPhase, RestoreFrom, Snapshot, SnapshotPhase, VolumeKey};

use super::*;

/// A host that is up.
async fn host(s: &Setup, id: &str, number: u64) {
    let up = HostStatus { reachability: Reachability::Up, ..Default::default() };
    s.put(Host { status: up, ..Host::new(Meta::new(id).named(id), number) }).await;
}

async fn keeping(s: &Setup) {
    host(s, "h", 1).await;
    s.act(|tx| {
        tx.update(&Id::<Pool>::new("pool"), |pool: &mut Pool| {
            pool.keeps_backups = true;
            Ok::<_, Error>(())
        })
        .map(drop)
    })
    .await;
}

async fn phase(s: &Setup, id: &str, phase: BackupPhase) {
    let id = Id::<Backup>::new(id);
    s.act(move |tx| {
        tx.update(&id, |backup: &mut Backup| {
            backup.phase = phase.clone();
            Ok::<_, Error>(())
        })
        .map(drop)
    })
    .await;
}

async fn made(s: &Setup, wish: Value) -> String {
    let answer = expect(202, s.member("POST", "/backups", json!({ "backup": wish })).await);
    let id = answer["backup"]["id"].as_str().unwrap().to_owned();
    phase(s, &id, BackupPhase::Available).await;
    s.settle(wish["volume_id"].as_str().unwrap()).await;
    id
}

async fn status(s: &Setup, id: &str) -> Value {
    expect(200, s.member("GET", &format!("/backups/{id}"), Value::Null).await)["backup"]["status"].take()
}

#[tokio::test]
async fn backups_are_made_in_chains_and_go_in_order() {
    let s = Setup::new().await;
    let volume = s.volume(json!({ "size": 2 })).await;
    let none = refusal(503, s.member("POST", "/backups", json!({ "backup": { "volume_id": volume } })).await);
    assert!(none.starts_with("Service cinder-backup could not be found"), "{none}");
    keeping(&s).await;
    let first = json!({ "volume_id": volume, "incremental": true });
    assert!(refusal(400, s.member("POST", "/backups", json!({ "backup": first })).await).contains("No backups available"));
    let full = made(&s, json!({ "volume_id": volume, "name": "full", "metadata": { "a": "b" } })).await;
    let more = made(&s, json!({ "volume_id": volume, "name": "more", "incremental": true })).await;
    let shown = expect(200, s.member("GET", &format!("/backups/{more}"), Value::Null).await)["backup"].take();
    assert_eq!((&shown["is_incremental"], &shown["has_dependent_backups"], &shown["size"]), (&json!(true), &json!(false), &json!(2)));
    let list = expect(200, s.member("GET", "/backups/detail?sort=name:asc", Value::Null).await);
    assert_eq!((&list["backups"][0]["name"], &list["backups"][0]["has_dependent_backups"]), (&json!("full"), &json!(true)));
    expect(404, s.send(OTHER, "GET", &format!("/backups/{full}"), Value::Null).await);
    expect(403, s.send(READER, "DELETE", &format!("/backups/{more}"), Value::Null).await);
    let said = refusal(400, s.member("DELETE", &format!("/backups/{full}"), Value::Null).await);
    assert_eq!(said, "Invalid backup: Incremental backups exist for this backup.");
    expect(202, s.member("DELETE", &format!("/backups/{more}"), Value::Null).await);
    assert_eq!(status(&s, &more).await, "deleting");
    phase(&s, &more, BackupPhase::Failed("busy".into())).await;
    assert_eq!(status(&s, &more).await, "error_deleting");
    expect(202, s.member("DELETE", &format!("/backups/{more}"), Value::Null).await);
    assert_eq!(status(&s, &more).await, "deleting", "it is tried again");
    let changed = expect(200, s.member("PUT", &format!("/backups/{full}"), json!({ "backup": { "name": "whole" } })).await);
    assert_eq!(changed["backup"]["name"], "whole");
}

#[tokio::test]
async fn an_incremental_backup_waits_for_the_repository_of_the_earlier_ones() {
    let s = Setup::new().await;
    keeping(&s).await;
    let volume = s.volume(json!({})).await;
    let first = made(&s, json!({ "volume_id": volume })).await;
    let mut another = Pool::new(Meta::new("another").named("another"), Backend::Files { dir: "/elsewhere".into() });
    another.keeps_backups = true;
    s.put(another).await;
    let disable = |why: Option<&'static str>| {
        s.act(move |tx| {
            tx.update(&Id::<Pool>::new("pool"), |pool: &mut Pool| {
                pool.disabled = why.map(str::to_owned);
                Ok::<_, Error>(())
            })
            .map(drop)
        })
    };
    disable(Some("worn out")).await;
    let more = json!({ "volume_id": volume, "incremental": true });
    expect(503, s.member("POST", "/backups", json!({ "backup": more })).await);
    let whole = made(&s, json!({ "volume_id": volume })).await;
    disable(None).await;
    let more = made(&s, more).await;
    let view = s.cloud.store.view();
    let repository = |id: &str| view.get(&Id::<Backup>::new(id)).unwrap().repository.to_string();
    assert_eq!([&first, &whole, &more].map(|id| repository(id)), ["pool", "another", "another"], "it builds on the newest");
}

#[tokio::test]
async fn what_is_busy_or_missing_is_not_backed_up() {
    let s = Setup::new().await;
    keeping(&s).await;
    let volume = s.volume(json!({})).await;
    let wish = |body: Value| json!({ "backup": body });
    expect(404, s.member("POST", "/backups", wish(json!({ "volume_id": super::id(9) }))).await);
    expect(400, s.member("POST", "/backups", wish(json!({}))).await);
    expect(404, s.member("POST", "/backups", wish(json!({ "volume_id": volume, "snapshot_id": super::id(9) }))).await);
    expect(202, s.action(&volume, json!({ "os-attach": { "instance_uuid": super::id(5), "mountpoint": "/dev/vdb" } })).await);
    let said = refusal(400, s.member("POST", "/backups", wish(json!({ "volume_id": volume }))).await);
    assert_eq!(said, "Invalid volume: Backing up an in-use volume must use the force flag.");
    expect(202, s.member("POST", "/snapshots", json!({ "snapshot": { "volume_id": volume } })).await);
    let snapshot = s.cloud.store.view().all::<Snapshot>().next().unwrap().meta.id.clone();
    let of = snapshot.clone();
    s.act(move |tx| {
        tx.update(&of, |snapshot: &mut Snapshot| {
            snapshot.phase = SnapshotPhase::Available;
            Ok::<_, Error>(())
        })
        .map(drop)
    })
    .await;
    s.settle(&volume).await;
    let made = made(&s, json!({ "volume_id": volume, "snapshot_id": snapshot })).await;
    assert_eq!(s.cloud.store.view().get(&Id::<Backup>::new(made.as_str())).unwrap().snapshot.as_ref(), Some(&snapshot));
    phase(&s, &made, BackupPhase::Creating).await;
    expect(400, s.member("DELETE", &format!("/snapshots/{snapshot}"), Value::Null).await);
    phase(&s, &made, BackupPhase::Available).await;
    expect(202, s.member("DELETE", &format!("/snapshots/{snapshot}"), Value::Null).await);
    s.settle(&volume).await;
    expect(202, s.member("POST", "/backups", wish(json!({ "volume_id": volume, "force": true }))).await);
    assert_eq!(s.status(&volume).await, "backing-up");
}

#[tokio::test]
async fn a_backup_becomes_a_volume_or_goes_into_one() {
    let s = Setup::new().await;
    keeping(&s).await;
    let volume = s.volume(json!({ "size": 2 })).await;
    let id = made(&s, json!({ "volume_id": volume })).await;
    let restore = |body: Value| s.member("POST", "/nowhere", body);
    expect(404, restore(Value::Null).await);
    let path = format!("/backups/{id}/restore");
    let answer = expect(202, s.member("POST", &path, json!({ "restore": {} })).await)["restore"].take();
    assert_eq!(answer["volume_name"], format!("restore_backup_{id}"));
    let new = answer["volume_id"].as_str().unwrap();
    assert_eq!(
        (s.status(new).await.as_str(), s.document(new).spec.size_gib, status(&s, &id).await),
        ("restoring-backup", 2, json!("restoring"))
    );
    expect(400, s.member("POST", &path, json!({ "restore": {} })).await);
    s.settle(new).await;
    let small = s.volume(json!({})).await;
    let said = refusal(400, s.member("POST", &path, json!({ "restore": { "volume_id": small } })).await);
    assert_eq!(said, "Invalid volume: volume size 1 is too small to restore backup of size 2.");
    expect(202, s.member("POST", &path, json!({ "restore": { "volume_id": volume } })).await);
    assert_eq!(s.document(&volume).spec.restore.as_ref().unwrap().from, RestoreFrom::Backup(Id::new(id.as_str())));
    expect(501, s.admin("GET", &format!("/backups/{id}/export_record"), Value::Null).await);
}

#[tokio::test]
async fn the_key_goes_with_the_backup() {
    let s = Setup::new().await;
    keeping(&s).await;
    expect(200, s.admin("POST", "/types", json!({ "volume_type": { "name": "secret" } })).await);
    let secret = s.cloud.store.view().holder::<VolumeType>("volume-type-name", "secret").unwrap();
    expect(200, s.admin("POST", &format!("/types/{secret}/encryption"), json!({ "encryption": { "provider": "luks" } })).await);
    let volume = s.volume(json!({ "volume_type": "secret" })).await;
    let key = s.document(&volume).spec.key.clone().unwrap();
    let id = made(&s, json!({ "volume_id": volume })).await;
    let path = format!("/backups/{id}/restore");
    let plain = s.volume(json!({})).await;
    let other = s.volume(json!({ "volume_type": "secret" })).await;
    for into in [&plain, &other] {
        let said = refusal(400, s.member("POST", &path, json!({ "restore": { "volume_id": into } })).await);
        assert!(said.contains("a backup of an encrypted volume goes into that volume or into a new one"), "{said}");
    }
    let wish = json!({ "volume": { "size": 1, "backup_id": id, "volume_type": "standard" } });
    expect(400, s.member("POST", "/volumes", wish).await);
    let new = expect(202, s.member("POST", &path, json!({ "restore": {} })).await)["restore"]["volume_id"].take();
    let new = s.document(new.as_str().unwrap());
    assert_eq!((new.spec.key.as_ref(), &new.spec.volume_type), (Some(&key), &secret));
    assert!(s.cloud.store.view().get::<VolumeKey>(&key).is_some());
}

#[tokio::test]
async fn a_repository_is_one_that_works_where_the_work_is_done() {
    let s = Setup::new().await;
    keeping(&s).await;
    host(&s, "far", 2).await;
    for (name, free_gib, hosts) in [("far", 900, vec!["far"]), ("small", 10, vec![]), ("large", 20, vec![])] {
        let mut pool = Pool::new(Meta::new(name).named(name), Backend::Files { dir: format!("/{name}").into() });
        pool.keeps_backups = true;
        pool.hosts = hosts.iter().map(|host| Id::new(*host)).collect();
        let of = hosts.first().copied().unwrap_or("h");
        pool.status.hosts.insert(of.into(), Reached { fault: None, total_gib: 1000, free_gib });
        s.put(pool).await;
    }
    let volume = s.volume(json!({})).await;
    s.change(&volume, |volume| volume.status.carrier = Some("h".into())).await;
    let repository = async |wish: Value| {
        let mut backup = json!({ "volume_id": volume });
        backup.as_object_mut().unwrap().extend(wish.as_object().unwrap().clone());
        let id = made(&s, backup).await;
        s.cloud.store.view().get(&Id::<Backup>::new(id)).unwrap().repository.to_string()
    };
    let breaks = |name: &'static str| {
        s.act(move |tx| {
            let broken = |pool: &mut Pool| {
                pool.status.hosts.values_mut().for_each(|reached| reached.fault = Some("gone".into()));
                Ok::<_, Error>(())
            };
            tx.update(&name.into(), broken).map(drop)
        })
    };
    assert_eq!(repository(json!({})).await, "large", "the most room, and not beside the volume itself");
    breaks("large").await;
    assert_eq!(repository(json!({})).await, "small", "though another host could still use the larger one");
    breaks("small").await;
    assert_eq!(repository(json!({ "availability_zone": "nova" })).await, "pool", "where its host can stay");
    breaks("pool").await;
    assert_eq!(repository(json!({})).await, "far", "another host may do it");
    let elsewhere = json!({ "backup": { "volume_id": volume, "availability_zone": "moon" } });
    expect(503, s.member("POST", "/backups", elsewhere).await);
    let down = |host: &mut Host| {
        host.forced_down = true;
        Ok::<_, Error>(())
    };
    s.act(move |tx| tx.update(&"far".into(), down).map(drop)).await;
    expect(503, s.member("POST", "/backups", json!({ "backup": { "volume_id": volume } })).await);
}

#[tokio::test]
async fn a_backup_of_a_snapshot_leaves_its_volume_alone() {
    let s = Setup::new().await;
    keeping(&s).await;
    let volume = s.volume(json!({})).await;
    let taken = expect(202, s.member("POST", "/snapshots", json!({ "snapshot": { "volume_id": volume } })).await);
    let id = taken["snapshot"]["id"].as_str().unwrap().to_owned();
    let of = Id::<Snapshot>::new(id.as_str());
    s.act(move |tx| {
        let taken = |snapshot: &mut Snapshot| {
            snapshot.phase = SnapshotPhase::Available;
            Ok::<_, Error>(())
        };
        tx.update(&of, taken).map(drop)
    })
    .await;
    s.settle(&volume).await;
    let wish = json!({ "volume_id": volume, "snapshot_id": id });
    let backup = expect(202, s.member("POST", "/backups", json!({ "backup": wish })).await)["backup"]["id"].take();
    let shown = async || expect(200, s.member("GET", &format!("/snapshots/{id}"), Value::Null).await)["snapshot"].take();
    assert_eq!((shown().await["status"].as_str(), s.status(&volume).await.as_str()), (Some("backing-up"), "available"));
    let listed = expect(200, s.member("GET", "/snapshots?status=backing-up", Value::Null).await);
    assert_eq!(listed["snapshots"][0]["id"], *id);
    let whole = format!("/volumes/{volume}?cascade=true");
    for path in [&format!("/snapshots/{id}"), &whole] {
        expect(400, s.member("DELETE", path, Value::Null).await);
    }
    phase(&s, backup.as_str().unwrap(), BackupPhase::Available).await;
    assert_eq!(shown().await["status"], "available");
    let older = json!({ "volume_id": volume, "snapshot_id": id, "incremental": true });
    let said = refusal(400, s.member("POST", "/backups", json!({ "backup": older })).await);
    assert!(said.contains("No backups available"), "none is of an earlier content: {said}");
    s.settle(&volume).await;
    expect(202, s.member("DELETE", &whole, Value::Null).await);
}

#[tokio::test]
async fn what_is_made_of_a_backup_is_like_what_it_was() {
    let s = Setup::new().await;
    keeping(&s).await;
    let volume = s.volume(json!({ "metadata": { "colour": "red" } })).await;
    s.change(&volume, |volume| {
        volume.spec.bootable = true;
        volume.spec.image_metadata.insert("os_distro".into(), "debian".into());
    })
    .await;
    let id = made(&s, json!({ "volume_id": volume })).await;
    let wish = json!({ "volume": { "backup_id": id, "metadata": { "own": "yes" } } });
    let new = expect(202, s.member("POST", "/volumes", wish).await)["volume"].take();
    assert_eq!(new["metadata"], json!({ "colour": "red", "own": "yes" }));
    s.settle(new["id"].as_str().unwrap()).await;
    let other = s.volume(json!({ "metadata": { "colour": "blue", "own": "yes" } })).await;
    let restore = json!({ "restore": { "volume_id": other } });
    expect(202, s.member("POST", &format!("/backups/{id}/restore"), restore).await);
    for id in [new["id"].as_str().unwrap(), &other] {
        let spec = s.document(id).spec.clone();
        assert!(spec.bootable && spec.image_metadata.contains_key("os_distro"));
        assert_eq!((spec.metadata["colour"].as_str(), spec.metadata["own"].as_str()), ("red", "yes"));
    }
}
