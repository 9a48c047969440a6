use serde_json::{Value, json};

use super::{Setup, expect, keys, refusal};

const BRIEF: &str = "id hypervisor_hostname state status";
const USAGE: &str = "vcpus vcpus_used memory_mb memory_mb_used free_ram_mb local_gb local_gb_used free_disk_gb disk_available_least running_vms current_workload";
const ABOUT: &str = "hypervisor_type hypervisor_version host_ip service";

#[tokio::test]
async fn services_are_listed_and_switched_by_name() {
    let mut setup = Setup::new().await;
    setup.host(1).await;
    let list = expect(200, setup.admin("GET", "/os-services?binary=nova-compute", Value::Null).await);
    let row = &list["services"][0];
    keys(row, "id binary host zone status state updated_at disabled_reason");
    assert_eq!((&row["id"], &row["state"], &row["status"], &row["zone"]), (&json!(1), &json!("up"), &json!("enabled"), &json!("nova")));
    let all = expect(200, setup.admin("GET", "/os-services?odd=1", Value::Null).await);
    assert_eq!(all["services"].as_array().unwrap().len(), 3);
    assert_eq!(expect(200, setup.admin("GET", "/os-services?host=host1&binary=xxx", Value::Null).await)["services"], json!([]));

    let target = json!({"host": "host1", "binary": "nova-compute"});
    let off = expect(200, setup.admin("PUT", "/os-services/disable", target.clone()).await);
    assert_eq!(off, json!({"service": {"host": "host1", "binary": "nova-compute", "status": "disabled"}}));
    let mut reason = target.clone();
    reason["disabled_reason"] = json!("broken fan");
    let off = expect(200, setup.admin("PUT", "/os-services/disable-log-reason", reason).await);
    keys(&off["service"], "host binary status disabled_reason");
    let list = expect(200, setup.admin("GET", "/os-services?host=host1", Value::Null).await);
    assert_eq!(list["services"][0]["disabled_reason"], "broken fan");
    expect(200, setup.admin("PUT", "/os-services/enable", target.clone()).await);
    refusal(404, setup.admin("PUT", "/os-services/enable", json!({"host": "nowhere", "binary": "nova-compute"})).await);
    refusal(404, setup.admin("PUT", "/os-services/force-down", target.clone()).await);
    refusal(400, setup.admin("PUT", "/os-services/enable", json!({"host": "host1"})).await);
    refusal(403, setup.member("PUT", "/os-services/enable", target.clone()).await);

    setup.speak(11);
    let mut down = target;
    down["forced_down"] = json!(true);
    assert_eq!(expect(200, setup.admin("PUT", "/os-services/force-down", down).await)["service"]["forced_down"], true);
    let list = expect(200, setup.admin("GET", "/os-services?host=host1", Value::Null).await);
    assert_eq!((&list["services"][0]["forced_down"], &list["services"][0]["state"]), (&json!(true), &json!("down")));
}

#[tokio::test]
async fn services_are_switched_by_id_from_2_53_on() {
    let setup = Setup::new().await.at(53);
    let id = setup.host(1).await;
    let path = format!("/os-services/{id}");
    let off = expect(200, setup.admin("PUT", &path, json!({"status": "disabled", "disabled_reason": "fan"})).await);
    keys(&off["service"], "id binary host zone status state updated_at disabled_reason forced_down");
    assert_eq!((&off["service"]["status"], &off["service"]["disabled_reason"]), (&json!("disabled"), &json!("fan")));
    refusal(400, setup.admin("PUT", &path, json!({"disabled_reason": "fan"})).await);
    refusal(400, setup.admin("PUT", &path, json!({})).await);
    refusal(400, setup.admin("PUT", "/os-services/enable", json!({"status": "enabled"})).await);
    let nobody = "/os-services/30000000-0000-4000-8000-000000000000";
    refusal(404, setup.admin("PUT", nobody, json!({"status": "enabled"})).await);
    let list = expect(200, setup.admin("GET", "/os-services?binary=nova-scheduler", Value::Null).await);
    let own = format!("/os-services/{}", list["services"][0]["id"].as_str().unwrap());
    refusal(400, setup.admin("PUT", &own, json!({"status": "disabled"})).await);
    // An agent that is connected would be back at once.
    refusal(409, setup.admin("DELETE", &path, Value::Null).await);
    refusal(403, setup.member("DELETE", &path, Value::Null).await);
}

