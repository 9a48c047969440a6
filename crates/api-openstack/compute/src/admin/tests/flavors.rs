use serde_json::{Value, json};

use super::{Setup, expect, keys, refusal};

const FULL: &str =
    "id name ram vcpus swap disk links OS-FLV-DISABLED:disabled os-flavor-access:is_public rxtx_factor OS-FLV-EXT-DATA:ephemeral";

async fn create(setup: &Setup, body: Value) -> Value {
    expect(200, setup.admin("POST", "/flavors", json!({ "flavor": body })).await)["flavor"].clone()
}

fn ids(list: &Value) -> Vec<&str> {
    list["flavors"].as_array().unwrap().iter().map(|flavor| flavor["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_new_cloud_has_flavors_that_everybody_sees() {
    let mut setup = Setup::new().await;
    let list = expect(200, setup.member("GET", "/flavors/detail", Value::Null).await);
    let nano = list["flavors"].as_array().unwrap().iter().find(|f| f["name"] == "m1.nano").unwrap();
    keys(nano, FULL);
    assert_eq!((&nano["ram"], &nano["swap"], &nano["rxtx_factor"]), (&json!(192), &json!(""), &json!(1.0)));
    let shown = expect(200, setup.member("GET", "/flavors/42", Value::Null).await);
    assert_eq!(&shown["flavor"], nano);
    let brief = expect(200, setup.member("GET", "/flavors", Value::Null).await);
    keys(&brief["flavors"][0], "id name links");
    assert_eq!(refusal(404, setup.member("GET", "/flavors/nope", Value::Null).await), "Flavor nope could not be found.");

    setup.speak(75);
    let shown = expect(200, setup.member("GET", "/flavors/42", Value::Null).await);
    keys(&shown["flavor"], &format!("{FULL} description extra_specs"));
    assert_eq!(shown["flavor"]["swap"], 0);
    let brief = expect(200, setup.member("GET", "/flavors", Value::Null).await);
    keys(&brief["flavors"][0], "id name links description");
}

#[tokio::test]
async fn flavors_are_made_changed_and_deleted_by_administrators() {
    let setup = Setup::new().await.at(61);
    let body = json!({"name": "f", "ram": "64", "vcpus": 1, "disk": 0, "id": 1234, "description": "one", "swap": 8});
    let made = create(&setup, body.clone()).await;
    assert_eq!((&made["id"], &made["ram"], &made["swap"], &made["extra_specs"]), (&json!("1234"), &json!(64), &json!(8), &json!({})));
    let generated = create(&setup, json!({"name": "g", "ram": 64, "vcpus": 1, "disk": 0, "id": null})).await;
    assert_eq!(generated["id"].as_str().unwrap().len(), 36);

    let again = |body: Value| setup.admin("POST", "/flavors", json!({ "flavor": body }));
    assert_eq!(refusal(409, again(body).await), "Flavor with name f already exists.");
    let same_id = json!({"name": "h", "ram": 64, "vcpus": 1, "disk": 0, "id": "1234"});
    assert_eq!(refusal(409, again(same_id).await), "Flavor with ID 1234 already exists.");

    let change = json!({"flavor": {"description": "two"}});
    let changed = expect(200, setup.admin("PUT", "/flavors/1234", change.clone()).await);
    assert_eq!(changed["flavor"]["description"], "two");
    let rule = "Policy doesn't allow os_compute_api:os-flavor-manage:update to be performed.";
    assert_eq!(refusal(403, setup.member("PUT", "/flavors/1234", change).await), rule);
    refusal(403, setup.member("DELETE", "/flavors/1234", Value::Null).await);
    expect(202, setup.admin("DELETE", "/flavors/1234", Value::Null).await);
    refusal(404, setup.admin("DELETE", "/flavors/1234", Value::Null).await);
}

#[tokio::test]
async fn odd_flavors_are_refused() {
    let mut setup = Setup::new().await;
    let good = json!({"name": "f", "ram": 64, "vcpus": 1, "disk": 0});
    refusal(403, setup.member("POST", "/flavors", json!({ "flavor": good })).await);
    let odd = [
        ("ram", json!(0)),
        ("vcpus", json!("many")),
        ("disk", json!(-1)),
        ("disk", json!(0x8000_0000_u64)),
        ("name", json!("")),
        ("name", json!("x".repeat(256))),
        ("id", json!(" a")),
        ("id", json!("")),
        ("rxtx_factor", json!(0)),
        ("os-flavor-access:is_public", json!("perhaps")),
        ("description", json!("too early")),
        ("color", json!("red")),
    ];
    for (key, value) in odd {
        let mut body = good.clone();
        body[key] = value;
        refusal(400, setup.admin("POST", "/flavors", json!({ "flavor": body })).await);
    }
    refusal(404, setup.admin("PUT", "/flavors/1", json!({"flavor": {"description": "early"}})).await);
    setup.speak(55);
    refusal(400, setup.admin("PUT", "/flavors/1", json!({"flavor": {"ram": 5}})).await);
}

#[tokio::test]
async fn lists_are_filtered_sorted_and_paged() {
    let setup = Setup::new().await;
    create(&setup, json!({"name": "private", "ram": 99999, "vcpus": 1, "disk": 1, "id": "x", "os-flavor-access:is_public": "False"})).await;
    let list = async |query: &str| expect(200, setup.admin("GET", &format!("/flavors?{query}"), Value::Null).await);
    assert!(!ids(&list("").await).contains(&"x"));
    assert_eq!(ids(&list("is_public=f").await), ["x"]);
    assert!(ids(&list("is_public=None").await).len() > ids(&list("is_public=true").await).len());
    assert_eq!(ids(&list("minRam=8192").await), ["4"]);
    assert_eq!(ids(&list("minDisk=40&sort_key=vcpus&sort_dir=desc").await), ["4", "3"]);
    let page = list("limit=2&marker=1").await;
    assert_eq!(ids(&page), ["2", "3"]);
    let next = page["flavors_links"][0]["href"].as_str().unwrap();
    assert_eq!(next, "https://cloud.test:8774/compute/v2.1/flavors?limit=2&marker=3");
    for query in ["limit=-1", "limit=x", "minRam=x", "minDisk=1.5", "marker=nope", "sort_key=color", "is_public=perhaps"] {
        refusal(400, setup.admin("GET", &format!("/flavors?{query}"), Value::Null).await);
    }
    // Others cannot ask for what is not theirs.
    assert!(!ids(&expect(200, setup.member("GET", "/flavors?is_public=f", Value::Null).await)).contains(&"x"));
}

#[tokio::test]
async fn access_lets_a_project_see_a_private_flavor() {
    let mut setup = Setup::new().await;
    create(&setup, json!({"name": "private", "ram": 64, "vcpus": 1, "disk": 1, "id": "x", "os-flavor-access:is_public": false})).await;
    refusal(404, setup.member("GET", "/flavors/x", Value::Null).await);
    let add = json!({"addTenantAccess": {"tenant": "p"}});
    refusal(403, setup.member("POST", "/flavors/x/action", add.clone()).await);
    let added = expect(200, setup.admin("POST", "/flavors/x/action", add.clone()).await);
    assert_eq!(added["flavor_access"], json!([{"flavor_id": "x", "tenant_id": "p"}]));
    refusal(409, setup.admin("POST", "/flavors/x/action", add.clone()).await);
    expect(200, setup.member("GET", "/flavors/x", Value::Null).await);
    refusal(404, setup.other("GET", "/flavors/x", Value::Null).await);
    assert!(ids(&expect(200, setup.member("GET", "/flavors", Value::Null).await)).contains(&"x"));

    let listed = expect(200, setup.admin("GET", "/flavors/x/os-flavor-access", Value::Null).await);
    assert_eq!(listed, added);
    let public = refusal(404, setup.admin("GET", "/flavors/1/os-flavor-access", Value::Null).await);
    assert_eq!(public, "Access list not available for public flavors.");

    let remove = json!({"removeTenantAccess": {"tenant": "p"}});
    assert_eq!(expect(200, setup.admin("POST", "/flavors/x/action", remove.clone()).await)["flavor_access"], json!([]));
    refusal(404, setup.admin("POST", "/flavors/x/action", remove).await);
    let stranger = json!({"addTenantAccess": {"tenant": "nobody"}});
    assert_eq!(refusal(400, setup.admin("POST", "/flavors/x/action", stranger).await), "Project ID nobody is not a valid project.");
    refusal(400, setup.admin("POST", "/flavors/x/action", json!({"dance": {}})).await);
    setup.speak(7);
    assert_eq!(refusal(409, setup.admin("POST", "/flavors/1/action", add).await), "Can not add access to a public flavor.");
}

#[tokio::test]
async fn extra_specs_live_and_die() {
    let mut setup = Setup::new().await;
    let path = "/flavors/1/os-extra_specs";
    let specs = json!({"extra_specs": {"hw:numa_nodes": "1", "x": 5}});
    refusal(403, setup.member("POST", path, specs.clone()).await);
    assert_eq!(expect(200, setup.admin("POST", path, specs.clone()).await), specs);
    let stored = expect(200, setup.member("GET", path, Value::Null).await);
    assert_eq!(stored, json!({"extra_specs": {"hw:numa_nodes": "1", "x": "5"}}));

    let one = format!("{path}/x");
    assert_eq!(expect(200, setup.admin("PUT", &one, json!({"x": "6"})).await), json!({"x": "6"}));
    assert_eq!(expect(200, setup.member("GET", &one, Value::Null).await), json!({"x": "6"}));
    assert_eq!(refusal(400, setup.admin("PUT", &one, json!({"y": "6"})).await), "Request body and URI mismatch");
    refusal(400, setup.admin("PUT", &one, json!({"x": "6", "y": "6"})).await);
    refusal(400, setup.admin("POST", path, json!({"extra_specs": {"a/b": "1"}})).await);
    refusal(403, setup.member("DELETE", &one, Value::Null).await);
    expect(200, setup.admin("DELETE", &one, Value::Null).await);
    assert_eq!(refusal(404, setup.admin("DELETE", &one, Value::Null).await), "Flavor 1 has no extra specs with key x.");
    refusal(404, setup.member("GET", &one, Value::Null).await);

    setup.speak(86);
    expect(200, setup.admin("POST", path, json!({"extra_specs": {"foo:bar": "baz"}})).await);
    refusal(400, setup.admin("POST", path, json!({"extra_specs": {"hw:foo": "baz"}})).await);
}
