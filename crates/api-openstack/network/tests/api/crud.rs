//! Networks, subnets and ports from birth to death.

use serde_json::json;

use crate::*;

#[tokio::test]
async fn a_network_lives_and_takes_its_subnets_along() {
    let s = site();
    let net = network(&s.alice).await;
    assert_eq!(
        (&net["status"], &net["mtu"], &net["shared"], &net["router:external"]),
        (&json!("ACTIVE"), &json!(1450), &json!(false), &json!(false))
    );
    assert_eq!(net["project_id"], ALICE);
    assert!(net.get("provider:segmentation_id").is_none(), "tenants do not see segments");
    let path = format!("/v2.0/networks/{}", id(&net));
    let changed = s.alice.call("PUT", &path, json!({"network": {"name": "new", "admin_state_up": "False"}})).await;
    assert_eq!((&changed.body["network"]["name"], &changed.body["network"]["admin_state_up"]), (&json!("new"), &json!(false)));
    let sub = subnet(&s.alice, &net, "10.0.0.0/24").await;
    assert_eq!(sub["gateway_ip"], "10.0.0.1");
    assert_eq!(sub["allocation_pools"], json!([{"start": "10.0.0.2", "end": "10.0.0.254"}]));
    assert_eq!(s.alice.get(&path).await.body["network"]["subnets"], json!([sub["id"]]));
    assert!(s.admin.get(&path).await.body["network"]["provider:segmentation_id"].is_number());
    let port = port(&s.alice, &net).await;
    assert_eq!(refusal(&s.alice.call("DELETE", &path, json!(null)).await), (409, "NetworkInUse"));
    assert_eq!(s.alice.call("DELETE", &format!("/v2.0/ports/{}", id(&port)), json!(null)).await.status, 204);
    assert_eq!(s.alice.call("DELETE", &path, json!(null)).await.status, 204);
    assert_eq!(refusal(&s.alice.get(&path).await), (404, "NetworkNotFound"));
    assert_eq!(refusal(&s.alice.get(&format!("/v2.0/subnets/{}", id(&sub))).await), (404, "SubnetNotFound"));
}

#[tokio::test]
async fn a_port_has_what_it_needs() {
    let s = site();
    let net = network(&s.alice).await;
    let sub = subnet(&s.alice, &net, "10.0.0.0/24").await;
    let port =
        create(&s.alice, "ports", "port", json!({"network_id": net["id"], "fixed_ips": [{"ip_address": "10.0.0.77"}], "dns_name": "Web"}))
            .await;
    assert_eq!(port["fixed_ips"], json!([{"subnet_id": sub["id"], "ip_address": "10.0.0.77"}]));
    assert!(port["mac_address"].as_str().unwrap().starts_with("fa:16:3e:"));
    assert_eq!(port["security_groups"].as_array().unwrap().len(), 1);
    assert_eq!((&port["status"], &port["binding:vnic_type"]), (&json!("DOWN"), &json!("normal")));
    assert!(port.get("binding:host_id").is_none());
    assert_eq!(port["dns_assignment"][0]["fqdn"], "web.openstacklocal.");
    let path = format!("/v2.0/ports/{}", id(&port));
    let update = |body| s.alice.call("PUT", &path, json!({"port": body}));
    let changed = update(json!({"fixed_ips": [{"subnet_id": sub["id"]}, {"ip_address": "10.0.0.78"}]})).await.body;
    let addresses: Vec<_> =
        changed["port"]["fixed_ips"].as_array().unwrap().iter().map(|ip| ip["ip_address"].as_str().unwrap().to_owned()).collect();
    assert_eq!(addresses, ["10.0.0.77", "10.0.0.78"]);
    assert_eq!(refusal(&update(json!({"port_security_enabled": false})).await), (409, "PortSecurityPortHasSecurityGroup"));
    let open = update(json!({"port_security_enabled": false, "security_groups": []})).await;
    assert_eq!((open.status, &open.body["port"]["port_security_enabled"]), (200, &json!(false)));
    let pairs = json!({"allowed_address_pairs": [{"ip_address": "10.9.0.0/16"}]});
    assert_eq!(refusal(&update(pairs).await), (409, "AddressPairAndPortSecurityRequired"));
    let shown = s.admin.get(&path).await.body;
    assert_eq!((&shown["port"]["binding:vif_type"], &shown["port"]["binding:host_id"]), (&json!("unbound"), &json!("")));
}

