//! `/os-services`: the agent of every host as `nova-compute`, and what the controller that answers does itself.
//!
//! A host is enabled and disabled here. Heartbeats are not stored, so a host's `updated_at` is that of its document.

use std::sync::LazyLock;

use aws_lc_rs::digest;
use unkai_model::compute::{Host, Reachability};
use unkai_model::{Id, Timestamp};
use unkai_store::View;

use super::zones::{INTERNAL, zone_of};

mod list;
mod update;

pub use list::routes;

pub const COMPUTE: &str = "nova-compute";

/// One row of the list.
#[derive(Debug, Clone)]
pub struct Service {
    pub id: String,
    /// The id of versions before 2.53.
    pub number: u64,
    pub binary: &'static str,
    pub host: String,
    pub zone: String,
    pub disabled: Option<String>,
    pub up: bool,
    pub forced_down: bool,
    pub updated: Timestamp,
    /// Set for `nova-compute`.
    pub of: Option<Id<Host>>,
}

impl Service {
    pub fn is_enabled(&self) -> bool {
        self.disabled.is_none()
    }
    pub fn status(&self) -> &'static str {
        if self.is_enabled() { "enabled" } else { "disabled" }
    }
    pub fn state(&self) -> &'static str {
        if self.up { "up" } else { "down" }
    }
    /// Disabled without a reason says nothing.
    pub fn reason(&self) -> Option<&str> {
        self.disabled.as_deref().filter(|reason| !reason.is_empty())
    }

    pub fn compute(view: &View, host: &Host) -> Self {
        Service {
            id: host.meta.id.to_string(),
            number: host.number,
            binary: COMPUTE,
            host: host.meta.name.clone(),
            zone: zone_of(view, &host.meta.id),
            disabled: host.disabled.clone(),
            up: host.is_up(),
            forced_down: host.forced_down,
            updated: host.meta.updated,
            of: Some(host.meta.id.clone()),
        }
    }

    /// A role of this process, which is up because it answers.
    fn own(binary: &'static str) -> Self {
        let (id, number) = made_up_id(&format!("{binary}@{}", *CONTROLLER));
        Service {
            id,
            number,
            binary,
            host: CONTROLLER.clone(),
            zone: INTERNAL.into(),
            disabled: None,
            up: true,
            forced_down: false,
            updated: Timestamp::now(),
            of: None,
        }
    }
}

/// The name of the machine that this controller runs on.
static CONTROLLER: LazyLock<String> = LazyLock::new(|| {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "controller".into() } else { name.into() }
});

/// A UUID and a number that are always the same for a name.
pub fn made_up_id(name: &str) -> (String, u64) {
    let digest = digest::digest(&digest::SHA256, name.as_bytes());
    let bytes: [u8; 16] = digest.as_ref()[..16].try_into().expect("a SHA-256 digest has 32 bytes");
    let number = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) >> 1;
    (uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string(), u64::from(number))
}

/// All services: of hosts by name, then the controller's.
pub fn services(view: &View) -> Vec<Service> {
    let mut list: Vec<_> = hosts(view).iter().map(|host| Service::compute(view, host)).collect();
    list.extend(["nova-scheduler", "nova-conductor"].map(Service::own));
    list
}

/// Hosts that are or were there, by name.
pub fn hosts(view: &View) -> Vec<std::sync::Arc<Host>> {
    let mut hosts: Vec<_> = view.all::<Host>().collect();
    hosts.sort_by(|a, b| a.meta.name.cmp(&b.meta.name));
    hosts
}

/// A host that was never heard of since it was declared is not removed by a careless call; one that is connected would come back.
pub fn is_connected(host: &Host) -> bool {
    matches!(host.status.reachability, Reachability::Up | Reachability::Suspect)
}
