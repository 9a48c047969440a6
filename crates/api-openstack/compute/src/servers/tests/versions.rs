//! What bodies hold at each microversion, as the suite's response schemas say it.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use unkai_model::compute::Phase;

use crate::servers::fixture::{IMAGE, World};

/// What every detailed body has at 2.1.
const FIRST: [&str; 25] = [
    "id",
    "name",
    "status",
    "tenant_id",
    "user_id",
    "metadata",
    "hostId",
    "image",
    "flavor",
    "created",
    "updated",
    "addresses",
    "accessIPv4",
    "accessIPv6",
    "links",
    "OS-DCF:diskConfig",
    "progress",
    "OS-EXT-AZ:availability_zone",
    "config_drive",
    "key_name",
    "OS-SRV-USG:launched_at",
    "OS-SRV-USG:terminated_at",
    "security_groups",
    "os-extended-volumes:volumes_attached",
    "OS-EXT-STS:task_state",
];

/// What came, and when; the second number is for everybody, the first for administrators.
const LATER: [(&str, u16, Option<u16>); 23] = [
    ("OS-EXT-STS:vm_state", 1, Some(1)),
    ("OS-EXT-STS:power_state", 1, Some(1)),
    ("OS-EXT-SRV-ATTR:host", 1, None),
    ("OS-EXT-SRV-ATTR:instance_name", 1, None),
    ("OS-EXT-SRV-ATTR:hypervisor_hostname", 1, None),
    ("OS-EXT-SRV-ATTR:reservation_id", 3, None),
    ("OS-EXT-SRV-ATTR:launch_index", 3, None),
    ("OS-EXT-SRV-ATTR:hostname", 3, Some(90)),
    ("OS-EXT-SRV-ATTR:kernel_id", 3, None),
    ("OS-EXT-SRV-ATTR:ramdisk_id", 3, None),
    ("OS-EXT-SRV-ATTR:root_device_name", 3, None),
    ("OS-EXT-SRV-ATTR:user_data", 3, None),
    ("locked", 9, Some(9)),
    ("host_status", 16, None),
    ("description", 19, Some(19)),
    ("tags", 26, Some(26)),
    ("trusted_image_certificates", 63, Some(63)),
    ("server_groups", 71, Some(71)),
    ("locked_reason", 73, Some(73)),
    ("pinned_availability_zone", 96, Some(96)),
    ("scheduler_hints", 100, Some(100)),
    ("fault", 999, None),
    ("adminPass", 999, None),
];

fn keys(body: &Value) -> BTreeSet<&str> {
    body.as_object().unwrap().keys().map(String::as_str).collect()
}

#[tokio::test]
async fn every_version_shows_what_it_should_and_nothing_else() {
    let world = World::new().await;
    let id = world.active().await;
    for minor in 1..=crate::DIALECT.maximum.0 {
        let path = format!("/v2.1/servers/{id}");
        for admin in [false, true] {
            let since =
                |(_, admins, all): &&(&str, u16, Option<u16>)| if admin { *admins <= minor } else { all.is_some_and(|all| all <= minor) };
            let later = LATER.iter().filter(since).map(|(key, ..)| *key);
            let expected: BTreeSet<&str> = FIRST.into_iter().chain(later).collect();
            let one = if admin {
                world.admin_at(minor, "GET", &path, Value::Null).await
            } else {
                world.at(minor, "GET", &path, Value::Null).await
            };
            assert_eq!(keys(&one.body["server"]), expected, "2.{minor}, admin: {admin}");
            let flavor: BTreeSet<&str> = if minor < 47 {
                BTreeSet::from(["id", "links"])
            } else {
                BTreeSet::from(["vcpus", "ram", "disk", "ephemeral", "swap", "original_name", "extra_specs"])
            };
            assert_eq!(keys(&one.body["server"]["flavor"]), flavor, "2.{minor}");
            let image: BTreeSet<&str> = ["id", "links"].into_iter().chain((minor >= 98).then_some("properties")).collect();
            assert_eq!(keys(&one.body["server"]["image"]), image, "2.{minor}");
            assert_eq!(one.headers["openstack-api-version"], format!("compute 2.{minor}").as_str());
        }
        let list = world.at(minor, "GET", "/v2.1/servers/detail", Value::Null).await;
        let one = world.at(minor, "GET", &path, Value::Null).await;
        let mut listed = keys(&one.body["server"]);
        listed.remove("server_groups");
        assert_eq!(keys(&list.body["servers"][0]), listed, "2.{minor}: lists are as detailed, but for groups");
        let updated = world.at(minor, "PUT", &path, json!({"server": {"name": "one"}})).await;
        let shows_all = updated.body["server"].get("key_name").is_some();
        assert_eq!(shows_all, minor >= 75, "2.{minor}: what an update answers");
    }
}

#[tokio::test]
async fn requests_are_read_as_their_version_has_them() {
    let world = World::new().await;
    let base = json!({"name": "v", "flavorRef": "1", "imageRef": IMAGE});
    #[rustfmt::skip]
    let table = [
        ("description", json!("d"), 19u16, 999u16),
        ("personality", json!([]), 1, 56),
        ("tags", json!([]), 52, 999),
        ("trusted_image_certificates", Value::Null, 63, 999),
        ("hostname", json!("v"), 90, 999),
    ];
    for (key, value, from, to) in table {
        for minor in [from - 1, from, to.min(96), to.saturating_add(1).min(97)].into_iter().filter(|minor| (1..=96).contains(minor)) {
            let mut server = base.clone();
            server[key] = value.clone();
            server["networks"] = if minor >= 37 { json!("none") } else { json!([]) };
            let answer = world.at(minor, "POST", "/v2.1/servers", json!({ "server": server })).await;
            let expected = if (from..=to).contains(&minor) { 202 } else { 400 };
            assert_eq!(answer.status, expected, "{key} at 2.{minor}: {}", answer.body);
            if let Some(id) = answer.body["server"]["id"].as_str() {
                world.at(1, "DELETE", &format!("/v2.1/servers/{id}"), Value::Null).await;
            }
        }
    }
    let needs_networks = world.at(37, "POST", "/v2.1/servers", json!({ "server": base })).await;
    assert_eq!(needs_networks.status, 400, "networks must be said from 2.37 on");
}

#[tokio::test]
async fn rebuild_answers_grow_with_the_version() {
    let world = World::new().await;
    for minor in [1, 9, 19, 26, 54, 57, 63, 73, 75, 96] {
        let id = world.active().await;
        let answer = world.at(minor, "POST", &format!("/v2.1/servers/{id}/action"), json!({"rebuild": {"imageRef": IMAGE}})).await;
        assert_eq!(answer.status, 202, "{}", answer.body);
        let found = keys(&answer.body["server"]);
        assert_eq!(found.contains("key_name"), minor >= 54, "2.{minor}");
        assert_eq!(found.contains("user_data"), minor >= 57, "2.{minor}");
        assert_eq!(found.contains("OS-EXT-STS:vm_state"), minor >= 75, "2.{minor}");
        assert!(found.contains("adminPass"));
        world.settle(&id, Phase::Running).await;
        world.change(&id, |server| server.status.deleted = Some(server.meta.updated)).await;
    }
}
