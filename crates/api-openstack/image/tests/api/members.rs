//! Sharing an image.

use serde_json::json;

use crate::cloud::{fixture, id};

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_is_accepted() {
    let f = fixture();
    let image = f.active(json!({}), b"secret").await;
    let members = format!("/v2/images/{image}/members");
    let listed = async |query: &str| f.other.get(&format!("/v2/images{query}")).await.body["images"].as_array().unwrap().len();
    assert_eq!(f.other.get(&format!("/v2/images/{image}")).await.status, 404);
    let made = f.member.call("POST", &members, json!({ "member": "p2" })).await;
    assert_eq!((made.status, &made.body["status"], &made.body["member_id"]), (200, &json!("pending"), &json!("p2")));
    assert_eq!(made.body["image_id"], json!(image));
    assert_eq!(f.member.call("POST", &members, json!({ "member": "p2" })).await.status, 409);
    assert_eq!(f.other.get(&format!("/v2/images/{image}/file")).await.bytes.as_ref(), b"secret");
    assert_eq!((listed("").await, listed("?visibility=shared&member_status=pending").await), (0, 1));
    let own = format!("{members}/p2");
    assert_eq!(f.member.call("PUT", &own, json!({ "status": "accepted" })).await.status, 403, "not the owner's to say");
    assert_eq!(f.other.call("PUT", &own, json!({ "status": "perhaps" })).await.status, 400);
    assert_eq!(f.other.call("PUT", &own, json!({ "status": "accepted" })).await.body["status"], "accepted");
    assert_eq!((listed("").await, listed("?member_status=all").await, listed("?member_status=pending").await), (1, 1, 0));
    assert_eq!(f.member.get(&members).await.body["members"].as_array().unwrap().len(), 1);
    assert_eq!(f.other.call("DELETE", &own, json!(null)).await.status, 403);
    assert_eq!(f.member.call("DELETE", &own, json!(null)).await.status, 204);
    assert_eq!(f.member.call("DELETE", &own, json!(null)).await.status, 404);
    assert_eq!(f.other.get(&format!("/v2/images/{image}")).await.status, 404);
}

#[tokio::test]
async fn a_member_sees_only_itself() {
    let f = fixture();
    let image = id(&f.queued(json!({})).await);
    let members = format!("/v2/images/{image}/members");
    for member in ["p2", "p3"] {
        f.member.call("POST", &members, json!({ "member": member })).await;
    }
    let seen = f.other.get(&members).await.body;
    assert_eq!(seen["members"].as_array().unwrap().len(), 1);
    assert_eq!(seen["members"][0]["member_id"], "p2");
    assert_eq!(f.other.get(&format!("{members}/p3")).await.status, 404);
    assert_eq!(f.other.call("PUT", &format!("{members}/p3"), json!({ "status": "accepted" })).await.status, 404);
    assert_eq!(f.other.call("POST", &members, json!({ "member": "p4" })).await.status, 403);
    assert_eq!(f.reader.get(&format!("{members}/p3")).await.body["status"], "pending");
}

#[tokio::test]
async fn only_shared_images_have_members() {
    let f = fixture();
    let image = id(&f.queued(json!({ "visibility": "private" })).await);
    let members = format!("/v2/images/{image}/members");
    assert_eq!(f.member.call("POST", &members, json!({ "member": "p2" })).await.status, 403);
    assert_eq!(f.member.get(&members).await.status, 403);
    assert_eq!(f.member.get(&format!("{members}/p2")).await.status, 404);
    for body in [json!({}), json!({ "member": "" }), json!({ "member": 1 }), json!([])] {
        assert_eq!(f.member.call("POST", &members, body).await.status, 400);
    }
}
