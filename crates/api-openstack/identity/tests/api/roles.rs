//! Where roles come from: directly, through groups, from above, by implication; and how lists of assignments show it.

use serde_json::{Value, json};

use crate::harness::{Harness, id, ids, on_project};

fn role_names(body: &Value) -> Vec<String> {
    let mut names: Vec<String> =
        body["token"]["roles"].as_array().unwrap().iter().map(|role| role["name"].as_str().unwrap().to_owned()).collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn roles_come_down_from_the_domain_and_from_projects_above() {
    let h = Harness::new().await;
    let user = h.user("ann").await;
    let top = h.make("projects", "project", json!({"name": "top"})).await;
    let leaf = h.make("projects", "project", json!({"name": "leaf", "parent_id": top})).await;
    let (member, reader) = (h.role("member").await, h.role("reader").await);
    let from_top = format!("OS-INHERIT/projects/{top}/users/{user}/roles/{member}/inherited_to_projects");
    h.done("PUT", &from_top, Value::Null).await;
    assert_eq!(h.login("ann", "ann", on_project(&top)).await.status, 401, "it holds below, not there");
    assert_eq!(role_names(&h.login("ann", "ann", on_project(&leaf)).await.body), ["member", "reader"]);
    h.done("DELETE", &from_top, Value::Null).await;
    assert_eq!(h.login("ann", "ann", on_project(&leaf)).await.status, 401);
    let from_domain = format!("OS-INHERIT/domains/default/users/{user}/roles");
    h.done("PUT", &format!("{from_domain}/{reader}/inherited_to_projects"), Value::Null).await;
    assert_eq!(role_names(&h.login("ann", "ann", on_project(&leaf)).await.body), ["reader"]);
    assert_eq!(role_names(&h.login("ann", "ann", on_project(&top)).await.body), ["reader"]);
    let listed = h.done("GET", &format!("{from_domain}/inherited_to_projects"), Value::Null).await;
    assert_eq!(ids(&listed, "roles"), std::slice::from_ref(&reader));
    assert_eq!(h.admin.call("HEAD", &format!("/identity/v3/{from_domain}/{reader}/inherited_to_projects"), Value::Null).await.status, 204);
    let own = h.client(&h.token("ann", "ann", Value::Null).await).get("/identity/v3/auth/projects").await;
    assert_eq!(ids(&own, "projects").len(), 3, "all of the domain's");
}

#[tokio::test]
async fn roles_of_a_domain_reach_tokens_only_by_what_they_imply() {
    let h = Harness::new().await;
    let user = h.user("ann").await;
    let project = h.make("projects", "project", json!({"name": "p"})).await;
    let own = h.make("roles", "role", json!({"name": "team-lead", "domain_id": "default"})).await;
    h.done("PUT", &format!("projects/{project}/users/{user}/roles/{own}"), Value::Null).await;
    assert_eq!(h.login("ann", "ann", on_project(&project)).await.status, 401);
    let member = h.role("member").await;
    h.done("PUT", &format!("roles/{own}/implies/{member}"), Value::Null).await;
    assert_eq!(role_names(&h.login("ann", "ann", on_project(&project)).await.body), ["member", "reader"]);
    let admin = h.role("admin").await;
    let refused = h.admin.call("PUT", &format!("/identity/v3/roles/{own}/implies/{admin}"), Value::Null).await;
    assert_eq!(refused.status, 403, "nobody implies the administrator");
    let circle = h.admin.call("PUT", &format!("/identity/v3/roles/{member}/implies/{own}"), Value::Null).await;
    assert_eq!(circle.status, 403);
}

#[tokio::test]
async fn the_roles_that_come_with_the_cloud_stay() {
    let h = Harness::new().await;
    let reader = h.role("reader").await;
    let path = format!("/identity/v3/roles/{reader}");
    assert_eq!(h.admin.call("DELETE", &path, Value::Null).await.status, 403);
    assert_eq!(h.admin.call("PATCH", &path, json!({"role": {"name": "x"}})).await.status, 403);
    h.done("PATCH", &format!("roles/{reader}"), json!({"role": {"options": {"immutable": false}}})).await;
    h.done("DELETE", &format!("roles/{reader}"), Value::Null).await;
    let inferences = h.done("GET", "role_inferences", Value::Null).await;
    assert_eq!(inferences.body["role_inferences"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn assignments_are_listed_as_given_and_as_they_take_effect() {
    let h = Harness::new().await;
    let user = h.user("ann").await;
    let group = h.make("groups", "group", json!({"name": "g"})).await;
    h.done("PUT", &format!("groups/{group}/users/{user}"), Value::Null).await;
    let project = h.make("projects", "project", json!({"name": "p"})).await;
    h.grant(&format!("projects/{project}"), &format!("groups/{group}"), "member").await;
    let list = async |query: &str| h.done("GET", &format!("role_assignments?{query}"), Value::Null).await.body["role_assignments"].clone();
    assert_eq!(list(&format!("user.id={user}")).await, json!([]), "nothing was given to the user itself");
    let given = list(&format!("group.id={group}&include_names")).await;
    assert_eq!(given[0]["group"]["name"], "g");
    assert_eq!(given[0]["scope"]["project"]["domain"]["name"], "Default");
    let effective = list(&format!("user.id={user}&effective&include_names=true")).await;
    let mut names: Vec<&str> = effective.as_array().unwrap().iter().map(|line| line["role"]["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["member", "reader"]);
    assert!(effective[0]["links"]["membership"].as_str().unwrap().ends_with(&format!("/groups/{group}/users/{user}")));
    assert_eq!(list("scope.system=all").await.as_array().unwrap().len(), 1, "the administrator's");
    for bad in ["user.id=a&group.id=b", "scope.project.id=a&scope.domain.id=b", "effective&group.id=a", "include_subtree=1"] {
        assert_eq!(h.admin.get(&format!("/identity/v3/role_assignments?{bad}")).await.status, 400, "{bad}");
    }
}

#[tokio::test]
async fn a_manager_rules_its_domain_and_nothing_else() {
    let h = Harness::new().await;
    let domain = h.make("domains", "domain", json!({"name": "d"})).await;
    let user = h.make("users", "user", json!({"name": "boss", "password": "x", "domain_id": domain})).await;
    h.grant(&format!("domains/{domain}"), &format!("users/{user}"), "manager").await;
    let body = json!({"auth": {"identity": {"methods": ["password"], "password": {"user": {"id": user, "password": "x"}}}, "scope": {"domain": {"id": domain}}}});
    let boss = h.client(&crate::harness::subject(&h.admin.call("POST", "/identity/v3/auth/tokens", body).await));
    let call = async |method: &str, path: &str, body: Value| boss.call(method, &format!("/identity/v3/{path}"), body).await;
    let worker = call("POST", "users", json!({"user": {"name": "w", "password": "w"}})).await;
    assert_eq!((worker.status, &worker.body["user"]["domain_id"]), (201, &json!(domain)), "in the token's domain");
    let project = call("POST", "projects", json!({"project": {"name": "p"}})).await;
    assert_eq!(project.body["project"]["domain_id"], json!(domain));
    let (member, admin) = (h.role("member").await, h.role("admin").await);
    let grant = format!("projects/{}/users/{}/roles", id(&project), id(&worker));
    assert_eq!(call("PUT", &format!("{grant}/{member}"), Value::Null).await.status, 204);
    assert_eq!(call("PUT", &format!("{grant}/{admin}"), Value::Null).await.status, 403, "that would be more than it has");
    let foreign = format!("projects/{}/users/{}/roles/{member}", h.admin_project, id(&worker));
    assert_eq!(call("PUT", &foreign, Value::Null).await.status, 403);
    assert_eq!(call("POST", "users", json!({"user": {"name": "w", "domain_id": "default"}})).await.status, 403);
    assert_eq!(call("GET", &format!("users/{}", h.admin_user), Value::Null).await.status, 403);
    assert_eq!(call("GET", "users/nobody", Value::Null).await.status, 403, "what is not there looks like what is not its own");
    let users = ids(&call("GET", "users", Value::Null).await, "users");
    assert_eq!(users.len(), 2, "only its own: {users:?}");
}
