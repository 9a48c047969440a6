//! Volumes of servers: attached, shown, changed and detached while the server exists.

use serde_json::{Value, json};
use unkai_model::compute::{Availability, Phase, Run, StopReason};
use unkai_model::volume::{AttachState, Backend, Mode, Pool, Volume};
use unkai_model::{Error, Id, Meta};

use super::message;
use crate::servers::fixture::{HOST, World};

const STOPPED: Phase = Phase::Stopped(StopReason::Asked);

fn path(server: &str) -> String {
    format!("/v2.1/servers/{server}/os-volume_attachments")
}

fn wish(volume: &str) -> Value {
    json!({"volumeAttachment": {"volumeId": volume}})
}

#[tokio::test]
async fn a_volume_comes_and_goes() {
    let world = World::new().await;
    let (server, volume) = (world.active().await, world.volume(|_| {}).await);
    let made = world.at(1, "POST", &path(&server), wish(&volume)).await;
    assert_eq!(made.status, 200, "{}", made.body);
    let expected = json!({"id": volume, "volumeId": volume, "serverId": server, "device": "/dev/vdb"});
    assert_eq!(made.body["volumeAttachment"], expected);
    let attachment = world.attachments(&server)[0].clone();
    assert_eq!((attachment.state, attachment.generation), (AttachState::Attaching, world.document(&server).meta.generation));
    assert_eq!(world.at(1, "GET", &path(&server), Value::Null).await.body["volumeAttachments"], json!([expected]));
    let one = format!("{}/{volume}", path(&server));
    assert_eq!(world.at(1, "DELETE", &one, Value::Null).await.status, 400, "it is not there yet");
    world.settle(&server, Phase::Running).await;

    assert_eq!(world.at(1, "GET", &one, Value::Null).await.body["volumeAttachment"], expected);
    assert_eq!(world.show(&server).await["os-extended-volumes:volumes_attached"], json!([{"id": volume, "delete_on_termination": false}]));
    let old = world.at(2, "GET", &format!("/v2.1/servers/{server}"), Value::Null).await;
    assert_eq!(old.body["server"]["os-extended-volumes:volumes_attached"], json!([{"id": volume}]));

    let generation = world.document(&server).meta.generation;
    assert_eq!(world.at(1, "DELETE", &one, Value::Null).await.status, 202);
    assert_eq!((world.attachments(&server)[0].state, world.document(&server).meta.generation), (AttachState::Detaching, generation + 1));
    assert_eq!(world.at(1, "GET", &one, Value::Null).await.status, 200, "until the host has let go");
    world.settle(&server, Phase::Running).await;
    let gone = world.at(1, "GET", &one, Value::Null).await;
    assert_eq!((gone.status, message(&gone)), (404, format!("Instance {server} is not attached to volume {volume}")));
    let actions = world.at(1, "GET", &format!("/v2.1/servers/{server}/os-instance-actions"), Value::Null).await;
    let names: Vec<_> = actions.body["instanceActions"].as_array().unwrap().iter().map(|a| a["action"].as_str().unwrap()).collect();
    assert_eq!(names, ["detach_volume", "attach_volume", "create"]);
}

#[tokio::test]
async fn answers_grow_with_the_version() {
    let world = World::new().await;
    let (server, volume) = (world.active().await, world.volume(|_| {}).await);
    let tagged = json!({"volumeAttachment": {"volumeId": volume, "tag": "data", "delete_on_termination": true}});
    assert_eq!(world.at(78, "POST", &path(&server), tagged.clone()).await.status, 400);
    let made = world.at(79, "POST", &path(&server), tagged).await;
    assert_eq!(made.status, 200, "{}", made.body);
    let one = format!("{}/{volume}", path(&server));
    for (minor, keys) in [
        (1, vec!["device", "id", "serverId", "volumeId"]),
        (70, vec!["device", "id", "serverId", "tag", "volumeId"]),
        (79, vec!["delete_on_termination", "device", "id", "serverId", "tag", "volumeId"]),
        (89, vec!["attachment_id", "bdm_uuid", "delete_on_termination", "device", "serverId", "tag", "volumeId"]),
    ] {
        let shown = world.at(minor, "GET", &one, Value::Null).await.body["volumeAttachment"].clone();
        let mut found: Vec<_> = shown.as_object().unwrap().keys().map(String::as_str).collect();
        found.sort_unstable();
        assert_eq!(found, keys, "2.{minor}");
    }
    let second = world.volume(|_| {}).await;
    let newest = world.at(100, "POST", &path(&server), wish(&second)).await;
    assert_eq!(newest.body["volumeAttachment"]["id"], second.as_str(), "the answer to creation stays as it was");
    let pages = world.at(1, "GET", &format!("{}?limit=1&offset=1", path(&server)), Value::Null).await;
    assert_eq!(pages.body["volumeAttachments"][0]["id"], second.as_str());
    assert_eq!(world.at(74, "GET", &format!("{}?odd=1", path(&server)), Value::Null).await.status, 200);
    assert_eq!(world.at(75, "GET", &format!("{}?odd=1", path(&server)), Value::Null).await.status, 400);
}

