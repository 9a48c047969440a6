//! Bodies and queries that nobody sane would send: refused, never a fault of ours.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::*;

const COLLECTIONS: [(&str, &str); 9] = [
    ("networks", "network"),
    ("subnets", "subnet"),
    ("ports", "port"),
    ("routers", "router"),
    ("floatingips", "floatingip"),
    ("security-groups", "security_group"),
    ("security-group-rules", "security_group_rule"),
    ("rbac-policies", "rbac_policy"),
    ("subnetpools", "subnetpool"),
];

const ATTRIBUTES: [&str; 40] = [
    "name",
    "description",
    "network_id",
    "subnet_id",
    "cidr",
    "ip_version",
    "gateway_ip",
    "allocation_pools",
    "dns_nameservers",
    "host_routes",
    "enable_dhcp",
    "ipv6_ra_mode",
    "ipv6_address_mode",
    "prefixlen",
    "subnetpool_id",
    "fixed_ips",
    "mac_address",
    "security_groups",
    "allowed_address_pairs",
    "extra_dhcp_opts",
    "dns_name",
    "binding:host_id",
    "binding:profile",
    "device_id",
    "external_gateway_info",
    "routes",
    "floating_network_id",
    "port_id",
    "fixed_ip_address",
    "direction",
    "ethertype",
    "protocol",
    "port_range_min",
    "remote_ip_prefix",
    "security_group_id",
    "prefixes",
    "min_prefixlen",
    "mtu",
    "provider:network_type",
    "provider:segmentation_id",
];

fn leaf() -> impl Strategy<Value = Value> {
    let texts = [
        "",
        "x",
        "0.0.0.0/0",
        "255.255.255.255/32",
        "::/0",
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128",
        "10.0.0.0/31",
        "10.0.0.1",
        "fd00::/64",
        "slaac",
        "flat",
        "vxlan",
        "ingress",
        "IPv6",
        "tcp",
        "255",
        "-1",
        "99999999999999999999",
        "ff:ff:ff:ff:ff:ff",
        "a11ce000000000000000000000000000",
        "\u{0}",
        "ünïcode",
        "*",
    ];
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0i64..140).prop_map(Value::from),
        proptest::sample::select(texts.to_vec()).prop_map(Value::from),
        any::<f64>().prop_map(|n| json!(n)),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let keys = vec![
        "start",
        "end",
        "destination",
        "nexthop",
        "ip_address",
        "subnet_id",
        "mac_address",
        "network_id",
        "enable_snat",
        "opt_name",
        "opt_value",
    ];
    leaf().prop_recursive(3, 12, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(proptest::sample::select(keys.clone()), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())),
        ]
    })
}

fn body() -> impl Strategy<Value = Map<String, Value>> {
    let attributes = proptest::collection::btree_map(proptest::sample::select(ATTRIBUTES.to_vec()), value(), 0..6);
    attributes.prop_map(|map| map.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
}

/// What must be there to get further into the handlers than "required attribute not specified".
async fn material(s: &Site) -> (Map<String, Value>, Vec<(&'static str, &'static str, String)>) {
    let public = public(&s.admin).await;
    let net = network(&s.admin).await;
    let sub = subnet(&s.admin, &net, "10.7.0.0/24").await;
    let port = port(&s.admin, &net).await;
    let router = create(&s.admin, "routers", "router", json!({})).await;
    let group = create(&s.admin, "security-groups", "security_group", json!({"name": "g"})).await;
    let given = json!({"network_id": net["id"], "floating_network_id": public["id"], "security_group_id": group["id"], "ip_version": 4,
        "direction": "ingress", "cidr": "10.8.0.0/24", "name": "n", "prefixes": ["10.0.0.0/8"]});
    let present = [
        ("networks", "network", &net),
        ("subnets", "subnet", &sub),
        ("ports", "port", &port),
        ("routers", "router", &router),
        ("security-groups", "security_group", &group),
    ];
    (given.as_object().unwrap().clone(), present.map(|(p, o, v)| (p, o, id(v).to_owned())).into())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_body_is_a_fault_of_ours(bodies in proptest::collection::vec(body(), 8)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let s = site();
            let (given, present) = material(&s).await;
            for body in &bodies {
                for (path, one) in COLLECTIONS {
                    let mut full = body.clone();
                    for (key, value) in &given {
                        let fits = match key.as_str() {
                            "network_id" => matches!(path, "subnets" | "ports"),
                            "floating_network_id" => path == "floatingips",
                            "security_group_id" | "direction" => path == "security-group-rules",
                            "ip_version" | "cidr" => path == "subnets",
                            "prefixes" => path == "subnetpools",
                            _ => matches!(path, "networks" | "subnetpools"),
                        };
                        if fits {
                            full.entry(key.clone()).or_insert(value.clone());
                        }
                    }
                    let answer = s.admin.call("POST", &format!("/v2.0/{path}"), json!({one: full})).await;
                    assert!(answer.status < 500, "POST {path} {full:?}: {} {}", answer.status, answer.body);
                }
                for (path, one, id) in &present {
                    let answer = s.admin.call("PUT", &format!("/v2.0/{path}/{id}"), json!({*one: body})).await;
                    assert!(answer.status < 500, "PUT {path} {body:?}: {} {}", answer.status, answer.body);
                }
            }
        });
    }

    #[test]
    fn no_query_is_a_fault_of_ours(text in "[a-z_&=%0-9:,-]{0,60}") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let s = site();
            network(&s.alice).await;
            for (path, _) in COLLECTIONS {
                let answer = s.alice.get(&format!("/v2.0/{path}?{text}")).await;
                assert!(answer.status < 500, "GET {path}?{text}: {}", answer.status);
            }
        });
    }
}
