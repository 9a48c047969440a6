use serde_json::{Value, json};

use super::{Setup, expect, keys, refusal};

const PERIOD: &str = "start=2026-01-01T12:00:00&end=2026-01-02T00:00:00";

#[tokio::test]
async fn usage_is_hours_times_size() {
    let mut setup = Setup::new().await;
    setup.server(1, None, None).await;
    setup.server(2, None, None).await;
    let path = format!("/os-simple-tenant-usage/p?{PERIOD}");
    let usage = expect(200, setup.member("GET", &path, Value::Null).await)["tenant_usage"].clone();
    let sums = "tenant_id start stop total_hours total_memory_mb_usage total_vcpus_usage total_local_gb_usage";
    keys(&usage, &format!("{sums} server_usages"));
    assert_eq!((&usage["total_hours"], &usage["total_vcpus_usage"]), (&json!(24.0), &json!(48.0)));
    let row = &usage["server_usages"][0];
    keys(row, "instance_id name tenant_id flavor hours memory_mb vcpus local_gb started_at ended_at state uptime");
    assert_eq!(row["state"], "active");
    assert_eq!(expect(200, setup.other("GET", &path.replace("/p?", "/q?"), Value::Null).await)["tenant_usage"], json!({}));

    let all = expect(200, setup.admin("GET", &format!("/os-simple-tenant-usage?{PERIOD}"), Value::Null).await);
    keys(&all["tenant_usages"][0], sums);
    let all = expect(200, setup.admin("GET", &format!("/os-simple-tenant-usage?detailed=1&{PERIOD}"), Value::Null).await);
    keys(&all["tenant_usages"][0], &format!("{sums} server_usages"));
    refusal(403, setup.member("GET", &format!("/os-simple-tenant-usage?{PERIOD}"), Value::Null).await);
    refusal(403, setup.other("GET", &path, Value::Null).await);
    refusal(400, setup.admin("GET", "/os-simple-tenant-usage?start=yesterday", Value::Null).await);
    setup.speak(40);
    let page = expect(200, setup.member("GET", &format!("{path}&limit=1"), Value::Null).await);
    assert_eq!(page["tenant_usage"]["server_usages"].as_array().unwrap().len(), 1);
    assert!(page["tenant_usage_links"][0]["href"].as_str().unwrap().contains("marker=1000"));
}

#[tokio::test]
async fn no_host_has_run_a_usage_audit() {
    let setup = Setup::new().await;
    setup.host(1).await;
    let log = expect(200, setup.admin("GET", "/os-instance_usage_audit_log", Value::Null).await);
    assert_eq!(log["instance_usage_audit_logs"]["hosts_not_run"], json!(["host1"]));
    let log = expect(200, setup.admin("GET", "/os-instance_usage_audit_log/2026-03-05%2010:00:00.000000", Value::Null).await);
    assert_eq!(log["instance_usage_audit_log"]["period_beginning"], "2026-02-01 00:00:00");
    refusal(400, setup.admin("GET", "/os-instance_usage_audit_log/sometime", Value::Null).await);
    refusal(403, setup.member("GET", "/os-instance_usage_audit_log", Value::Null).await);
}

#[tokio::test]
async fn resizes_are_migrations() {
    let mut setup = Setup::new().await;
    assert_eq!(expect(200, setup.admin("GET", "/os-migrations", Value::Null).await), json!({"migrations": []}));
    let host = setup.host(1).await;
    let server = setup.server(1, Some(&host), None).await;
    for (name, minute) in [("create", 0), ("resize", 1), ("confirmResize", 2)] {
        let action = json!({
            "meta": { "id": format!("{server}/{name}"), "name": name },
            "server": server, "request": "req-1", "user": "ann", "project": "p", "started": format!("2026-01-01T00:0{minute}:00Z"),
        });
        let action: unkai_model::compute::ServerAction = serde_json::from_value(action).unwrap();
        setup.cloud.store.transact(move |tx| tx.insert(action.clone())).await.unwrap();
    }
    let base = "id instance_uuid status source_compute source_node dest_compute dest_node dest_host old_instance_type_id \
                new_instance_type_id created_at updated_at";
    for (minor, more) in [(1, ""), (23, "migration_type"), (59, "migration_type uuid"), (80, "migration_type uuid user_id project_id")] {
        setup.speak(minor);
        let list = expect(200, setup.admin("GET", "/os-migrations?status=confirmed", Value::Null).await);
        assert_eq!(list["migrations"].as_array().unwrap().len(), 1);
        keys(&list["migrations"][0], &format!("{base} {more}"));
        assert_eq!(list["migrations"][0]["dest_compute"], "host1");
    }
    assert_eq!(expect(200, setup.admin("GET", "/os-migrations?migration_type=migration", Value::Null).await)["migrations"], json!([]));
    refusal(400, setup.admin("GET", "/os-migrations?odd=1", Value::Null).await);
    refusal(403, setup.member("GET", "/os-migrations", Value::Null).await);
}
