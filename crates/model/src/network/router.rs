//! A router: joins subnets with each other and with an external network.
//!
//! Its interfaces are ports (`device_id` is the router, `device_owner` is [`super::owner::ROUTER_INTERFACE`]); its gateway is a port
//! without a project on the external network.

use serde::{Deserialize, Serialize};

use super::{Network, Port, Route, Standard};
use crate::compute::Host;
use crate::{Derived, Id, Kind, Meta};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Router {
    pub meta: Meta<Router>,
    #[serde(default)]
    pub standard: Standard,
    pub admin_up: bool,
    #[serde(default)]
    pub gateway: Option<RouterGateway>,
    #[serde(default)]
    pub routes: Vec<Route>,
    #[serde(default)]
    pub availability_zone_hints: Vec<String>,
    #[serde(default)]
    pub status: RouterStatus,
}

/// The addresses are those of the port.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RouterGateway {
    pub network: Id<Network>,
    pub port: Id<Port>,
    /// Members without a floating IP leave with the router's address.
    pub snat: bool,
}

/// Written by control.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RouterStatus {
    /// Which host carries it.
    pub host: Option<Id<Host>>,
}

impl Kind for Router {
    const NAME: &'static str = "router";
    crate::meta_accessors!();

    /// Indexes: `project`, `external-network`, `host`, `unplaced`. Tally: `router` by project.
    fn derive(&self, d: &mut Derived) {
        super::port::owned(d, Self::NAME, self.meta.project.as_ref());
        if let Some(gateway) = &self.gateway {
            d.index("external-network", &gateway.network);
            d.refers(&gateway.network);
            d.refers(&gateway.port);
        }
        match &self.status.host {
            Some(host) => d.index("host", host),
            None => d.index("unplaced", "yes"),
        }
    }
}
