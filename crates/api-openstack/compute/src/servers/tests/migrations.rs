//! Moves while a server runs: asked for, watched, hurried, given up.

use serde_json::{Value, json};
use unkai_model::compute::{Endpoint, Host, HostStatus, Method, Migration, MigrationProgress, MigrationState, Phase, Reachability};
use unkai_model::{Error, Id, Meta};

use super::message;
use crate::servers::fixture::{HOST, World};

const OTHER: &str = "44444444-4444-4444-8444-444444444444";

async fn world() -> (World, String) {
    let world = World::new().await;
    let id = world.active().await;
    let other = Host {
        status: HostStatus { reachability: Reachability::Up, address: Some("192.0.2.7".parse().unwrap()), ..Default::default() },
        ..Host::new(Meta::new(OTHER).named("host-2"), 2)
    };
    world.cloud.store.transact(move |tx| tx.insert(other.clone()).map(drop)).await.unwrap();
    (world, id)
}

fn live(host: Value) -> Value {
    json!({"os-migrateLive": {"host": host, "block_migration": "auto"}})
}

async fn ask(world: &World, minor: u16, id: &str, body: Value) -> (u16, String) {
    let answer = world.admin_at(minor, "POST", &format!("/v2.1/servers/{id}/action"), body).await;
    let text = if answer.status == 202 { String::new() } else { message(&answer) };
    (answer.status, text)
}

fn only(world: &World) -> Migration {
    let all: Vec<_> = world.cloud.store.view().all::<Migration>().collect();
    assert_eq!(all.len(), 1);
    Migration::clone(&all[0])
}

async fn change(world: &World, change: impl Fn(&mut Migration) + Send + 'static) {
    let id = only(world).meta.id;
    let done = world.cloud.store.transact(move |tx| {
        tx.update(&id, |migration: &mut Migration| {
            change(migration);
            Ok::<_, Error>(())
        })
        .map(drop)
    });
    done.await.unwrap();
}

#[tokio::test]
async fn an_older_client_is_refused_at_once_and_a_newer_one_is_told_later() {
    let world = World::new().await;
    let id = world.active().await;
    let with = |host: Value, block: Value, over: Value| json!({"os-migrateLive": {"host": host, "block_migration": block, "disk_over_commit": over}});
    let nobody = "No valid host was found. There are not enough hosts available.";
    assert_eq!(ask(&world, 1, &id, with(Value::Null, json!(true), json!(false))).await, (400, nobody.into()));
    assert_eq!(ask(&world, 30, &id, live(Value::Null)).await, (400, nobody.into()));
    assert_eq!(ask(&world, 34, &id, live(Value::Null)).await.0, 202);
    assert_eq!(only(&world).state, MigrationState::Waiting);
}

#[tokio::test]
async fn what_cannot_be_is_refused() {
    let (world, id) = world().await;
    let here = format!("Unable to migrate instance ({id}) to current host (host-1).");
    assert_eq!(ask(&world, 30, &id, live(json!("host-1"))).await, (400, here));
    assert_eq!(ask(&world, 30, &id, live(json!("moon"))).await, (400, "Compute host moon could not be found.".into()));
    let shared = json!({"os-migrateLive": {"host": null, "block_migration": false}});
    let (status, text) = ask(&world, 60, &id, shared).await;
    assert_eq!(status, 400);
    assert!(text.starts_with("host-1 is not on shared storage"), "{text}");
    let path = format!("/v2.1/servers/{id}/action");
    assert_eq!(world.at(60, "POST", &path, live(Value::Null)).await.status, 403);
    for (minor, body) in [
        (1, live(Value::Null)),
        (24, live(Value::Null)),
        (25, json!({"os-migrateLive": {"host": null, "block_migration": true, "disk_over_commit": false}})),
        (29, json!({"os-migrateLive": {"host": null, "block_migration": "auto", "force": true}})),
        (68, json!({"os-migrateLive": {"host": "host-2", "block_migration": "auto", "force": true}})),
        (60, json!({"os-migrateLive": {"block_migration": "auto"}})),
        (60, json!({"os-migrateLive": {"host": null}})),
    ] {
        assert_eq!(ask(&world, minor, &id, body.clone()).await.0, 400, "2.{minor} {body}");
    }
    for phase in [Phase::Suspended, Phase::Stopped(Default::default()), Phase::Failed("x".into())] {
        world.settle(&id, phase.clone()).await;
        assert_eq!(ask(&world, 60, &id, live(Value::Null)).await.0, 409, "{phase:?}");
    }
    world.settle(&id, Phase::Paused).await;
    assert_eq!(ask(&world, 60, &id, live(Value::Null)).await.0, 202);
}

