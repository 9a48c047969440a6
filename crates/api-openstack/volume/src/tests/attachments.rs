use serde_json::{Value, json};

use super::*;

#[tokio::test]
async fn an_attachment_is_reserved_completed_and_ended() {
    let mut s = Setup::new().await;
    let id = s.volume(json!({})).await;
    let wish = json!({ "attachment": { "volume_uuid": id, "instance_uuid": super::id(5), "mode": "ro" } });
    let made = expect(200, s.member("POST", "/attachments", wish.clone()).await)["attachment"].take();
    assert_eq!((&made["status"], &made["attach_mode"], &made["instance"]), (&json!("reserved"), &json!("ro"), &json!(super::id(5))));
    assert_eq!(s.status(&id).await, "reserved");
    let another = json!({ "attachment": { "volume_uuid": id, "instance_uuid": super::id(6) } });
    expect(400, s.member("POST", "/attachments", another).await);
    let path = format!("/attachments/{}", made["id"].as_str().unwrap());
    expect(404, s.send(OTHER, "GET", &path, Value::Null).await);
    expect(403, s.send(READER, "DELETE", &path, Value::Null).await);
    let said = refusal(400, s.member("PUT", &path, json!({ "attachment": { "connector": { "host": "h" } } })).await);
    assert!(said.contains("which only hosts of this cloud reach"), "{said}");
    expect(204, s.member("POST", &format!("{path}/action"), json!({ "os-complete": {} })).await);
    assert_eq!(s.status(&id).await, "in-use");
    let list = expect(200, s.member("GET", &format!("/attachments/detail?volume_id={id}"), Value::Null).await);
    let page = expect(200, s.member("GET", "/attachments/detail?limit=1", Value::Null).await);
    assert!(page["attachments_links"][0]["href"].as_str().unwrap().contains("/attachments/detail?"));
    assert_eq!((&list["attachments"][0]["status"], &list["attachments"][0]["connection_info"]), (&json!("attached"), &json!({})));
    assert_eq!(expect(200, s.member("DELETE", &path, Value::Null).await), json!({ "attachments": [] }));
    assert_eq!(s.status(&id).await, "available");
    s.minor = 26;
    expect(404, s.member("POST", "/attachments", wish).await);
}
