//! Create, show, update, delete.

use serde_json::{Value, json};
use unkai_model::compute::Phase;
use unkai_model::network::Port;
use unkai_model::quota::Quota;
use unkai_model::{Error, Id, Meta};

use crate::servers::fixture::{HOST, IMAGE, NETWORK, World, network};

#[tokio::test]
async fn a_server_is_made_with_its_port_and_shown() {
    let world = World::new().await;
    let body = json!({"server": {
        "name": "Web 1", "flavorRef": "1", "imageRef": IMAGE, "networks": [{"uuid": NETWORK, "fixed_ip": "10.1.0.9"}],
        "metadata": {"k": "v"}, "tags": ["blue"], "description": "d", "accessIPv4": "192.0.2.1",
        "security_groups": [{"name": "default"}],
    }});
    let answer = world.at(79, "POST", "/v2.1/servers", body).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    let server = &answer.body["server"];
    let id = server["id"].as_str().unwrap();
    assert_eq!(server["adminPass"].as_str().unwrap().len(), 12);
    assert_eq!(server["security_groups"], json!([{"name": "default"}]));
    assert_eq!(answer.headers["location"], format!("https://cloud.test:8774/compute/v2.1/servers/{id}").as_str());

    let shown = world.show(id).await;
    assert_eq!(shown["status"], "BUILD");
    assert_eq!(shown["OS-EXT-STS:task_state"], "scheduling");
    assert_eq!(shown["addresses"], json!({}), "hidden while it is made");
    world.settle(id, Phase::Running).await;
    let shown = world.show(id).await;
    assert_eq!(shown["status"], "ACTIVE");
    assert_eq!(shown["addresses"]["private"][0]["addr"], "10.1.0.9");
    assert_eq!(shown["addresses"]["private"][0]["OS-EXT-IPS:type"], "fixed");
    assert_eq!(shown["flavor"]["original_name"], "m1");
    assert_eq!(shown["image"]["id"], IMAGE);
    assert_eq!(shown["tags"], json!(["blue"]));
    assert_eq!(shown["metadata"], json!({"k": "v"}));
    assert_eq!(shown["OS-EXT-SRV-ATTR:hostname"], "web-1");
    assert_eq!(shown.get("OS-EXT-SRV-ATTR:host"), None, "tenants do not see hosts");
    assert_eq!(shown["security_groups"], json!([{"name": "default"}]));
    assert_eq!(shown["hostId"].as_str().unwrap().len(), 56);

    let path = format!("/v2.1/servers/{id}");
    let seen = world.admin_at(96, "GET", &path, Value::Null).await.body["server"].clone();
    assert_eq!(seen["OS-EXT-SRV-ATTR:host"], "host-1");
    assert_eq!(seen["host_status"], "UP");
    let stranger = world.member.with_token("q/v/member,reader");
    assert_eq!(stranger.get(&path).await.status, 404);
}