#[tokio::test]
async fn what_is_wrong_is_said_as_the_original_says_it() {
    let s = site();
    let net = network(&s.alice).await;
    let post = |path: &'static str, body| s.alice.call("POST", path, body);
    let bad = post("/v2.0/networks", json!({"network": {"name": "n", "colour": "red"}})).await;
    assert_eq!((bad.status, &bad.body["NeutronError"]["message"]), (400, &json!("Unrecognized attribute(s) 'colour'")));
    assert_eq!(bad.body["NeutronError"]["detail"], "");
    assert_eq!(post("/v2.0/networks", json!({"net": {}})).await.status, 400);
    assert_eq!(post("/v2.0/networks", json!({"network": {"admin_state_up": "perhaps"}})).await.status, 400);
    assert_eq!(post("/v2.0/networks", json!({"network": {"qos_policy_id": null}})).await.status, 400);
    assert_eq!(refusal(&post("/v2.0/networks", json!({"network": {"shared": true}})).await), (403, "PolicyNotAuthorized"));
    assert_eq!(post("/v2.0/networks", json!({"network": {"shared": false}})).await.status, 201);
    assert_eq!(post("/v2.0/networks", json!({"network": {"tenant_id": BOB}})).await.status, 400);
    let sub = |body: serde_json::Value| {
        let mut full = json!({"network_id": net["id"], "ip_version": 4});
        full.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
        post("/v2.0/subnets", json!({"subnet": full}))
    };
    assert_eq!(sub(json!({"cidr": "10.0.0.0/24"})).await.status, 201);
    let overlap = sub(json!({"cidr": "10.0.0.128/25"})).await;
    assert!(overlap.body["NeutronError"]["message"].as_str().unwrap().contains("overlaps with another subnet"), "{}", overlap.body);
    assert_eq!(sub(json!({"cidr": "10.1.0.1/24"})).await.status, 400);
    assert_eq!(sub(json!({"cidr": "fd00::/64"})).await.status, 400);
    assert_eq!(sub(json!({"cidr": "10.1.0.0/24", "gateway_ip": "10.1.0.255"})).await.status, 400);
    let clash = json!({"cidr": "10.1.0.0/24", "gateway_ip": "10.1.0.9", "allocation_pools": [{"start": "10.1.0.5", "end": "10.1.0.20"}]});
    assert_eq!(refusal(&sub(clash).await), (409, "GatewayConflictWithAllocationPools"));
    let outside = json!({"cidr": "10.1.0.0/24", "allocation_pools": [{"start": "10.1.0.5", "end": "10.1.1.20"}]});
    assert_eq!(refusal(&sub(outside).await), (400, "OutOfBoundsAllocationPool"));
    let garbage = s.alice.send("POST", "/v2.0/networks", &[("content-type", "application/json")], b"{".to_vec()).await;
    assert_eq!(garbage.status, 400);
    let path = format!("/v2.0/networks/{}", id(&net));
    assert_eq!(s.alice.call("PUT", &path, json!({"network": {"status": "DOWN"}})).await.status, 400);
    assert_eq!(refusal(&s.alice.get("/v2.0/trunks").await), (404, "HTTPNotFound"));
}

#[tokio::test]
async fn bulk_is_all_or_nothing() {
    let s = site();
    let two = s.alice.call("POST", "/v2.0/networks", json!({"networks": [{"name": "a"}, {"name": "b"}]})).await;
    assert_eq!((two.status, two.body["networks"].as_array().unwrap().len()), (201, 2));
    let net = two.body["networks"][0].clone();
    subnet(&s.alice, &net, "10.0.0.0/24").await;
    let ports =
        json!({"ports": [{"network_id": net["id"], "tags": ["x"]}, {"network_id": net["id"], "fixed_ips": [{"ip_address": "10.99.0.1"}]}]});
    assert_eq!(refusal(&s.alice.call("POST", "/v2.0/ports", ports).await), (400, "InvalidIpForNetwork"));
    let left = s.alice.get(&format!("/v2.0/ports?network_id={}&device_owner=", id(&net))).await;
    assert_eq!(left.body["ports"], json!([]));
}

#[tokio::test]
async fn the_dhcp_port_is_there_and_goes_by_itself() {
    let s = site();
    let net = network(&s.alice).await;
    let sub = subnet(&s.alice, &net, "10.0.0.0/24").await;
    let list = s.alice.get(&format!("/v2.0/ports?network_id={}&device_owner=network:dhcp", id(&net))).await;
    assert_eq!(list.body["ports"][0]["fixed_ips"][0]["ip_address"], "10.0.0.2");
    let path = format!("/v2.0/subnets/{}", id(&sub));
    s.alice.call("PUT", &path, json!({"subnet": {"enable_dhcp": false}})).await;
    let list = s.alice.get(&format!("/v2.0/ports?network_id={}", id(&net))).await;
    assert_eq!(list.body["ports"], json!([]));
}

