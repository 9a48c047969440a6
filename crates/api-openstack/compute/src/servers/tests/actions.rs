//! Actions: what is asked of the host, in which states, with which answers.

use serde_json::{Value, json};
use unkai_model::compute::{Availability, Phase, ResizeState, Run, StopReason, Verb};
use unkai_model::image::Image;

use super::message;
use crate::servers::fixture::{HOST, IMAGE, World};

const STOPPED: Phase = Phase::Stopped(StopReason::Asked);

#[tokio::test]
async fn verbs_ask_for_states_and_count_generations() {
    let world = World::new().await;
    #[rustfmt::skip]
    let table = [
        (json!({"os-stop": null}), Phase::Running, Run::Stopped, Verb::Stop, STOPPED, "SHUTOFF"),
        (json!({"os-start": null}), STOPPED, Run::Running, Verb::Start, Phase::Running, "ACTIVE"),
        (json!({"reboot": {"type": "SOFT"}}), Phase::Running, Run::Running, Verb::SoftReboot, Phase::Running, "ACTIVE"),
        (json!({"reboot": {"type": "hard"}}), STOPPED, Run::Running, Verb::HardReboot, Phase::Running, "ACTIVE"),
        (json!({"pause": null}), Phase::Running, Run::Paused, Verb::Pause, Phase::Paused, "PAUSED"),
        (json!({"unpause": null}), Phase::Paused, Run::Running, Verb::Unpause, Phase::Running, "ACTIVE"),
        (json!({"suspend": null}), Phase::Running, Run::Suspended, Verb::Suspend, Phase::Suspended, "SUSPENDED"),
        (json!({"resume": null}), Phase::Suspended, Run::Running, Verb::Resume, Phase::Running, "ACTIVE"),
    ];
    for (body, before, run, verb, after, status) in table {
        let id = world.create(json!({})).await;
        world.settle(&id, before).await;
        let generation = world.document(&id).meta.generation;
        let answer = world.act(&id, body.clone()).await;
        assert_eq!(answer.status, 202, "{body}: {}", answer.body);
        let server = world.document(&id);
        assert_eq!((server.spec.run, server.spec.asked.as_ref().unwrap().verb), (run, verb), "{body}");
        assert_eq!(server.meta.generation, generation + 1, "{body}");
        let busy = world.act(&id, json!({"os-resetState": {"state": "active"}})).await;
        assert_eq!(busy.status, 403, "only for administrators");
        assert!(!world.show(&id).await["OS-EXT-STS:task_state"].is_null(), "{body}");
        world.settle(&id, after).await;
        assert_eq!(world.show(&id).await["status"], status, "{body}");
        world.at(1, "DELETE", &format!("/v2.1/servers/{id}"), Value::Null).await;
        world.change(&id, |s| s.status.deleted = Some(s.meta.updated)).await;
    }
}

#[tokio::test]
async fn illegal_verbs_are_conflicts() {
    let world = World::new().await;
    let id = world.active().await;
    for (body, name) in [
        (json!({"os-start": null}), "start"),
        (json!({"unpause": null}), "unpause"),
        (json!({"resume": null}), "resume"),
        (json!({"unrescue": null}), "unrescue"),
        (json!({"unshelve": null}), "unshelve"),
        (json!({"confirmResize": null}), "confirmResize"),
        (json!({"restore": {}}), "restore"),
    ] {
        let answer = world.act(&id, body).await;
        assert_eq!(answer.status, 409);
        assert_eq!(message(&answer), format!("Cannot '{name}' instance {id} while it is in vm_state active"));
    }
    world.act(&id, json!({"os-stop": null})).await;
    let answer = world.act(&id, json!({"pause": null})).await;
    assert_eq!(message(&answer), format!("Cannot 'pause' instance {id} while it is in task_state powering-off"));
    for (body, status) in [
        (json!({"dance": null}), 400),
        (json!({"reboot": {"type": "fast"}}), 400),
        (json!({"pause": null, "unpause": null}), 400),
        (json!([]), 400),
        (Value::Null, 400),
    ] {
        assert_eq!(world.act(&id, body).await.status, status);
    }
    assert_eq!(world.act("nobody", json!({"pause": null})).await.status, 404);
}