#[tokio::test]
async fn what_cannot_be_made_is_refused_in_the_originals_words() {
    let world = World::new().await;
    let missing = "99999999-9999-4999-8999-999999999999";
    #[rustfmt::skip]
    let table = [
        (json!({"flavorRef": "77"}), 400, "Flavor 77 could not be found."),
        (json!({"imageRef": missing}), 400, "Can not find requested image"),
        (json!({"imageRef": ""}), 400, "Invalid imageRef provided."),
        (json!({"flavorRef": "0"}), 403, "Only volume-backed servers are allowed for flavors with zero disk."),
        (json!({"flavorRef": "9"}), 403, "Quota exceeded for cores: Requested 64, but already used 0 of 20 cores"),
        (json!({"min_count": 11}), 403, "Quota exceeded for instances: Requested 11, but already used 0 of 10 instances"),
        (json!({"key_name": "none"}), 400, "Invalid key_name provided."),
        (json!({"security_groups": [{"name": "none"}]}), 400, "Security group none not found for project p."),
        (json!({"networks": [{"uuid": missing}]}), 400, "Network 99999999-9999-4999-8999-999999999999 could not be found."),
        (json!({"networks": [{"port": missing}]}), 400, "Port id 99999999-9999-4999-8999-999999999999 could not be found."),
        (json!({"availability_zone": "moon"}), 400, "The requested availability zone is not available"),
        (json!({"availability_zone": "nova:host-1"}), 403, "Policy doesn't allow os_compute_api:servers:create:forced_host to be performed."),
        (json!({"name": ""}), 400, "Invalid input for field/attribute name. Value: . '' is too short"),
        (json!({"surprise": 1, "name": "x"}), 400, "Additional properties are not allowed ('surprise' was unexpected)"),
        (json!({"user_data": "~"}), 400, "'~' is not a 'base64'"),
    ];
    for (change, status, text) in table {
        let mut server = json!({"name": "x", "flavorRef": "1", "imageRef": IMAGE, "networks": "auto"});
        server.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let answer = world.at(79, "POST", "/v2.1/servers", json!({"server": server})).await;
        assert_eq!(answer.status, status, "{change}: {}", answer.body);
        let message = answer.body.as_object().unwrap().values().next().unwrap()["message"].as_str().unwrap();
        assert!(message.ends_with(text), "{change}: {message}");
    }
    assert_eq!(world.cloud.store.view().count::<Port>(), 0, "a refused request leaves nothing");
    let reader = world.member.with_token("p/u/reader");
    let body = json!({"server": {"name": "x", "flavorRef": "1", "imageRef": IMAGE}});
    assert_eq!(reader.call("POST", "/v2.1/servers", body).await.status, 403);
}

#[tokio::test]
async fn several_are_made_at_once_as_the_quota_allows() {
    let world = World::new().await;
    let set = |tx: &mut unkai_store::Tx| {
        let id = Quota::id("compute", &Id::new("p"));
        tx.insert(Quota { meta: Meta::new(id), limits: [("instances".to_owned(), 3)].into() }).map(drop)
    };
    world.cloud.store.transact::<_, Error>(set).await.unwrap();
    let body = json!({"server": {"name": "n", "flavorRef": "1", "imageRef": IMAGE, "min_count": 2, "max_count": 9, "return_reservation_id": true}});
    let answer = world.at(1, "POST", "/v2.1/servers", body).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    let reservation = answer.body["reservation_id"].as_str().unwrap().to_owned();
    let found =
        world.at(1, "GET", &format!("/v2.1/servers?reservation_id={reservation}&sort_key=display_name&sort_dir=asc"), Value::Null).await;
    let names: Vec<_> = found.body["servers"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["n-1", "n-2", "n-3"]);
}

#[tokio::test]
async fn networks_are_chosen_or_asked_for() {
    let world = World::new().await;
    let id = world.create(json!({"networks": "none"})).await;
    assert!(world.document(&id).spec.ports.is_empty());
    let second = |tx: &mut unkai_store::Tx| network(tx, "44444444-4444-4444-8444-444444444444", "p", "second", "10.2.0.0/24");
    world.cloud.store.transact(second).await.unwrap();
    let body = json!({"server": {"name": "n", "flavorRef": "1", "imageRef": IMAGE}});
    let answer = world.at(1, "POST", "/v2.1/servers", body).await;
    assert_eq!(
        (answer.status, answer.body["conflictingRequest"]["message"].as_str()),
        (409, Some("Multiple possible networks found, use a Network ID to be more specific."))
    );
}