#[tokio::test]
async fn a_named_host_is_a_wish_or_a_must() {
    for (minor, force, forced) in [(25, None, true), (30, None, false), (30, Some(true), true), (67, Some(false), false), (68, None, false)]
    {
        let (world, id) = world().await;
        let mut body = live(json!("host-2"));
        if let Some(force) = force {
            body["os-migrateLive"]["force"] = json!(force);
        }
        assert_eq!(ask(&world, minor, &id, body).await.0, 202);
        let migration = only(&world);
        assert_eq!((migration.wish.host.as_deref(), migration.wish.force), (Some("host-2"), forced), "2.{minor} {force:?}");
    }
}

#[tokio::test]
async fn a_server_on_its_way_is_migrating_and_takes_nothing_else() {
    let (world, id) = world().await;
    assert_eq!(ask(&world, 60, &id, live(Value::Null)).await.0, 202);
    let shown = world.admin_at(60, "GET", &format!("/v2.1/servers/{id}"), Value::Null).await.body["server"].clone();
    assert_eq!(
        (&shown["status"], &shown["OS-EXT-STS:vm_state"], &shown["OS-EXT-STS:task_state"]),
        (&json!("MIGRATING"), &json!("active"), &json!("migrating"))
    );
    for body in [json!({"os-stop": null}), json!({"pause": null}), live(Value::Null), json!({"createImage": {"name": "x"}})] {
        let (status, text) = ask(&world, 60, &id, body.clone()).await;
        assert_eq!(status, 409, "{body}");
        assert!(text.contains("task_state migrating"), "{text}");
    }
    let actions = world.admin_at(60, "GET", &format!("/v2.1/servers/{id}/os-instance-actions"), Value::Null).await;
    assert_eq!(actions.body["instanceActions"][0]["action"], "live-migration");
    assert_eq!(world.at(60, "DELETE", &format!("/v2.1/servers/{id}"), Value::Null).await.status, 204, "a deletion goes first");
}