#[tokio::test]
async fn locks_refuse_owners() {
    let world = World::new().await;
    let id = world.active().await;
    let path = format!("/v2.1/servers/{id}/action");
    assert_eq!(world.act(&id, json!({"lock": {"locked_reason": "mine"}})).await.status, 202);
    let shown = world.show(&id).await;
    assert_eq!((&shown["locked"], &shown["locked_reason"]), (&json!(true), &json!("mine")));
    let refused = world.act(&id, json!({"os-stop": null})).await;
    assert_eq!((refused.status, message(&refused)), (409, format!("Instance {id} is locked")));
    assert_eq!(world.act(&id, json!({"unlock": null})).await.status, 202);
    assert_eq!(world.admin_at(1, "POST", &path, json!({"lock": null})).await.status, 202);
    assert_eq!(world.act(&id, json!({"unlock": null})).await.status, 403, "an administrator's lock");
    assert_eq!(world.admin_at(1, "POST", &path, json!({"os-stop": null})).await.status, 202);
}

#[tokio::test]
async fn rebuild_makes_a_new_incarnation() {
    let world = World::new().await;
    let id = world.active().await;
    let body = json!({"rebuild": {"imageRef": IMAGE, "name": "new", "metadata": {"a": "b"}, "adminPass": "secret", "description": "d", "user_data": null}});
    let answer = world.act(&id, body).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    let server = &answer.body["server"];
    assert_eq!((&server["status"], &server["adminPass"], &server["name"]), (&json!("REBUILD"), &json!("secret"), &json!("new")));
    assert!(server.get("user_data").is_some() && server.get("OS-EXT-SRV-ATTR:user_data").is_none());
    assert_eq!(world.document(&id).spec.incarnation, 1);
    world.settle(&id, Phase::Failed("the image is gone".into())).await;
    let shown = world.show(&id).await;
    assert_eq!((&shown["status"], &shown["fault"]["message"]), (&json!("ERROR"), &json!("the image is gone")));
}

#[tokio::test]
async fn resizes_wait_for_the_user() {
    let world = World::new().await;
    let id = world.active().await;
    let same = world.act(&id, json!({"resize": {"flavorRef": "1"}})).await;
    assert_eq!((same.status, message(&same).as_str()), (400, "When resizing, instances must change flavor!"));
    let large = world.act(&id, json!({"resize": {"flavorRef": "9"}})).await;
    assert!(matches!(large.status, 400 | 403), "{}", large.body);
    assert_eq!(world.act(&id, json!({"resize": {"flavorRef": "2"}})).await.status, 202);
    assert_eq!(world.show(&id).await["status"], "RESIZE");
    world.settle(&id, Phase::Running).await;
    assert_eq!(world.show(&id).await["status"], "VERIFY_RESIZE");
    assert_eq!(world.act(&id, json!({"revertResize": null})).await.status, 202);
    let server = world.document(&id);
    assert_eq!((server.spec.launch.flavor.id.as_str(), server.spec.resize.as_ref().unwrap().state), ("1", ResizeState::Reverting));
    world.settle(&id, Phase::Running).await;
    assert_eq!(world.show(&id).await["status"], "ACTIVE");
    world.change(&id, |s| s.spec.resize = None).await;
    world.act(&id, json!({"resize": {"flavorRef": "2"}})).await;
    world.settle(&id, Phase::Running).await;
    assert_eq!(world.act(&id, json!({"confirmResize": null})).await.status, 204);
    let shown = world.show(&id).await;
    assert_eq!((&shown["status"], &shown["flavor"]["original_name"]), (&json!("ACTIVE"), &json!("m2")));
    let smaller = world.act(&id, json!({"resize": {"flavorRef": "1"}})).await;
    assert!(message(&smaller).starts_with("Server's disk was unable to be resized"), "{}", smaller.body);
}

