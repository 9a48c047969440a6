//! What a guest can learn about itself: over HTTP at 169.254.169.254, or from a configuration drive. The same documents both
//! ways, but for the administrator's password, which as in the original only the drive has.
//!
//! Who asks is known by network and source address, which anti-spoofing makes trustworthy. A guest sees its own server and no other.

mod ec2;
mod openstack;
mod service;

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use unkai_link::item::{ServerItem, net};

pub use service::Service;

/// How the documents reach the guest.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Service,
    Drive,
}

/// Everything the documents are made of.
pub struct Guest {
    pub server: ServerItem,
    pub ports: Vec<net::PortSpec>,
    pub networks: Vec<net::NetworkSpec>,
}

impl Guest {
    fn user_data(&self) -> Option<Vec<u8>> {
        let text: String = self.server.guest.user_data.as_ref()?.split_whitespace().collect();
        BASE64.decode(text).ok().filter(|data| !data.is_empty())
    }

    fn password(&self) -> Option<&String> {
        let rescue = self.server.rescue.as_ref().map(|rescue| &rescue.admin_password);
        rescue.or(self.server.guest.admin_password.as_ref())
    }

    /// The network that an address of a port is on, and its subnet.
    fn subnet(&self, port: &net::PortSpec, ip: &net::FixedIp) -> Option<&net::SubnetSpec> {
        let network = self.networks.iter().find(|network| network.id == port.network_id)?;
        network.subnets.iter().find(|subnet| subnet.id == ip.subnet_id)
    }

    fn network(&self, port: &net::PortSpec) -> Option<&net::NetworkSpec> {
        self.networks.iter().find(|network| network.id == port.network_id)
    }
}

/// The files of a configuration drive, by path.
pub fn config_drive(server: &ServerItem, ports: &[net::PortSpec], networks: &[net::NetworkSpec]) -> BTreeMap<String, Vec<u8>> {
    let guest = Guest { server: server.clone(), ports: ports.to_vec(), networks: networks.to_vec() };
    let mut files = BTreeMap::new();
    let contents = openstack::contents(&guest);
    for (no, (_, content)) in contents.iter().enumerate() {
        files.insert(format!("openstack/content/{no:04}"), content.clone());
    }
    for version in openstack::VERSIONS.iter().chain(&["latest"]) {
        for name in openstack::FILES {
            if let Some(content) = openstack::file(&guest, name, Way::Drive) {
                files.insert(format!("openstack/{version}/{name}"), content);
            }
        }
    }
    for version in ["2009-04-04", "latest"] {
        files.insert(format!("ec2/{version}/meta-data.json"), ec2::json(&guest).to_string().into_bytes());
        if let Some(user_data) = guest.user_data() {
            files.insert(format!("ec2/{version}/user-data"), user_data);
        }
    }
    files
}
