//! Images in compute's old form.

use serde_json::{Value, json};

use crate::servers::fixture::{IMAGE, World};

#[tokio::test]
async fn images_are_shown_until_2_35() {
    let world = World::new().await;
    let id = world.active().await;
    let made = world.act(&id, json!({"createImage": {"name": "snap", "metadata": {"k": "v"}}})).await;
    let snap = made.body["image_id"].as_str().unwrap().to_owned();
    assert_eq!(world.at(36, "GET", "/v2.1/images", Value::Null).await.status, 404);
    let names = |answer: unkai_openstack::testing::Answer| -> Vec<String> {
        answer.body["images"].as_array().unwrap().iter().map(|i| i["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(world.at(1, "GET", "/v2.1/images", Value::Null).await), ["snap", "cirros"]);
    assert_eq!(names(world.at(1, "GET", "/v2.1/images/detail?type=snapshot", Value::Null).await), ["snap"]);
    assert_eq!(names(world.at(1, "GET", "/v2.1/images?status=active", Value::Null).await), ["cirros"]);
    assert_eq!(names(world.at(1, "GET", &format!("/v2.1/images?server=http://x/{id}"), Value::Null).await), ["snap"]);
    let page = world.at(1, "GET", "/v2.1/images?limit=1", Value::Null).await;
    assert!(page.body["images_links"][0]["href"].as_str().unwrap().contains("marker="));
    let shown = world.at(1, "GET", &format!("/v2.1/images/{snap}"), Value::Null).await;
    assert_eq!((&shown.body["image"]["status"], &shown.body["image"]["progress"]), (&json!("SAVING"), &json!(25)));
    assert_eq!(shown.body["image"]["server"]["id"], id.as_str());
    assert_eq!(world.at(1, "GET", "/v2.1/images/none", Value::Null).await.status, 404);

    let path = format!("/v2.1/images/{snap}/metadata");
    assert_eq!(world.at(1, "GET", &format!("{path}/k"), Value::Null).await.body, json!({"meta": {"k": "v"}}));
    assert_eq!(world.at(1, "PUT", &path, json!({"metadata": {"a": "1"}})).await.body, json!({"metadata": {"a": "1"}}));
    assert_eq!(world.at(1, "POST", &path, json!({"metadata": {"b": "2"}})).await.body, json!({"metadata": {"a": "1", "b": "2"}}));
    assert_eq!(world.at(1, "DELETE", &format!("{path}/a"), Value::Null).await.status, 204);
    assert_eq!(world.at(1, "DELETE", &format!("{path}/a"), Value::Null).await.status, 404);
    let other = world.at(1, "PUT", &format!("/v2.1/images/{IMAGE}/metadata"), json!({"metadata": {}})).await;
    assert_eq!(other.status, 403, "somebody else's public image");
    assert_eq!(world.at(1, "DELETE", &format!("/v2.1/images/{IMAGE}"), Value::Null).await.status, 403);
    assert_eq!(world.at(1, "DELETE", &format!("/v2.1/images/{snap}"), Value::Null).await.status, 204);
    assert_eq!(world.at(1, "GET", &format!("/v2.1/images/{snap}"), Value::Null).await.status, 404);
}