/// Whatever changes the metadata or the flavor turns the dial, and what cannot be is refused before anything changes.
#[tokio::test]
async fn rebuilds_and_resizes_turn_the_dial_of_availability() {
    let world = World::new().await;
    let id = world.active().await;
    let rebuild = |metadata: Value| json!({"rebuild": {"imageRef": IMAGE, "metadata": metadata}});
    let before = world.document(&id);
    let refused = world.act(&id, rebuild(json!({"unkai:availability": "ha"}))).await;
    assert_eq!(refused.status, 400, "{}", refused.body);
    assert!(message(&refused).contains("unkai:local_disks=discard"), "{}", refused.body);
    assert_eq!(world.document(&id), before);
    let ha = json!({"unkai:availability": "ha", "unkai:local_disks": "discard"});
    assert_eq!(world.act(&id, rebuild(ha)).await.status, 202);
    let server = world.document(&id);
    assert_eq!((server.spec.availability, server.is_leased()), (Availability::Ha, true));
    assert_eq!(server.spec.asked.as_ref().unwrap().generation, server.meta.generation, "the verb is about the newest generation");
    world.settle(&id, Phase::Running).await;
    assert_eq!(world.act(&id, rebuild(json!({}))).await.status, 202);
    assert_eq!(world.document(&id).spec.availability, Availability::None);

    let id = world.active().await;
    let specs = [("unkai:availability".to_owned(), "ha".to_owned()), ("unkai:local_disks".to_owned(), "discard".to_owned())];
    world.change_flavor("2", move |flavor| flavor.extra_specs.extend(specs.clone())).await;
    assert_eq!(world.act(&id, json!({"resize": {"flavorRef": "2"}})).await.status, 202);
    assert_eq!(world.document(&id).spec.availability, Availability::Ha);
    world.settle(&id, Phase::Running).await;
    assert_eq!(world.act(&id, json!({"revertResize": null})).await.status, 202);
    assert_eq!(world.document(&id).spec.availability, Availability::None);
}

#[tokio::test]
async fn rescue_and_back() {
    let world = World::new().await;
    let id = world.active().await;
    let answer = world.act(&id, json!({"rescue": {"adminPass": "pw"}})).await;
    assert_eq!((answer.status, &answer.body), (200, &json!({"adminPass": "pw"})));
    world.settle(&id, Phase::Running).await;
    assert_eq!(world.show(&id).await["status"], "RESCUE");
    assert_eq!(world.act(&id, json!({"pause": null})).await.status, 409);
    assert_eq!(world.act(&id, json!({"unrescue": null})).await.status, 202);
    world.settle(&id, Phase::Running).await;
    assert_eq!(world.show(&id).await["status"], "ACTIVE");
}

#[tokio::test]
async fn snapshots_are_images_that_wait_for_the_agent() {
    let world = World::new().await;
    let id = world.active().await;
    let answer = world.act(&id, json!({"createImage": {"name": "snap", "metadata": {"k": "v"}}})).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    let image_id = answer.body["image_id"].as_str().unwrap();
    let image = world.cloud.store.view().get::<Image>(&image_id.into()).unwrap();
    assert_eq!(image.spec.source.as_ref().unwrap().host.as_ref().map(|h| h.as_str()), Some(HOST));
    assert_eq!(image.spec.properties["instance_uuid"], id);
    assert_eq!((image.spec.properties["k"].as_str(), image.spec.min_disk_gib), ("v", 1));
    assert_eq!(world.show(&id).await["OS-EXT-STS:task_state"], "image_snapshot");
    assert_eq!(world.act(&id, json!({"createImage": {"name": "more"}})).await.status, 409);
    let old = world.active().await;
    let answer = world.at(1, "POST", &format!("/v2.1/servers/{old}/action"), json!({"createImage": {"name": "s"}})).await;
    assert!(answer.headers["location"].to_str().unwrap().starts_with("https://cloud.test:8774/compute/images/"));
}

