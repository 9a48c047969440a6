//! Security groups and rules.

use serde_json::{Value, json};

use crate::*;

#[tokio::test]
async fn the_default_group_is_always_there() {
    let s = site();
    let groups = s.alice.get("/v2.0/security-groups").await.body;
    let group = &groups["security_groups"][0];
    assert_eq!((group["name"].as_str(), group["security_group_rules"].as_array().unwrap().len()), (Some("default"), 4));
    let path = format!("/v2.0/security-groups/{}", id(group));
    assert_eq!(refusal(&s.alice.call("DELETE", &path, json!(null)).await), (409, "SecurityGroupCannotRemoveDefault"));
    let again = s.alice.call("POST", "/v2.0/security-groups", json!({"security_group": {"name": "default"}})).await;
    assert_eq!(refusal(&again), (409, "SecurityGroupDefaultAlreadyExists"));
    assert_eq!(refusal(&s.bob.get(&path).await), (404, "SecurityGroupNotFound"));
}

#[tokio::test]
async fn a_new_group_lets_out_and_not_in() {
    let s = site();
    let group = create(&s.alice, "security-groups", "security_group", json!({"name": "web", "description": "d"})).await;
    let rules = group["security_group_rules"].as_array().unwrap();
    assert!(rules.len() == 2 && rules.iter().all(|r| r["direction"] == "egress" && r["protocol"].is_null()));
    assert_eq!((&group["stateful"], &group["shared"]), (&json!(true), &json!(false)));
    let path = format!("/v2.0/security-groups/{}", id(&group));
    let changed = s.alice.call("PUT", &path, json!({"security_group": {"name": "w", "stateful": false}})).await.body;
    assert_eq!((&changed["security_group"]["name"], &changed["security_group"]["stateful"]), (&json!("w"), &json!(false)));
    assert_eq!(s.alice.call("DELETE", &path, json!(null)).await.status, 204);
    assert_eq!(s.alice.get(&format!("/v2.0/security-group-rules/{}", id(&rules[0]))).await.status, 404);
}

#[tokio::test]
async fn rules_are_checked_one_by_one() {
    let s = site();
    let group = create(&s.alice, "security-groups", "security_group", json!({"name": "g"})).await;
    let rule = |body: Value| {
        let mut full = json!({"security_group_id": group["id"], "direction": "ingress"});
        full.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
        s.alice.call("POST", "/v2.0/security-group-rules", json!({"security_group_rule": full}))
    };
    let good = [
        json!({"protocol": "tcp", "port_range_min": 22, "port_range_max": 22}),
        json!({"protocol": 17}),
        json!({"protocol": "icmp", "port_range_min": 8, "port_range_max": 0}),
        json!({"protocol": "icmp", "port_range_min": 11}),
        json!({"protocol": "icmpv6", "ethertype": "IPv6"}),
        json!({"ethertype": "ipv6", "remote_ip_prefix": "fd00::/8"}),
        json!({"protocol": "tcp", "port_range_min": "80", "port_range_max": "81", "remote_group_id": group["id"]}),
        json!({"protocol": "112"}),
    ];
    for body in good {
        let answer = rule(body.clone()).await;
        assert_eq!(answer.status, 201, "{body}: {}", answer.body);
    }
    let bad = [
        (json!({"protocol": "tcp", "port_range_min": 22, "port_range_max": 22}), (409, "SecurityGroupRuleExists")),
        (
            json!({"protocol": "6", "port_range_min": 22, "port_range_max": 22, "remote_ip_prefix": "0.0.0.0/0"}),
            (409, "SecurityGroupRuleExists"),
        ),
        (json!({"protocol": "bad_protocol_name"}), (400, "SecurityGroupRuleInvalidProtocol")),
        (json!({"protocol": "tcp", "port_range_min": 80, "port_range_max": 65536}), (400, "SecurityGroupInvalidPortValue")),
        (json!({"protocol": "tcp", "port_range_min": -16, "port_range_max": 80}), (400, "SecurityGroupInvalidPortValue")),
        (json!({"protocol": "tcp", "port_range_min": 80, "port_range_max": 79}), (400, "SecurityGroupInvalidPortRange")),
        (json!({"protocol": "tcp", "port_range_min": null, "port_range_max": 6}), (400, "SecurityGroupInvalidPortRange")),
        (json!({"protocol": "icmp", "port_range_min": 1, "port_range_max": 256}), (400, "SecurityGroupInvalidIcmpValue")),
        (json!({"protocol": "icmp", "port_range_min": null, "port_range_max": 6}), (400, "SecurityGroupMissingIcmpType")),
        (json!({"port_range_min": 1, "port_range_max": 2}), (400, "SecurityGroupProtocolRequiredWithPorts")),
        (json!({"remote_ip_prefix": "bad_prefix"}), (400, "InvalidCIDR")),
        (json!({"remote_ip_prefix": "fd00::/8"}), (400, "SecurityGroupRuleParameterConflict")),
        (json!({"ethertype": "bad"}), (400, "HTTPBadRequest")),
        (json!({"remote_group_id": "no-such-group"}), (404, "SecurityGroupNotFound")),
        (json!({"remote_ip_prefix": "10.0.0.0/8", "remote_group_id": group["id"]}), (400, "SecurityGroupRemoteGroupAndRemoteIpPrefix")),
        (json!({"security_group_id": "no-such-group"}), (404, "SecurityGroupNotFound")),
        (json!({"direction": "sideways"}), (400, "HTTPBadRequest")),
    ];
    for (body, expected) in bad {
        assert_eq!(refusal(&rule(body.clone()).await), expected, "{body}");
    }
}

#[tokio::test]
async fn groups_in_use_stay() {
    let s = site();
    let net = network(&s.alice).await;
    subnet(&s.alice, &net, "10.0.0.0/24").await;
    let (g, h) = (
        create(&s.alice, "security-groups", "security_group", json!({"name": "g"})).await,
        create(&s.alice, "security-groups", "security_group", json!({"name": "h"})).await,
    );
    let port = create(&s.alice, "ports", "port", json!({"network_id": net["id"], "security_groups": [g["id"]]})).await;
    let remote = json!({"security_group_id": g["id"], "direction": "ingress", "remote_group_id": h["id"]});
    create(&s.alice, "security-group-rules", "security_group_rule", remote).await;
    let delete = |v: &Value| format!("/v2.0/security-groups/{}", id(v));
    assert_eq!(refusal(&s.alice.call("DELETE", &delete(&g), json!(null)).await), (409, "SecurityGroupInUse"));
    // Being named by a rule of another group does not keep a group: that rule goes with it.
    assert_eq!(s.alice.call("DELETE", &delete(&h), json!(null)).await.status, 204);
    let rules = s.alice.get(&format!("/v2.0/security-group-rules?security_group_id={}", id(&g))).await;
    assert!(rules.body["security_group_rules"].as_array().unwrap().iter().all(|rule| rule["remote_group_id"].is_null()));
    s.alice.call("DELETE", &format!("/v2.0/ports/{}", id(&port)), json!(null)).await;
    assert_eq!(s.alice.call("DELETE", &delete(&g), json!(null)).await.status, 204);
    let foreign = json!({"port": {"network_id": net["id"], "security_groups": [ALICE]}});
    assert_eq!(refusal(&s.alice.call("POST", "/v2.0/ports", foreign).await), (404, "SecurityGroupNotFound"));
}