#[tokio::test]
async fn what_cannot_be_attached_is_refused_in_the_originals_words() {
    let world = World::new().await;
    let server = world.active().await;
    let taken = world.volume(|_| {}).await;
    world.at(1, "POST", &path(&server), wish(&taken)).await;
    let foreign = world.volume(|volume| volume.meta.project = Some("q".into())).await;
    let busy = world.volume(|volume| volume.status.made = false).await;
    let shared = world.volume(|volume| volume.spec.multi_attach = true).await;
    let generation = world.document(&server).meta.generation;
    for (minor, body, status, text) in [
        (1, wish(&foreign), 404, format!("Volume {foreign} could not be found.")),
        (1, wish(&taken), 400, format!("Invalid volume: volume {taken} is already attached to instances: {server}")),
        (1, wish(&busy), 400, format!("Invalid volume: Volume {busy} status must be available")),
        (59, wish(&shared), 400, "Multiattach volumes are only supported starting with compute API version 2.60.".into()),
        (1, json!({"volumeAttachment": {"volumeId": "v"}}), 400, "'v' is not a 'uuid'".into()),
        (1, json!({"volumeAttachment": {"volumeId": busy, "device": "vdb"}}), 400, "'vdb' is not a 'device'".into()),
    ] {
        let answer = world.at(minor, "POST", &path(&server), body).await;
        assert_eq!(answer.status, status, "{}", answer.body);
        assert!(message(&answer).ends_with(&text), "{}", answer.body);
    }
    assert_eq!(world.document(&server).meta.generation, generation);
    let reader = world.member.with_token("p/u/reader");
    assert_eq!(reader.call("POST", &path(&server), wish(&busy)).await.status, 403);
    let stranger = world.member.with_token("q/v/member,reader");
    assert_eq!(stranger.get(&path(&server)).await.status, 404);
    assert_eq!(world.at(60, "POST", &path(&server), wish(&shared)).await.status, 200);
    let other = world.active().await;
    world.settle(&server, Phase::Running).await;
    assert_eq!(world.at(60, "POST", &path(&other), wish(&shared)).await.status, 200, "a second server may have it too");
}

#[tokio::test]
async fn volumes_change_hands_in_some_states_only() {
    let world = World::new().await;
    for (phase, legal) in [(Phase::Running, true), (STOPPED, true), (Phase::Paused, true), (Phase::Suspended, false)] {
        let (server, volume) = (world.create(json!({})).await, world.volume(|_| {}).await);
        world.settle(&server, phase.clone()).await;
        let answer = world.at(1, "POST", &path(&server), wish(&volume)).await;
        assert_eq!(answer.status, if legal { 200 } else { 409 }, "{phase:?}: {}", answer.body);
        world.act(&server, json!({"lock": null})).await;
        world.settle(&server, phase).await;
        assert_eq!(world.at(1, "DELETE", &format!("{}/{volume}", path(&server)), Value::Null).await.status, 409);
    }
}

#[tokio::test]
async fn a_server_without_a_host_has_its_volumes_at_once() {
    let world = World::new().await;
    let (server, volume) = (world.active().await, world.volume(|_| {}).await);
    world
        .change(&server, |server| {
            server.spec.run = Run::Offloaded;
            server.status.host = None;
        })
        .await;
    let early = world.at(19, "POST", &path(&server), wish(&volume)).await;
    let text = format!("Cannot 'attach_volume' instance {server} while it is in vm_state shelved_offloaded");
    assert_eq!((early.status, message(&early)), (409, text));
    let tagged = json!({"volumeAttachment": {"volumeId": volume, "tag": "t"}});
    let refused = world.at(49, "POST", &path(&server), tagged).await;
    assert_eq!(message(&refused), "Tagged volume attachment is not supported for shelved-offloaded instances.");
    assert_eq!(world.at(20, "POST", &path(&server), wish(&volume)).await.status, 200);
    assert_eq!(world.attachments(&server)[0].state, AttachState::Attached);
    assert_eq!(world.at(20, "DELETE", &format!("{}/{volume}", path(&server)), Value::Null).await.status, 202);
    assert!(world.attachments(&server).is_empty());
}