#[tokio::test]
async fn backups_rotate() {
    let world = World::new().await;
    let id = world.active().await;
    for name in ["one", "two", "three"] {
        let body = json!({"createBackup": {"name": name, "backup_type": "daily", "rotation": 2}});
        assert_eq!(world.act(&id, body).await.status, 202);
        // The agent has taken it.
        let finish = |tx: &mut unkai_store::Tx| {
            let waiting: Vec<_> = tx.by_index::<Image>("snapshot_of", HOST).map(|image| image.meta.id.clone()).collect();
            for image in waiting {
                tx.update(&image, |image: &mut Image| {
                    image.spec.source = None;
                    Ok::<_, unkai_model::Error>(())
                })?;
            }
            Ok::<_, unkai_model::Error>(())
        };
        world.cloud.store.transact(finish).await.unwrap();
    }
    let mut names: Vec<_> = world.cloud.store.view().all::<Image>().map(|image| image.meta.name.clone()).collect();
    names.sort();
    assert_eq!(names, ["cirros", "three", "two"]);
}

#[tokio::test]
async fn shelving_makes_an_image_and_unshelving_asks_for_a_host() {
    let world = World::new().await;
    let id = world.active().await;
    assert_eq!(world.act(&id, json!({"shelve": null})).await.status, 202);
    let server = world.document(&id);
    assert_eq!(server.spec.run, Run::Shelved);
    let image = server.spec.launch.shelved_image.clone().unwrap();
    assert_eq!(world.cloud.store.view().get(&image).unwrap().meta.name, "one-shelved");
    world.settle(&id, STOPPED).await;
    assert_eq!(world.show(&id).await["OS-EXT-STS:task_state"], "shelving_image_uploading");
    world
        .change(&id, |s| {
            s.spec.run = Run::Offloaded;
            s.status.host = None;
        })
        .await;
    assert_eq!(world.show(&id).await["status"], "SHELVED_OFFLOADED");
    assert_eq!(world.act(&id, json!({"unshelve": {"availability_zone": "moon"}})).await.status, 400);
    assert_eq!(world.act(&id, json!({"unshelve": {"availability_zone": "nova"}})).await.status, 202);
    let server = world.document(&id);
    assert_eq!((server.spec.run, server.spec.wish.zone.as_deref()), (Run::Running, Some("nova")));
    assert_eq!(world.show(&id).await["OS-EXT-STS:task_state"], "unshelving");
}

#[tokio::test]
async fn administrators_set_states_and_hear_why_nothing_moves() {
    let world = World::new().await;
    let id = world.active().await;
    let path = format!("/v2.1/servers/{id}/action");
    let error = world.admin_at(1, "POST", &path, json!({"os-resetState": {"state": "error"}})).await;
    assert_eq!(error.status, 202);
    assert_eq!(world.show(&id).await["status"], "ERROR");
    world.admin_at(1, "POST", &path, json!({"os-resetState": {"state": "active"}})).await;
    assert_eq!(world.show(&id).await["status"], "ACTIVE");
    for (minor, body, status, text) in [
        (1, json!({"migrate": null}), 400, "No valid host was found. No valid host found for cold migrate"),
        (60, json!({"os-migrateLive": {"host": "moon", "block_migration": "auto"}}), 400, "Compute host moon could not be found."),
        (60, json!({"evacuate": {}}), 400, "Compute service of host-1 is still in use."),
        (60, json!({"trigger_crash_dump": null}), 400, "Unable to trigger crash dump: the driver does not support it."),
        (60, json!({"changePassword": {"adminPass": "x"}}), 501, "Unable to set password on instance"),
        (60, json!({"resetNetwork": null}), 410, "This resource is no longer available. No forwarding address is given."),
    ] {
        let answer = world.admin_at(minor, "POST", &path, body.clone()).await;
        assert_eq!((answer.status, message(&answer).as_str()), (status, text), "{body}");
    }
}