#[tokio::test]
async fn migrations_are_shown_in_every_version() {
    let (world, id) = world().await;
    assert_eq!(ask(&world, 60, &id, live(Value::Null)).await.0, 202);
    change(&world, |migration| {
        migration.state = MigrationState::Running;
        migration.destination = Some(Id::new(OTHER));
        migration.method = Method::Live;
        migration.endpoint = Some(Endpoint { port: 1, token: "secret".into() });
        migration.progress =
            MigrationProgress { memory_total: 100, memory_sent: 60, memory_left: 40, disk_total: 10, disk_sent: 4, ..Default::default() };
    })
    .await;
    let path = format!("/v2.1/servers/{id}/migrations");
    let base = "created_at dest_compute dest_host dest_node disk_processed_bytes disk_remaining_bytes disk_total_bytes id \
                memory_processed_bytes memory_remaining_bytes memory_total_bytes server_uuid source_compute source_node status updated_at";
    for (minor, more) in [(23, ""), (59, "uuid"), (80, "uuid user_id project_id")] {
        let list = world.admin_at(minor, "GET", &path, Value::Null).await.body;
        let shown = &list["migrations"][0];
        let mut wanted: Vec<&str> = base.split_whitespace().chain(more.split_whitespace()).collect();
        wanted.sort_unstable();
        let mut found: Vec<&String> = shown.as_object().unwrap().keys().collect();
        found.sort_unstable();
        assert_eq!(found, wanted, "2.{minor}");
        assert_eq!((&shown["memory_remaining_bytes"], &shown["disk_remaining_bytes"]), (&json!(40), &json!(6)));
        assert_eq!(
            (&shown["dest_compute"], &shown["dest_host"], &shown["status"]),
            (&json!("host-2"), &json!("192.0.2.7"), &json!("running"))
        );
        let one = world.admin_at(minor, "GET", &format!("{path}/1"), Value::Null).await.body;
        assert_eq!(one["migration"], *shown);
    }
    assert_eq!(world.admin_at(22, "GET", &path, Value::Null).await.status, 404);
    assert_eq!(world.at(23, "GET", &path, Value::Null).await.status, 403);
    assert_eq!(world.admin_at(60, "GET", &format!("{path}/7"), Value::Null).await.status, 404);
    let all = world.admin_at(80, "GET", &format!("/v2.1/os-migrations?instance_uuid={id}"), Value::Null).await.body;
    assert_eq!((&all["migrations"][0]["migration_type"], &all["migrations"][0]["status"]), (&json!("live-migration"), &json!("running")));
    assert_eq!(all["migrations"][0]["links"].as_array().unwrap().len(), 2);
    assert!(!format!("{all}{:?}", only(&world)).contains("secret"));
    // What is over is not shown below its server.
    change(&world, |migration| migration.state = MigrationState::Completed).await;
    assert_eq!(world.admin_at(60, "GET", &path, Value::Null).await.body, json!({"migrations": []}));
    assert_eq!(world.admin_at(60, "GET", &format!("{path}/1"), Value::Null).await.status, 404);
    let all = world.admin_at(80, "GET", "/v2.1/os-migrations?status=completed&migration_type=live-migration", Value::Null).await.body;
    assert_eq!(all["migrations"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_migration_is_hurried_and_given_up() {
    let (world, id) = world().await;
    let path = format!("/v2.1/servers/{id}/migrations/1");
    let (force, none) = (json!({"force_complete": null}), Value::Null);
    assert_eq!(world.admin_at(60, "DELETE", &path, none.clone()).await.status, 409, "nothing is under way");
    assert_eq!(ask(&world, 60, &id, live(Value::Null)).await.0, 202);
    assert_eq!(world.admin_at(21, "POST", &format!("{path}/action"), force.clone()).await.status, 404);
    assert_eq!(world.admin_at(23, "DELETE", &path, none.clone()).await.status, 404);
    assert_eq!(world.admin_at(22, "POST", &format!("{path}/action"), json!({"hurry": null})).await.status, 400);
    let refused = world.admin_at(22, "POST", &format!("{path}/action"), force.clone()).await;
    assert_eq!(refused.status, 400);
    assert_eq!(
        message(&refused),
        format!("Migration 1 state of instance {id} is queued. Cannot force complete while the migration is in this state.")
    );
    assert_eq!(world.admin_at(64, "DELETE", &path, none.clone()).await.status, 400, "before 2.65 only what runs");
    change(&world, |migration| migration.state = MigrationState::Running).await;
    assert_eq!(world.at(22, "POST", &format!("{path}/action"), force.clone()).await.status, 403);
    assert_eq!(world.admin_at(22, "POST", &format!("{path}/action"), force).await.status, 202);
    assert!(only(&world).finish);
    assert_eq!(world.admin_at(24, "DELETE", &path, none.clone()).await.status, 202);
    assert!(only(&world).abort.is_some());
    change(&world, |migration| migration.handed_over = true).await;
    assert_eq!(world.admin_at(65, "DELETE", &path, none).await.status, 400, "too late");
    let gone = format!("/v2.1/servers/{HOST}/migrations/1");
    assert_eq!(world.admin_at(65, "DELETE", &gone, Value::Null).await.status, 404);
}