#[tokio::test]
async fn a_host_that_is_gone_is_forgotten_with_its_aggregates() {
    let setup = Setup::new().await.at(53);
    let id = setup.host(1).await;
    expect(200, setup.admin("POST", "/os-aggregates", json!({"aggregate": {"name": "one"}})).await);
    expect(200, setup.admin("POST", "/os-aggregates/1/action", json!({"add_host": {"host": "host1"}})).await);
    let host = unkai_model::Id::<unkai_model::compute::Host>::new(id.as_str());
    let lost = move |tx: &mut unkai_store::Tx| {
        tx.update(&host, |host| {
            host.status.reachability = unkai_model::compute::Reachability::Lost;
            Ok::<_, unkai_model::Error>(())
        })
    };
    setup.cloud.store.transact(lost).await.unwrap();
    expect(204, setup.admin("DELETE", &format!("/os-services/{id}"), Value::Null).await);
    assert_eq!(expect(200, setup.admin("GET", "/os-aggregates/1", Value::Null).await)["aggregate"]["hosts"], json!([]));
    refusal(404, setup.admin("DELETE", &format!("/os-services/{id}"), Value::Null).await);
}

#[tokio::test]
async fn hypervisors_show_what_is_given_out() {
    let mut setup = Setup::new().await;
    let host = setup.host(1).await;
    let server = setup.server(1, Some(&host), None).await;
    keys(&expect(200, setup.admin("GET", "/os-hypervisors", Value::Null).await)["hypervisors"][0], BRIEF);
    let shown = expect(200, setup.admin("GET", "/os-hypervisors/1", Value::Null).await)["hypervisor"].clone();
    keys(&shown, &format!("{BRIEF} {USAGE} {ABOUT} cpu_info"));
    assert!(shown["cpu_info"].is_string());
    let numbers = ["vcpus", "vcpus_used", "memory_mb", "memory_mb_used", "free_ram_mb", "local_gb_used", "running_vms", "current_workload"];
    assert_eq!(numbers.map(|name| shown[name].as_i64().unwrap()), [4, 2, 8192, 1024, 7168, 1, 1, 0]);
    let sum = expect(200, setup.admin("GET", "/os-hypervisors/statistics", Value::Null).await);
    keys(&sum["hypervisor_statistics"], &format!("{USAGE} count"));
    let up = expect(200, setup.admin("GET", "/os-hypervisors/1/uptime", Value::Null).await);
    keys(&up["hypervisor"], &format!("{BRIEF} uptime"));
    let found = expect(200, setup.admin("GET", "/os-hypervisors/ost/search", Value::Null).await);
    keys(&found["hypervisors"][0], BRIEF);
    let servers = expect(200, setup.admin("GET", "/os-hypervisors/host1/servers", Value::Null).await);
    assert_eq!(servers["hypervisors"][0]["servers"], json!([{"uuid": server, "name": "server1"}]));
    refusal(404, setup.admin("GET", "/os-hypervisors/nothing/search", Value::Null).await);
    refusal(404, setup.admin("GET", "/os-hypervisors/7", Value::Null).await);
    let rule = "Policy doesn't allow os_compute_api:os-hypervisors:list to be performed.";
    assert_eq!(refusal(403, setup.member("GET", "/os-hypervisors", Value::Null).await), rule);
    for path in ["detail", "statistics", "1", "1/uptime", "x/search", "x/servers"] {
        refusal(403, setup.member("GET", &format!("/os-hypervisors/{path}"), Value::Null).await);
    }
    setup.speak(28);
    assert!(expect(200, setup.admin("GET", "/os-hypervisors/1", Value::Null).await)["hypervisor"]["cpu_info"].is_object());
}

#[tokio::test]
async fn hypervisors_have_uuids_from_2_53_and_less_to_show_from_2_88() {
    let mut setup = Setup::new().await.at(53);
    let ids = [setup.host(1).await, setup.host(2).await];
    let server = setup.server(1, Some(&ids[0]), None).await;
    let path = format!("/os-hypervisors/{}?with_servers=true", ids[0]);
    let shown = expect(200, setup.admin("GET", &path, Value::Null).await);
    assert_eq!(shown["hypervisor"]["servers"], json!([{"uuid": server, "name": "server1"}]));
    assert_eq!(shown["hypervisor"]["service"]["id"], json!(ids[0]));
    let page = expect(200, setup.admin("GET", "/os-hypervisors?limit=1", Value::Null).await);
    assert!(page["hypervisors_links"][0]["href"].as_str().unwrap().ends_with(&format!("limit=1&marker={}", ids[0])));
    refusal(400, setup.admin("GET", "/os-hypervisors/1", Value::Null).await);
    refusal(404, setup.admin("GET", "/os-hypervisors/host1/search", Value::Null).await);
    refusal(404, setup.admin("GET", "/os-hypervisors?hypervisor_hostname_pattern=x", Value::Null).await);
    refusal(400, setup.admin("GET", "/os-hypervisors?hypervisor_hostname_pattern=h&limit=1", Value::Null).await);
    refusal(400, setup.admin("GET", "/os-hypervisors?with_servers=perhaps", Value::Null).await);
    setup.speak(88);
    let shown = expect(200, setup.admin("GET", &format!("/os-hypervisors/{}", ids[1]), Value::Null).await);
    keys(&shown["hypervisor"], &format!("{BRIEF} {ABOUT} uptime"));
    refusal(404, setup.admin("GET", "/os-hypervisors/statistics", Value::Null).await);
    refusal(404, setup.admin("GET", &format!("/os-hypervisors/{}/uptime", ids[0]), Value::Null).await);
}

