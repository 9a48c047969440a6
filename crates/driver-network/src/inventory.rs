//! What is on this machine under our prefix, whoever made it.

use futures_util::future::try_join_all;
use serde::Serialize;

use crate::{Driver, Result, names, netns::Netns, sys::Link};

/// Ids are the full ones where a device tells them or this driver was told them, else (half made by a driver that was
/// killed) the short ones names are made of: the last twelve, of ports ten, letters and digits. Either works as an
/// argument of the `remove_*` calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Found {
    pub networks: Vec<FoundNetwork>,
    pub routers: Vec<String>,
    /// Physical names of external bridges.
    pub externals: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FoundNetwork {
    pub id: String,
    pub ports: Vec<String>,
}

impl Driver {
    pub async fn inventory(&self) -> Result<Found> {
        let mut found = Found::default();
        let prefix = self.0.names.network_prefix();
        for name in Netns::list(&prefix)? {
            let links = links_of(&name).await?;
            let bridge = links.iter().find(|l| l.name == names::BRIDGE);
            let ports = links.iter().filter(|l| l.name.starts_with(names::TAP));
            found.networks.push(FoundNetwork {
                id: told(bridge)
                    .or_else(|| self.0.networks.full_id(&name[prefix.len()..]))
                    .unwrap_or_else(|| name[prefix.len()..].to_owned()),
                ports: ports.map(|l| told(Some(l)).unwrap_or_else(|| l.name[names::TAP.len()..].to_owned())).collect(),
            });
        }
        let prefix = self.0.names.router_prefix();
        for name in Netns::list(&prefix)? {
            let links = links_of(&name).await?;
            let lo = links.iter().find(|l| l.name == "lo");
            let short = &name[prefix.len()..];
            let id = told(lo).or_else(|| self.0.routers.full_id(short));
            found.routers.push(id.unwrap_or_else(|| short.to_owned()));
        }
        let outer = self.0.dataplane.links().await?.all().await?;
        found.externals = outer
            .iter()
            .filter_map(|l| {
                let physical = l.alias.as_deref().unwrap_or_default();
                (l.name == self.0.names.external(physical)).then(|| physical.to_owned())
            })
            .collect();
        Ok(found)
    }

    /// Removes everything under the prefix, and the data-plane namespace if it has a name of its own.
    pub async fn remove_all(&self) -> Result<()> {
        let found = self.inventory().await?;
        let routers = found.routers.iter().map(|id| self.remove_router(id));
        try_join_all(routers).await?;
        let networks = found.networks.iter().map(|network| self.remove_network(&network.id));
        try_join_all(networks).await?;
        for physical in &found.externals {
            self.remove_external(physical).await?;
        }
        match &self.0.config.dataplane_netns {
            Some(name) => Netns::remove(name),
            None => Ok(()),
        }
    }
}

async fn links_of(name: &str) -> Result<Vec<Link>> {
    match Netns::open(name)? {
        Some(netns) => netns.links().await?.all().await,
        // A name without a namespace: killed while it was made, or while it was removed.
        None => Ok(Vec::new()),
    }
}

fn told(link: Option<&Link>) -> Option<String> {
    link.and_then(|l| l.alias.clone())
}