#[tokio::test]
async fn a_server_on_no_host_is_gone_at_once_and_one_on_a_host_later() {
    let world = World::new().await;
    let id = world.create(json!({})).await;
    let path = format!("/v2.1/servers/{id}");
    assert_eq!(world.at(1, "DELETE", &path, Value::Null).await.status, 204);
    assert_eq!(world.at(1, "GET", &path, Value::Null).await.status, 404);
    assert_eq!(world.cloud.store.view().count::<Port>(), 0);
    let gone = world.admin_at(1, "GET", "/v2.1/servers/detail?all_tenants=1&deleted=true", Value::Null).await;
    assert_eq!(gone.body["servers"][0]["status"], "DELETED");

    let id = world.active().await;
    let path = format!("/v2.1/servers/{id}");
    assert_eq!(world.at(1, "DELETE", &path, Value::Null).await.status, 204);
    let shown = world.show(&id).await;
    assert_eq!((shown["status"].as_str(), shown["OS-EXT-STS:task_state"].as_str()), (Some("ACTIVE"), Some("deleting")));
    assert_eq!(world.document(&id).status.host.as_ref().map(|h| h.as_str()), Some(HOST));
    assert_eq!(world.at(1, "DELETE", &path, Value::Null).await.status, 204, "again is fine");
}

#[tokio::test]
async fn brought_ports_outlive_their_server() {
    let world = World::new().await;
    let first = world.create(json!({})).await;
    let port = world.document(&first).spec.ports[0].clone();
    let taken = json!({"server": {"name": "n", "flavorRef": "1", "imageRef": IMAGE, "networks": [{"port": port}]}});
    let answer = world.at(60, "POST", "/v2.1/servers", taken.clone()).await;
    assert_eq!((answer.status, answer.body["conflictingRequest"]["message"].as_str().unwrap().contains("still in use")), (409, true));
    let free = {
        let port = port.clone();
        move |tx: &mut unkai_store::Tx| {
            tx.update(&port, |port: &mut Port| {
                port.device_id.clear();
                Ok::<_, Error>(())
            })
            .map(drop)
        }
    };
    world.cloud.store.transact(free).await.unwrap();
    let second = world.at(60, "POST", "/v2.1/servers", taken).await.body["server"]["id"].as_str().unwrap().to_owned();
    assert!(world.document(&second).spec.brought_ports.contains(&port));
    world.at(1, "DELETE", &format!("/v2.1/servers/{second}"), Value::Null).await;
    let kept = world.cloud.store.view().get(&port).unwrap();
    assert_eq!((kept.device_id.as_str(), kept.device_owner.as_str()), ("", ""));
}

#[tokio::test]
async fn updates_change_what_is_said() {
    let world = World::new().await;
    let id = world.active().await;
    let path = format!("/v2.1/servers/{id}");
    let answer = world.at(19, "PUT", &path, json!({"server": {"name": "two", "description": null, "accessIPv6": "2001:db8::1"}})).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!((&answer.body["server"]["name"], &answer.body["server"]["accessIPv6"]), (&json!("two"), &json!("2001:db8::1")));
    assert_eq!(answer.body["server"].get("key_name"), None, "a full answer is newer than this");
    assert_eq!(world.at(1, "PUT", &path, json!({"server": {"name": "x".repeat(256)}})).await.status, 400);
    assert_eq!(world.at(1, "PUT", &path, json!({"server": {"accessIPv6": "nope"}})).await.status, 400);
    assert_eq!(world.document(&id).meta.generation, 1, "nothing for the host to do");
}

#[tokio::test]
async fn a_user_may_have_limits_of_his_own() {
    let world = World::new().await;
    let set = |tx: &mut unkai_store::Tx| {
        let quota = Quota { meta: Meta::new("compute/p/u"), limits: [("instances".to_owned(), 1)].into() };
        tx.insert(quota).map(drop)
    };
    world.cloud.store.transact::<_, Error>(set).await.unwrap();
    world.create(json!({})).await;
    let body = json!({"server": {"name": "n", "flavorRef": "1", "imageRef": IMAGE}});
    assert_eq!(world.at(1, "POST", "/v2.1/servers", body.clone()).await.status, 403);
    let colleague = world.member.with_token("p/v/member,reader");
    assert_eq!(colleague.call("POST", "/v2.1/servers", body).await.status, 202);
}