#[tokio::test]
async fn zones_are_shown_with_their_hosts_to_administrators() {
    let setup = Setup::new().await;
    setup.host(1).await;
    let detail = expect(200, setup.admin("GET", "/os-availability-zone/detail", Value::Null).await);
    let zones = detail["availabilityZoneInfo"].as_array().unwrap();
    assert_eq!(zones.iter().map(|zone| zone["zoneName"].as_str().unwrap()).collect::<Vec<_>>(), ["internal", "nova"]);
    keys(&zones[1]["hosts"]["host1"]["nova-compute"], "available active updated_at");
    refusal(403, setup.member("GET", "/os-availability-zone/detail", Value::Null).await);
}

#[tokio::test]
async fn the_oldest_view_of_hosts_ends_at_2_42() {
    let mut setup = Setup::new().await;
    let host = setup.host(1).await;
    setup.server(1, Some(&host), None).await;
    let list = expect(200, setup.admin("GET", "/os-hosts", Value::Null).await);
    assert_eq!(list["hosts"][0], json!({"host_name": "host1", "service": "compute", "zone": "nova"}));
    assert_eq!(expect(200, setup.admin("GET", "/os-hosts?zone=xxx", Value::Null).await)["hosts"], json!([]));
    let shown = expect(200, setup.admin("GET", "/os-hosts/host1", Value::Null).await);
    let rows: Vec<_> = shown["host"].as_array().unwrap().iter().map(|row| row["resource"].clone()).collect();
    assert_eq!(rows[1], json!({"host": "host1", "project": "(used_now)", "cpu": 2, "memory_mb": 512, "disk_gb": 1}));
    assert_eq!(rows[3]["project"], "p");
    let off = expect(200, setup.admin("PUT", "/os-hosts/host1", json!({"status": "disable"})).await);
    assert_eq!(off, json!({"host": "host1", "status": "disabled"}));
    refusal(501, setup.admin("PUT", "/os-hosts/host1", json!({"maintenance_mode": "enable"})).await);
    refusal(404, setup.admin("PUT", "/os-hosts/x", json!({"status": "enable", "maintenance_mode": "enable"})).await);
    refusal(400, setup.admin("PUT", "/os-hosts/host1", json!({})).await);
    refusal(400, setup.admin("PUT", "/os-hosts/host1", json!({"status": "invalid"})).await);
    refusal(501, setup.admin("GET", "/os-hosts/host1/reboot", Value::Null).await);
    refusal(404, setup.admin("GET", "/os-hosts/x/startup", Value::Null).await);
    refusal(403, setup.member("GET", "/os-hosts", Value::Null).await);
    refusal(403, setup.member("GET", "/os-hosts/host1/shutdown", Value::Null).await);
    setup.speak(43);
    refusal(404, setup.admin("GET", "/os-hosts", Value::Null).await);
}

#[tokio::test]
async fn events_are_about_servers_that_exist() {
    let setup = Setup::new().await;
    let host = setup.host(1).await;
    let (here, waiting) = (setup.server(1, Some(&host), None).await, setup.server(2, None, None).await);
    let nobody = "50000000-0000-4000-8000-000000000000";
    let body = |servers: &[&str]| {
        let events: Vec<_> = servers.iter().map(|id| json!({"name": "network-changed", "server_uuid": id, "tag": "t"})).collect();
        json!({ "events": events })
    };
    let path = "/os-server-external-events";
    let done = expect(200, setup.admin("POST", path, body(&[&here])).await);
    assert_eq!(done["events"][0], json!({"name": "network-changed", "server_uuid": here, "tag": "t", "status": "completed", "code": 200}));
    let mixed = expect(207, setup.admin("POST", path, body(&[&here, &waiting, nobody])).await);
    let codes: Vec<_> = mixed["events"].as_array().unwrap().iter().map(|event| event["code"].as_u64().unwrap()).collect();
    assert_eq!(codes, [200, 422, 404]);
    assert_eq!(refusal(404, setup.admin("POST", path, body(&[nobody])).await), "No instances found for any event");
    refusal(403, setup.member("POST", path, body(&[&here])).await);
    refusal(400, setup.admin("POST", path, json!({"events": [{"name": "volume-extended", "server_uuid": here}]})).await);
    refusal(400, setup.admin("POST", path, json!({"events": []})).await);
}