#[tokio::test]
async fn pools_give_prefixes_and_topologies_use_them() {
    let s = site();
    let bad = s
        .alice
        .call("POST", "/v2.0/subnetpools", json!({"subnetpool": {"name": "p", "prefixes": ["10.0.0.0/16"], "is_default": true}}))
        .await;
    assert_eq!(bad.status, 403);
    let missing = s.alice.get(&format!("/v2.0/auto-allocated-topology/{ALICE}?fields=dry-run")).await;
    assert_eq!(refusal(&missing), (409, "AutoAllocationFailure"));
    let body = json!({"name": "p", "prefixes": ["10.0.0.0/16"], "default_prefixlen": 26, "is_default": true, "shared": true});
    let pool = create(&s.admin, "subnetpools", "subnetpool", body).await;
    let net = network(&s.alice).await;
    let sub = create(&s.alice, "subnets", "subnet", json!({"network_id": net["id"], "ip_version": 4, "subnetpool_id": pool["id"]})).await;
    assert_eq!((&sub["cidr"], &sub["subnetpool_id"]), (&json!("10.0.0.0/26"), &pool["id"]));
    let pool_path = format!("/v2.0/subnetpools/{}", id(&pool));
    assert_eq!(refusal(&s.admin.call("DELETE", &pool_path, json!(null)).await), (400, "SubnetPoolDeleteError"));
    let public = public(&s.admin).await;
    s.admin.call("PUT", &format!("/v2.0/networks/{}", id(&public)), json!({"network": {"is_default": true}})).await;
    let path = format!("/v2.0/auto-allocated-topology/{ALICE}");
    assert_eq!(s.alice.get(&format!("{path}?fields=dry-run")).await.body["auto_allocated_topology"]["id"], "dry-run=pass");
    let first = s.alice.get(&path).await.body;
    assert_eq!(first, s.alice.get(&path).await.body);
    let made = s.alice.get(&format!("/v2.0/subnets?network_id={}", first["auto_allocated_topology"]["id"].as_str().unwrap())).await;
    assert_eq!(made.body["subnets"][0]["cidr"], "10.0.0.64/26");
    assert_eq!(s.alice.call("DELETE", &path, json!(null)).await.status, 204);
    assert_eq!(s.alice.get("/v2.0/routers").await.body["routers"], json!([]));
}

#[tokio::test]
async fn ipv6_members_make_their_addresses_themselves() {
    let s = site();
    let net = network(&s.alice).await;
    let body =
        json!({"network_id": net["id"], "ip_version": 6, "cidr": "fd00:7::/64", "ipv6_ra_mode": "slaac", "ipv6_address_mode": "slaac"});
    let sub = create(&s.alice, "subnets", "subnet", body).await;
    assert_eq!((&sub["gateway_ip"], &sub["ipv6_ra_mode"]), (&json!("fd00:7::1"), &json!("slaac")));
    let port = create(&s.alice, "ports", "port", json!({"network_id": net["id"], "mac_address": "fa:16:3e:c2:50:c2"})).await;
    assert_eq!(port["fixed_ips"][0]["ip_address"], "fd00:7::f816:3eff:fec2:50c2");
    let mixed = json!({"subnet": {"network_id": net["id"], "ip_version": 6, "cidr": "fd00:8::/64", "ipv6_ra_mode": "slaac", "ipv6_address_mode": "dhcpv6-stateful"}});
    assert_eq!(s.alice.call("POST", "/v2.0/subnets", mixed).await.status, 400);
}

#[tokio::test]
async fn revisions_count_and_are_matched() {
    let s = site();
    let net = network(&s.alice).await;
    let path = format!("/v2.0/networks/{}", id(&net));
    let body = serde_json::to_vec(&json!({"network": {"name": "x"}})).unwrap();
    let with = |revision: u64| {
        let header = format!("revision_number={revision}");
        let (alice, path, body) = (s.alice.clone(), path.clone(), body.clone());
        async move { alice.send("PUT", &path, &[("if-match", &header), ("content-type", "application/json")], body).await }
    };
    let revision = net["revision_number"].as_u64().unwrap();
    let changed = with(revision).await;
    assert_eq!((changed.status, changed.body["network"]["revision_number"].as_u64()), (200, Some(revision + 1)));
    assert_eq!(refusal(&with(revision).await), (412, "RevisionNumberConstraintFailed"));
}

#[tokio::test]
async fn quotas_are_kept_and_shown() {
    let s = site();
    let path = format!("/v2.0/quotas/{ALICE}");
    assert_eq!(s.alice.get(&path).await.body["quota"]["network"], 100);
    assert_eq!(s.alice.call("PUT", &path, json!({"quota": {"network": 5}})).await.status, 403);
    assert_eq!(s.bob.get(&path).await.status, 403);
    assert_eq!(s.admin.call("PUT", &path, json!({"quota": {"network": 1}})).await.body["quota"]["network"], 1);
    assert_eq!(s.admin.call("PUT", &path, json!({"quota": {"elephants": 1}})).await.status, 400);
    network(&s.alice).await;
    let over = s.alice.call("POST", "/v2.0/networks", json!({"network": {}})).await;
    assert_eq!(
        (refusal(&over), &over.body["NeutronError"]["message"]),
        ((409, "OverQuota"), &json!("Quota exceeded for resources: ['network']."))
    );
    let details = s.alice.get(&format!("{path}/details")).await.body;
    assert_eq!(details["quota"]["network"], json!({"limit": 1, "used": 1, "reserved": 0}));
    assert_eq!(s.admin.get("/v2.0/quotas").await.body["quotas"][0]["project_id"], ALICE);
    assert_eq!(s.admin.call("DELETE", &path, json!(null)).await.status, 204);
    assert_eq!(s.alice.get(&format!("{path}/default")).await.body["quota"], s.alice.get(&path).await.body["quota"]);
}
