//! Projects, domains and users as collections: hierarchy, tags, filters, what is refused.

use serde_json::{Value, json};

use crate::harness::{Harness, ids};

#[tokio::test]
async fn a_project_shows_its_family() {
    let h = Harness::new().await;
    let top = h.make("projects", "project", json!({"name": "top"})).await;
    let mid = h.make("projects", "project", json!({"name": "mid", "parent_id": top})).await;
    let leaf = h.make("projects", "project", json!({"name": "leaf", "parent_id": mid})).await;
    let get = async |query: &str| h.done("GET", &format!("projects/{mid}?{query}"), Value::Null).await.body["project"].clone();
    assert_eq!(get("parents_as_ids").await["parents"], json!({ &*top: {"default": null} }));
    assert_eq!(get("subtree_as_ids").await["subtree"], json!({ &*leaf: null }));
    assert_eq!(get("subtree_as_list").await["subtree"], json!([]), "the administrator has no role there");
    h.grant(&format!("projects/{leaf}"), &format!("users/{}", h.admin_user), "reader").await;
    assert_eq!(get("subtree_as_list").await["subtree"][0]["project"]["id"], json!(leaf));
    assert_eq!(h.admin.get(&format!("/identity/v3/projects/{mid}?parents_as_ids&parents_as_list")).await.status, 400);
    assert_eq!(h.admin.call("DELETE", &format!("/identity/v3/projects/{mid}"), Value::Null).await.status, 403, "it has children");
    let disable = json!({"project": {"enabled": false}});
    assert_eq!(h.admin.call("PATCH", &format!("/identity/v3/projects/{mid}"), disable).await.status, 403, "a child is enabled");
    let fourth = h.make("projects", "project", json!({"name": "4", "parent_id": leaf})).await;
    let fifth = h.admin.call("POST", "/identity/v3/projects", json!({"project": {"name": "5", "parent_id": fourth}})).await;
    assert_eq!(fifth.status, 403, "deep enough");
}

#[tokio::test]
async fn malformed_and_impossible_projects_are_refused() {
    let h = Harness::new().await;
    h.make("projects", "project", json!({"name": "p"})).await;
    let top = h.make("projects", "project", json!({"name": "top"})).await;
    let domain = h.make("domains", "domain", json!({"name": "d"})).await;
    for (body, status) in [
        (json!({"name": ""}), 400),
        (json!({"name": "a".repeat(65)}), 400),
        (json!({}), 400),
        (json!({"name": "x", "enabled": "true"}), 400),
        (json!({"name": "x", "tags": ["a", "a"]}), 400),
        (json!({"name": "x", "tags": ["a/b"]}), 400),
        (json!({"name": "x", "options": {"what": true}}), 400),
        (json!({"name": "x", "is_domain": true, "domain_id": "default"}), 400),
        (json!({"name": "x", "parent_id": top, "domain_id": domain}), 400),
        (json!({"name": "x", "domain_id": "none"}), 404),
        (json!({"name": "x", "parent_id": "none"}), 404),
        (json!({"name": "p"}), 409),
    ] {
        let answer = h.admin.call("POST", "/identity/v3/projects", json!({"project": body})).await;
        assert_eq!(answer.status, status, "{body} {:?}", answer.body);
    }
    let again = h.admin.call("POST", "/identity/v3/projects", json!({"project": {"name": "p"}})).await;
    let text = "Conflict occurred attempting to store project - Duplicate entry found with name p at domain ID default.";
    assert_eq!(again.body["error"]["message"], text);
    h.make("projects", "project", json!({"name": "p", "domain_id": domain})).await;
    let path = format!("/identity/v3/projects/{top}");
    for (body, status) in [
        (json!({"parent_id": domain}), 403),
        (json!({"domain_id": domain}), 400),
        (json!({"id": "other"}), 400),
        (json!({"name": "p"}), 409),
    ] {
        assert_eq!(h.admin.call("PATCH", &path, json!({"project": body})).await.status, status, "{body}");
    }
    let raw = h.admin.send("POST", "/identity/v3/projects", &[("content-type", "application/json")], b"{".to_vec()).await;
    assert_eq!(raw.status, 400);
    let huge = h.admin.send("POST", "/identity/v3/projects", &[], vec![b' '; 200 << 10]).await;
    assert_eq!(huge.status, 413);
}

#[tokio::test]
async fn lists_are_filtered() {
    let h = Harness::new().await;
    let tagged = h.make("projects", "project", json!({"name": "tagged", "tags": ["red", "blue"]})).await;
    let plain = h.make("projects", "project", json!({"name": "plain", "enabled": false, "tags": ["red"]})).await;
    let list = async |query: &str| ids(&h.done("GET", &format!("projects?{query}"), Value::Null).await, "projects").join(" ");
    let both = {
        let mut both = [tagged.clone(), plain.clone()];
        both.sort_unstable();
        both.join(" ")
    };
    assert_eq!(list("name=tagged").await, tagged);
    assert_eq!(list("name__contains=la").await, plain);
    assert_eq!(list("enabled=false").await, plain);
    assert_eq!(list("tags=red,blue").await, tagged);
    assert_eq!(list("tags-any=red,green").await, both);
    assert_eq!(list("not-tags=red,blue&tags=red").await, plain);
    assert_eq!(list("not-tags-any=red").await, h.admin_project);
    assert_eq!(list("is_domain=true").await, "default");
    assert_eq!(list("limit=1").await.split(' ').count(), 1);
}

