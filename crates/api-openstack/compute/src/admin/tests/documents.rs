use serde_json::{Value, json};
use unkai_openstack::{Access, testing::Client};

use super::{Setup, expect, keys, refusal};
use crate::DIALECT;

#[tokio::test]
async fn anybody_may_read_the_version_documents() {
    let setup = Setup::new().await;
    let client = Client::new(&setup.cloud, crate::routes(&setup.cloud), "nobody");
    let list = expect(200, client.get("/").await)["versions"].clone();
    assert_eq!((&list[0]["id"], &list[1]["id"]), (&json!("v2.0"), &json!("v2.1")));
    assert_eq!(
        (&list[1]["version"], &list[1]["min_version"]),
        (&json!(DIALECT.text(DIALECT.maximum)), &json!(DIALECT.text(DIALECT.minimum)))
    );
    for (at, paths) in [(0, ["/v2", "/v2/"]), (1, ["/v2.1", "/v2.1/"])] {
        for path in paths {
            let one = expect(200, client.get(path).await)["version"].clone();
            keys(&one, "id status version min_version updated links media-types");
            assert_eq!(one["links"][0], list[at]["links"][0]);
        }
    }
}

#[tokio::test]
async fn extensions_are_still_listed() {
    let setup = Setup::new().await;
    let list = expect(200, setup.member("GET", "/extensions", Value::Null).await);
    let hosts = list["extensions"].as_array().unwrap().iter().find(|extension| extension["name"] == "Hosts").unwrap();
    keys(hosts, "alias name description namespace updated links");
    let one = expect(200, setup.member("GET", "/extensions/os-consoles", Value::Null).await);
    assert_eq!(one["extension"]["alias"], "os-consoles");
    refusal(404, setup.member("GET", "/extensions/nothing", Value::Null).await);
}

#[tokio::test]
async fn what_is_gone_says_so() {
    let setup = Setup::new().await;
    for path in ["/os-cells", "/os-certificates/root", "/os-fping", "/os-agents"] {
        assert_eq!(refusal(410, setup.member("GET", path, Value::Null).await), "This resource has been removed.");
    }
}

/// Without a good token nothing but the version documents answers.
#[tokio::test]
async fn every_route_wants_a_token() {
    let setup = Setup::new().await;
    let routes = crate::admin::routes(&setup.cloud);
    let list = routes.list().to_vec();
    let client = Client::new(&setup.cloud, routes, "nobody");
    for route in list {
        let path: String = route.path.split('/').map(|part| if part.starts_with('{') { "x" } else { part }).collect::<Vec<_>>().join("/");
        let answer = client.call(route.method.as_str(), &path, json!({})).await;
        let expected = if route.access == Access::Public { 200 } else { 401 };
        assert_eq!(answer.status, expected, "{} {path}", route.method);
    }
}

/// What only administrators may do, a member of a project may not.
#[tokio::test]
async fn members_change_nothing_that_is_the_clouds() {
    let setup = Setup::new().await.at(53);
    let id = setup.host(1).await;
    let requests = [
        ("POST", "/flavors".to_owned(), json!({"flavor": {"name": "f", "ram": 1, "vcpus": 1, "disk": 0}})),
        ("DELETE", "/flavors/1".into(), Value::Null),
        ("POST", "/flavors/1/action".into(), json!({"addTenantAccess": {"tenant": "p"}})),
        ("GET", "/flavors/1/os-flavor-access".into(), Value::Null),
        ("POST", "/flavors/1/os-extra_specs".into(), json!({"extra_specs": {"a": "b"}})),
        ("PUT", "/flavors/1/os-extra_specs/a".into(), json!({"a": "b"})),
        ("DELETE", "/flavors/1/os-extra_specs/a".into(), Value::Null),
        ("GET", "/os-services".into(), Value::Null),
        ("PUT", format!("/os-services/{id}"), json!({"status": "disabled"})),
        ("DELETE", format!("/os-services/{id}"), Value::Null),
        ("PUT", "/os-aggregates/1".into(), json!({"aggregate": {"name": "x"}})),
        ("POST", "/os-aggregates/1/action".into(), json!({"set_metadata": {"metadata": {}}})),
        ("PUT", "/os-quota-class-sets/default".into(), json!({"quota_class_set": {"cores": 1}})),
        ("GET", "/os-quota-class-sets/default".into(), Value::Null),
    ];
    for (method, path, body) in requests {
        let text = refusal(403, setup.member(method, &path, body).await);
        assert!(text.starts_with("Policy doesn't allow "), "{method} {path}: {text}");
    }
}