#[tokio::test]
async fn only_the_end_of_an_attachment_can_be_changed() {
    let world = World::new().await;
    let (server, volume, other) = (world.active().await, world.volume(|_| {}).await, world.volume(|_| {}).await);
    world.at(1, "POST", &path(&server), wish(&volume)).await;
    let one = format!("{}/{volume}", path(&server));
    let with = |extra: Value| {
        let mut body = wish(&volume);
        body["volumeAttachment"].as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        body
    };
    assert_eq!(world.at(85, "PUT", &one, with(json!({"delete_on_termination": true}))).await.status, 202);
    assert!(world.attachments(&server)[0].delete_on_termination);
    let same = with(json!({"device": "/dev/vdb", "serverId": server, "id": volume}));
    assert_eq!(world.at(85, "PUT", &one, same).await.status, 202);
    let device = world.at(85, "PUT", &one, with(json!({"device": "/dev/vdc"}))).await;
    assert_eq!((device.status, message(&device).as_str()), (400, "The device property is not mutable"));
    assert_eq!(world.at(84, "PUT", &one, with(json!({"delete_on_termination": true}))).await.status, 400);
    assert_eq!(world.at(84, "PUT", &one, wish(&other)).await.status, 403);
    let swap = world.admin_at(85, "PUT", &one, wish(&other)).await;
    assert_eq!((swap.status, message(&swap)), (409, format!("volume {volume} is not migrating; this API should only be called by Cinder")));
    assert_eq!(world.at(85, "PUT", &format!("{}/{other}", path(&server)), wish(&other)).await.status, 404);
}

#[tokio::test]
async fn a_volume_that_cannot_come_or_would_bind_is_refused() {
    let world = World::new().await;
    let place = |tx: &mut unkai_store::Tx| {
        for (id, host) in [("here", HOST), ("there", "66666666-6666-4666-8666-666666666666")] {
            if host != HOST {
                tx.insert(unkai_model::compute::Host::new(Meta::new(host).named("host-2"), 2))?;
            }
            let backend = Backend::Files { dir: format!("/{id}").into() };
            let mut pool = Pool::new(Meta::new(id).named(id), backend);
            pool.hosts = [Id::new(host)].into();
            tx.insert(pool)?;
        }
        Ok::<_, Error>(())
    };
    world.cloud.store.transact(place).await.unwrap();
    let far = world.volume(|volume| volume.status.pool = Some("there".into())).await;
    let near = world.volume(|volume| volume.status.pool = Some("here".into())).await;
    let server = world.active().await;
    let refused = world.at(1, "POST", &path(&server), wish(&far)).await;
    assert_eq!(
        (refused.status, message(&refused)),
        (400, format!("Invalid volume: Volume {far} cannot be reached from the host of the server"))
    );
    world.change(&server, |server| server.spec.availability = Availability::Ha).await;
    let refused = world.at(1, "POST", &path(&server), wish(&near)).await;
    assert!(message(&refused).ends_with("could not be highly available with it"), "{}", refused.body);
    world.change(&server, |server| server.spec.availability = Availability::None).await;
    assert_eq!(world.at(1, "POST", &path(&server), wish(&near)).await.status, 200);
}

#[tokio::test]
async fn volumes_end_with_their_server_or_stay() {
    let world = World::new().await;
    let (server, stays, goes) =
        (world.create(json!({})).await, world.volume(|_| {}).await, world.volume(|v| v.spec.read_only = true).await);
    world.settle(&server, Phase::Running).await;
    world.at(1, "POST", &path(&server), wish(&stays)).await;
    world.at(79, "POST", &path(&server), json!({"volumeAttachment": {"volumeId": goes, "delete_on_termination": true}})).await;
    assert_eq!(world.attachments(&server)[1].mode, Mode::ReadOnly);
    world.change(&server, |server| server.status.host = None).await;
    assert_eq!(world.at(1, "DELETE", &format!("/v2.1/servers/{server}"), Value::Null).await.status, 204);
    let view = world.cloud.store.view();
    let deleted = |id: &str| view.get::<Volume>(&id.into()).unwrap().spec.deleted;
    assert_eq!((deleted(&stays), deleted(&goes)), (false, true));
    assert!(world.attachments(&server).is_empty());
}