#[tokio::test]
async fn tags_have_their_own_routes() {
    let h = Harness::new().await;
    let path = format!("projects/{}/tags", h.admin_project);
    h.done("PUT", &path, json!({"tags": ["b", "a"]})).await;
    assert_eq!(h.done("GET", &path, Value::Null).await.body["tags"], json!(["a", "b"]));
    assert_eq!(h.done("PUT", &format!("{path}/c"), Value::Null).await.status, 201);
    assert_eq!(h.done("GET", &format!("{path}/c"), Value::Null).await.status, 204);
    h.done("DELETE", &format!("{path}/c"), Value::Null).await;
    assert_eq!(h.admin.get(&format!("/identity/v3/{path}/c")).await.status, 404);
    assert_eq!(h.admin.call("PUT", &format!("/identity/v3/{path}"), json!({"tags": "a"})).await.status, 400);
    assert_eq!(h.admin.call("PUT", &format!("/identity/v3/{path}/{}", "x".repeat(256)), Value::Null).await.status, 400);
    h.done("DELETE", &path, Value::Null).await;
    assert_eq!(h.done("GET", &path, Value::Null).await.body["tags"], json!([]));
}

#[tokio::test]
async fn a_user_keeps_what_it_was_given() {
    let h = Harness::new().await;
    let user = json!({"name": "ann", "password": "x", "email": "a@b", "description": "d", "default_project_id": h.admin_project});
    let made = h.done("POST", "users", json!({"user": user})).await.body["user"].clone();
    assert_eq!(made["email"], "a@b");
    assert!(made.get("password").is_none() && made["password_expires_at"].is_null(), "{made}");
    let path = format!("users/{}", made["id"].as_str().unwrap());
    assert_eq!(h.done("GET", &path, Value::Null).await.body["user"], made);
    let changed = h.done("PATCH", &path, json!({"user": {"email": "c@d", "default_project_id": null}})).await.body["user"].clone();
    assert_eq!((&changed["email"], changed.get("default_project_id")), (&json!("c@d"), None));
    for bad in [
        json!({"name": ""}),
        json!({"enabled": 1}),
        json!({"options": {"lock_password": "yes"}}),
        json!({"domain_id": "other"}),
        json!({"default_project_id": "default"}),
    ] {
        assert_eq!(h.admin.call("PATCH", &format!("/identity/v3/{path}"), json!({"user": bad})).await.status, 400, "{bad}");
    }
    let long = json!({"user": {"password": "x".repeat(5000)}});
    assert_eq!(h.admin.call("PATCH", &format!("/identity/v3/{path}"), long).await.status, 403);
    assert_eq!(h.admin.call("PATCH", "/identity/v3/users/none", json!({"user": {}})).await.status, 404);
}

#[tokio::test]
async fn the_catalog_follows_its_documents() {
    let h = Harness::new().await;
    let service = h.make("services", "service", json!({"type": "metering", "name": "m"})).await;
    let endpoint = json!({"service_id": service, "interface": "public", "url": "http://m/$(project_id)s", "region": "Two"});
    let endpoint = h.make("endpoints", "endpoint", endpoint).await;
    let shown = async || -> Value {
        let catalog = h.done("GET", "auth/catalog", Value::Null).await.body["catalog"].clone();
        catalog.as_array().unwrap().iter().find(|service| service["type"] == "metering").cloned().unwrap_or_default()
    };
    assert_eq!(shown().await["endpoints"][0]["url"], format!("http://m/{}", h.admin_project));
    assert_eq!(h.admin.call("DELETE", "/identity/v3/regions/Two", Value::Null).await.status, 403, "an endpoint is there");
    h.done("PATCH", &format!("endpoints/{endpoint}"), json!({"endpoint": {"enabled": false}})).await;
    assert_eq!(shown().await["endpoints"], json!([]));
    for bad in [
        json!({"interface": "other"}),
        json!({"url": "nowhere"}),
        json!({"url": "http://x/$(secret)s"}),
        json!({"enabled": "no"}),
        json!({"region_id": "none"}),
    ] {
        let answer = h.admin.call("PATCH", &format!("/identity/v3/endpoints/{endpoint}"), json!({"endpoint": bad})).await;
        assert_eq!(answer.status, 400, "{bad}");
    }
    h.done("DELETE", &format!("services/{service}"), Value::Null).await;
    assert_eq!(h.admin.get(&format!("/identity/v3/endpoints/{endpoint}")).await.status, 404, "gone with its service");
    h.done("DELETE", "regions/Two", Value::Null).await;
}

#[tokio::test]
async fn a_project_may_see_a_part_of_the_catalog() {
    let h = Harness::new().await;
    let image = ids(&h.done("GET", "services?type=image", Value::Null).await, "services").remove(0);
    let group = json!({"name": "images", "filters": {"service_id": image, "interface": "public"}});
    let group = h.make("OS-EP-FILTER/endpoint_groups", "endpoint_group", group).await;
    h.done("PUT", &format!("OS-EP-FILTER/endpoint_groups/{group}/projects/{}", h.admin_project), Value::Null).await;
    let catalog = h.done("GET", "auth/catalog", Value::Null).await.body["catalog"].clone();
    let many: usize = catalog.as_array().unwrap().iter().map(|service| service["endpoints"].as_array().unwrap().len()).sum();
    assert_eq!(many, 1, "{catalog}");
    let seen = h.done("GET", &format!("OS-EP-FILTER/projects/{}/endpoints", h.admin_project), Value::Null).await;
    assert_eq!(ids(&seen, "endpoints").len(), 1);
    h.done("DELETE", &format!("OS-EP-FILTER/endpoint_groups/{group}"), Value::Null).await;
    let catalog = h.done("GET", "auth/catalog", Value::Null).await.body["catalog"].clone();
    assert!(catalog.as_array().unwrap().iter().all(|service| service["endpoints"].as_array().unwrap().len() == 3));
}
