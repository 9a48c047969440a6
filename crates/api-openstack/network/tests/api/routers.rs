//! Routers, gateways, interfaces, static routes and floating IPs.

use serde_json::{Value, json};

use crate::*;

async fn router(client: &Client, public: Option<&Value>) -> Value {
    let info = public.map(|p| json!({"network_id": p["id"]}));
    create(client, "routers", "router", json!({"name": "r", "external_gateway_info": info})).await
}

async fn put(client: &Client, router: &Value, action: &str, body: Value) -> Answer {
    client.call("PUT", &format!("/v2.0/routers/{}{action}", id(router)), body).await
}

#[tokio::test]
async fn a_server_is_reached_from_outside() {
    let s = site();
    let public = public(&s.admin).await;
    let net = network(&s.alice).await;
    let sub = subnet(&s.alice, &net, "10.0.0.0/24").await;
    let port = port(&s.alice, &net).await;
    let inner = router(&s.alice, None).await;
    let interface = put(&s.alice, &inner, "/add_router_interface", json!({"subnet_id": sub["id"]})).await;
    assert_eq!((interface.status, &interface.body["subnet_id"]), (200, &sub["id"]));
    let request = json!({"floatingip": {"floating_network_id": public["id"], "port_id": port["id"]}});
    let unreachable = s.alice.call("POST", "/v2.0/floatingips", request.clone()).await;
    assert_eq!(refusal(&unreachable), (404, "ExternalGatewayForFloatingIPNotFound"));
    let gateway = put(&s.alice, &inner, "", json!({"router": {"external_gateway_info": {"network_id": public["id"]}}})).await;
    assert_eq!(gateway.body["router"]["external_gateway_info"]["enable_snat"], true);
    let floating = create(&s.alice, "floatingips", "floatingip", request["floatingip"].clone()).await;
    assert_eq!((&floating["router_id"], &floating["fixed_ip_address"]), (&inner["id"], &port["fixed_ips"][0]["ip_address"]));
    assert_eq!((&floating["status"], &floating["port_details"]["network_id"]), (&json!("DOWN"), &net["id"]));
    assert_eq!(
        refusal(&put(&s.alice, &inner, "", json!({"router": {"external_gateway_info": {}}})).await),
        (409, "RouterExternalGatewayInUseByFloatingIp")
    );
    let taken = json!({"port": {"network_id": public["id"], "fixed_ips": [{"ip_address": floating["floating_ip_address"]}]}});
    assert_eq!(refusal(&s.admin.call("POST", "/v2.0/ports", taken).await), (409, "IpAddressAlreadyAllocated"));
    let path = format!("/v2.0/floatingips/{}", id(&floating));
    let freed = s.alice.call("PUT", &path, json!({"floatingip": {"port_id": null}})).await;
    assert_eq!((&freed.body["floatingip"]["port_id"], &freed.body["floatingip"]["router_id"]), (&json!(null), &json!(null)));
    assert_eq!(s.alice.call("DELETE", &path, json!(null)).await.status, 204);
    assert_eq!(refusal(&s.alice.call("DELETE", &format!("/v2.0/routers/{}", id(&inner)), json!(null)).await), (409, "RouterInUse"));
    let port_path = format!("/v2.0/ports/{}", interface.body["port_id"].as_str().unwrap());
    assert_eq!(refusal(&s.alice.call("DELETE", &port_path, json!(null)).await), (409, "ServicePortInUse"));
    assert_eq!(put(&s.alice, &inner, "/remove_router_interface", json!({"port_id": interface.body["port_id"]})).await.status, 200);
    assert_eq!(s.alice.call("DELETE", &format!("/v2.0/routers/{}", id(&inner)), json!(null)).await.status, 204);
    assert_eq!(s.admin.get(&format!("/v2.0/ports?network_id={}", id(&public))).await.body["ports"], json!([]));
}

