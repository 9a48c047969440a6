//! The OpenStack form: `/openstack/VERSION/meta_data.json` and its siblings.

use serde_json::{Value, json};
use unkai_link::item::net;

use super::{Guest, Way};

/// Versions that clients look for; all have the same content here.
pub const VERSIONS: [&str; 8] =
    ["2012-08-10", "2013-04-04", "2013-10-17", "2015-10-15", "2016-06-30", "2016-10-06", "2017-02-22", "2018-08-27"];
pub const FILES: [&str; 6] = ["meta_data.json", "network_data.json", "password", "user_data", "vendor_data.json", "vendor_data2.json"];

/// One file of a version directory; none when it does not exist for this guest.
pub fn file(guest: &Guest, name: &str, way: Way) -> Option<Vec<u8>> {
    match name {
        "meta_data.json" => Some(meta_data(guest, way).to_string().into_bytes()),
        "network_data.json" => Some(network_data(guest).to_string().into_bytes()),
        "vendor_data.json" | "vendor_data2.json" => Some(b"{}".to_vec()),
        "user_data" => guest.user_data(),
        "password" => Some(Vec::new()),
        _ => None,
    }
}

/// Injected files: path and content.
pub fn contents(guest: &Guest) -> Vec<(String, Vec<u8>)> {
    use base64::Engine;
    let decode = |text: &String| base64::engine::general_purpose::STANDARD.decode(text).ok();
    guest.server.guest.personality.iter().filter_map(|(path, text)| Some((path.clone(), decode(text)?))).collect()
}

fn meta_data(guest: &Guest, way: Way) -> Value {
    let data = &guest.server.guest;
    let domain = guest.networks.first().map(|network| network.dns.domain.as_str()).unwrap_or_default();
    let hostname = if domain.is_empty() { data.hostname.clone() } else { format!("{}.{domain}", data.hostname) };
    let mut meta = json!({
        "uuid": guest.server.id,
        "name": data.name,
        "hostname": hostname,
        "project_id": data.project,
        "availability_zone": data.zone,
        "launch_index": data.launch_index,
        "devices": devices(guest),
        "meta": data.metadata,
    });
    if let Some(key) = &data.public_key {
        let name = data.key_name.clone().unwrap_or_default();
        meta["public_keys"] = json!({name.as_str(): key});
        meta["keys"] = json!([{"name": name, "type": "ssh", "data": key}]);
    }
    if let Some(password) = guest.password().filter(|_| way == Way::Drive) {
        meta["admin_pass"] = json!(password);
    }
    let files: Vec<Value> = contents(guest)
        .iter()
        .enumerate()
        .map(|(no, (path, _))| json!({"path": path, "content_path": format!("/content/{no:04}")}))
        .collect();
    if !files.is_empty() {
        meta["files"] = json!(files);
    }
    meta
}

fn devices(guest: &Guest) -> Vec<Value> {
    let tagged = guest.ports.iter().filter_map(|port| Some((port, guest.server.guest.port_tags.get(&port.id)?)));
    tagged.map(|(port, tag)| json!({"type": "nic", "bus": "pci", "address": "", "mac": port.mac, "tags": [tag]})).collect()
}

/// Links, networks and services as cloud-init reads them.
fn network_data(guest: &Guest) -> Value {
    let mut links = Vec::new();
    let mut networks = Vec::new();
    let mut services: Vec<Value> = Vec::new();
    for port in &guest.ports {
        let link = format!("tap{}", port.id.get(..11).unwrap_or(&port.id));
        let mtu = guest.network(port).map(|network| network.mtu);
        links.push(json!({"id": link, "vif_id": port.id, "type": "bridge", "mtu": mtu, "ethernet_mac_address": port.mac}));
        for ip in &port.fixed_ips {
            let Some(subnet) = guest.subnet(port, ip) else { continue };
            let id = format!("network{}", networks.len());
            networks.push(network(&id, &link, port, ip, subnet));
            services.extend(subnet.dns_servers.iter().map(|address| json!({"type": "dns", "address": address})));
        }
    }
    services.dedup();
    json!({"links": links, "networks": networks, "services": services})
}

fn network(id: &str, link: &str, port: &net::PortSpec, ip: &net::FixedIp, subnet: &net::SubnetSpec) -> Value {
    let v4 = ip.address.is_ipv4();
    let kind = match (v4, subnet.enable_dhcp) {
        (true, true) => "ipv4_dhcp",
        (true, false) => "ipv4",
        (false, _) if subnet.ipv6_address_mode.is_some() => "ipv6_slaac",
        (false, _) => "ipv6",
    };
    let mut network = json!({"id": id, "link": link, "type": kind, "network_id": port.network_id});
    if kind == "ipv4" || kind == "ipv6" {
        let any = if v4 { ("0.0.0.0", "0.0.0.0") } else { ("::", "::") };
        let mut routes: Vec<Value> =
            subnet.gateway.iter().map(|gateway| json!({"network": any.0, "netmask": any.1, "gateway": gateway})).collect();
        routes.extend(subnet.host_routes.iter().map(
            |route| json!({"network": route.destination.network(), "netmask": route.destination.netmask(), "gateway": route.nexthop}),
        ));
        network["ip_address"] = json!(ip.address);
        network["netmask"] = json!(subnet.cidr.netmask());
        network["routes"] = json!(routes);
    }
    network
}
