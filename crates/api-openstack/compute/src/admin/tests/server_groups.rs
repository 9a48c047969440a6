use serde_json::{Value, json};

use super::{Setup, expect, keys, refusal};

#[tokio::test]
async fn groups_live_and_die_in_their_project() {
    let mut setup = Setup::new().await;
    let body = json!({"server_group": {"name": "g", "policies": ["anti-affinity"]}});
    let made = expect(200, setup.member("POST", "/os-server-groups", body.clone()).await)["server_group"].clone();
    keys(&made, "id name policies members metadata");
    let path = format!("/os-server-groups/{}", made["id"].as_str().unwrap());
    let server = setup.server(1, None, made["id"].as_str()).await;
    let shown = expect(200, setup.member("GET", &path, Value::Null).await);
    assert_eq!(shown["server_group"]["members"], json!([server]));
    setup.speak(13);
    keys(
        &expect(200, setup.member("GET", &path, Value::Null).await)["server_group"],
        "id name policies members metadata project_id user_id",
    );

    refusal(404, setup.other("GET", &path, Value::Null).await);
    refusal(404, setup.other("DELETE", &path, Value::Null).await);
    assert_eq!(expect(200, setup.other("GET", "/os-server-groups", Value::Null).await)["server_groups"], json!([]));
    refusal(403, setup.member("GET", "/os-server-groups?all_projects=1", Value::Null).await);
    let all = expect(200, setup.admin("GET", "/os-server-groups?all_projects=1", Value::Null).await);
    assert_eq!(all["server_groups"].as_array().unwrap().len(), 1);
    refusal(403, setup.send("p/eve/reader", "DELETE", &path, Value::Null).await);
    refusal(403, setup.send("p/eve/reader", "POST", "/os-server-groups", body).await);
    expect(204, setup.member("DELETE", &path, Value::Null).await);
    let gone = refusal(404, setup.member("DELETE", &path, Value::Null).await);
    assert!(gone.starts_with("Instance group") && gone.ends_with("could not be found."));
}

#[tokio::test]
async fn policies_are_those_of_the_version() {
    let mut setup = Setup::new().await;
    let soft = json!({"server_group": {"name": "g", "policies": ["soft-affinity"]}});
    refusal(400, setup.member("POST", "/os-server-groups", soft.clone()).await);
    for policies in [json!([]), json!(["affinity", "anti-affinity"]), json!("affinity"), json!(["odd"])] {
        refusal(400, setup.member("POST", "/os-server-groups", json!({"server_group": {"name": "g", "policies": policies}})).await);
    }
    setup.speak(15);
    expect(200, setup.member("POST", "/os-server-groups", soft).await);
    setup.speak(64);
    let ruled =
        |policy: &str, most: Value| json!({"server_group": {"name": "g", "policy": policy, "rules": {"max_server_per_host": most}}});
    let made = expect(200, setup.member("POST", "/os-server-groups", ruled("anti-affinity", json!(3))).await);
    keys(&made["server_group"], "id name policy rules members project_id user_id");
    assert_eq!(made["server_group"]["rules"], json!({"max_server_per_host": 3}));
    let text = refusal(400, setup.member("POST", "/os-server-groups", ruled("affinity", json!(3))).await);
    assert_eq!(text, "Only anti-affinity policy supports rules.");
    refusal(400, setup.member("POST", "/os-server-groups", ruled("anti-affinity", json!(0))).await);
}

#[tokio::test]
async fn a_project_has_so_many_groups_and_lists_them_by_parts() {
    let setup = Setup::new().await.at(64);
    let body = json!({"server_group": {"name": "g", "policy": "affinity"}});
    for _ in 0..10 {
        expect(200, setup.member("POST", "/os-server-groups", body.clone()).await);
    }
    assert_eq!(refusal(403, setup.member("POST", "/os-server-groups", body).await), "Quota exceeded, too many server groups.");
    let count = async |query: &str| {
        let list = expect(200, setup.member("GET", &format!("/os-server-groups{query}"), Value::Null).await);
        list["server_groups"].as_array().unwrap().len()
    };
    assert_eq!((count("").await, count("?limit=3").await, count("?offset=8&limit=5").await), (10, 3, 2));
    refusal(400, setup.member("GET", "/os-server-groups?limit=-1", Value::Null).await);
}