#[tokio::test]
async fn interfaces_are_checked() {
    let s = site();
    let (one, two) = (network(&s.alice).await, network(&s.alice).await);
    let (a, b) = (subnet(&s.alice, &one, "10.0.0.0/24").await, subnet(&s.alice, &two, "10.0.0.0/25").await);
    let r = router(&s.alice, None).await;
    let add = |body| put(&s.alice, &r, "/add_router_interface", body);
    assert_eq!(add(json!({})).await.status, 400);
    assert_eq!(add(json!({"subnet_id": a["id"]})).await.status, 200);
    assert_eq!(refusal(&add(json!({"subnet_id": a["id"]})).await), (400, "BadRequest"));
    assert_eq!(refusal(&add(json!({"subnet_id": b["id"]})).await), (400, "BadRequest"));
    let port = port(&s.alice, &two).await;
    assert_eq!(add(json!({"port_id": port["id"]})).await.status, 400);
    let remove = |body| put(&s.alice, &r, "/remove_router_interface", body);
    assert_eq!(refusal(&remove(json!({"subnet_id": b["id"]})).await), (404, "RouterInterfaceNotFoundForSubnet"));
    assert_eq!(refusal(&remove(json!({"port_id": port["id"]})).await), (404, "RouterInterfaceNotFound"));
    let private = put(&s.alice, &r, "", json!({"router": {"external_gateway_info": {"network_id": one["id"]}}})).await;
    assert_eq!(refusal(&private), (400, "BadRequest"));
    let missing = put(&s.alice, &r, "", json!({"router": {"external_gateway_info": {"network_id": ALICE}}})).await;
    assert_eq!(refusal(&missing), (404, "NetworkNotFound"));
    let foreign = put(&s.bob, &r, "/add_router_interface", json!({"subnet_id": a["id"]})).await;
    assert_eq!(refusal(&foreign), (404, "RouterNotFound"));
}

#[tokio::test]
async fn static_routes_lead_to_neighbours() {
    let s = site();
    let net = network(&s.alice).await;
    let sub = subnet(&s.alice, &net, "10.0.0.0/24").await;
    let r = router(&s.alice, None).await;
    put(&s.alice, &r, "/add_router_interface", json!({"subnet_id": sub["id"]})).await;
    let set = |nexthop: &str| put(&s.alice, &r, "", json!({"router": {"routes": [{"destination": "192.168.0.0/16", "nexthop": nexthop}]}}));
    assert_eq!(refusal(&set("10.9.0.1").await), (400, "InvalidRoutes"));
    assert_eq!(refusal(&set("10.0.0.1").await), (400, "InvalidRoutes"));
    assert_eq!(set("10.0.0.5").await.body["router"]["routes"][0]["nexthop"], "10.0.0.5");
    let held = put(&s.alice, &r, "/remove_router_interface", json!({"subnet_id": sub["id"]})).await;
    assert_eq!(refusal(&held), (409, "RouterInterfaceInUseByRoute"));
    let more = json!({"router": {"routes": [{"destination": "192.0.2.0/24", "nexthop": "10.0.0.6"}]}});
    assert_eq!(put(&s.alice, &r, "/add_extraroutes", more.clone()).await.body["router"]["routes"].as_array().unwrap().len(), 2);
    assert_eq!(put(&s.alice, &r, "/remove_extraroutes", more).await.body["router"]["routes"].as_array().unwrap().len(), 1);
    assert_eq!(put(&s.alice, &r, "", json!({"router": {"routes": null}})).await.body["router"]["routes"], json!([]));
}

#[tokio::test]
async fn snat_and_gateway_addresses_are_for_administrators() {
    let s = site();
    let public = public(&s.admin).await;
    let info = json!({"network_id": public["id"], "enable_snat": false, "external_fixed_ips": [{"ip_address": "203.0.113.99"}]});
    let body = json!({"router": {"external_gateway_info": info}});
    assert_eq!(s.alice.call("POST", "/v2.0/routers", body.clone()).await.status, 403);
    let made = s.admin.call("POST", "/v2.0/routers", body.clone()).await.body;
    let gateway = &made["router"]["external_gateway_info"];
    assert_eq!((&gateway["enable_snat"], &gateway["external_fixed_ips"][0]["ip_address"]), (&json!(false), &json!("203.0.113.99")));
    assert_eq!(s.admin.call("POST", "/v2.0/routers", body).await.status, 409);
}

#[tokio::test]
async fn guests_of_a_network_join_it_beside_its_gateway() {
    let s = site();
    let net = network(&s.alice).await;
    let sub = subnet(&s.alice, &net, "10.0.0.0/24").await;
    let body = json!({"object_type": "network", "object_id": net["id"], "action": "access_as_shared", "target_tenant": BOB});
    create(&s.alice, "rbac-policies", "rbac_policy", body).await;
    let theirs = router(&s.bob, None).await;
    let joined = put(&s.bob, &theirs, "/add_router_interface", json!({"subnet_id": sub["id"]})).await;
    assert_eq!(joined.status, 200, "{}", joined.body);
    let port = s.bob.get(&format!("/v2.0/ports/{}", joined.body["port_id"].as_str().unwrap())).await.body;
    assert_ne!(port["port"]["fixed_ips"][0]["ip_address"], sub["gateway_ip"]);
    let own = router(&s.alice, None).await;
    assert_eq!(put(&s.alice, &own, "/add_router_interface", json!({"subnet_id": sub["id"]})).await.status, 200);
}
