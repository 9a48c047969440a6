//! Security groups: kept once for the driver, installed in every network that has a port using them.

use std::{
    collections::{BTreeSet, HashMap},
    mem, slice,
    sync::{Arc, PoisonError},
};

use ipnet::IpNet;

use crate::{
    Driver, Result,
    network::Network,
    nft,
    policy::Groups,
    port::is_stateless,
    spec::{GroupSpec, Rule},
};

/// What of a group this process has put into one network's tables.
#[derive(Clone, Debug, Default)]
pub(crate) struct Installed {
    pub rules: Option<Arc<GroupSpec>>,
    pub members: Option<Vec<IpNet>>,
}

/// The way from what is installed to what is wanted.
pub(crate) struct GroupChange {
    pub batch: String,
    pub installed: HashMap<String, Installed>,
    /// Groups that were installed and are not named by anything any more.
    pub unused: Vec<String>,
    /// Something that was allowed may not be any more.
    pub tightened: bool,
}

impl Driver {
    /// Rules and members of a group; takes effect in every network here that has a port in it.
    ///
    /// Connections that are not allowed any more are cut some milliseconds later.
    pub async fn apply_group(&self, spec: &GroupSpec) -> Result<()> {
        let spec = Arc::new(spec.clone());
        self.whole(|driver| async move {
            driver.change_groups(|groups| groups.insert(spec.id.clone(), spec));
            driver.spread_groups().await
        })
        .await
    }

    /// Forgets a group: ports that still name it get nothing from it.
    pub async fn remove_group(&self, id: &str) -> Result<()> {
        let id = id.to_owned();
        self.whole(|driver| async move {
            // Emptied before it is forgotten: a forgotten group is an unknown one, which denies nothing that is
            // already established.
            let known = driver.change_groups(|groups| {
                let known = groups.get_mut(&id)?;
                let empty = GroupSpec { rules: Vec::new(), members: Vec::new(), ..GroupSpec::clone(known) };
                *known = Arc::new(empty);
                Some(())
            });
            if known.is_some() {
                driver.spread_groups().await?;
                driver.change_groups(|groups| groups.remove(&id));
            }
            Ok(())
        })
        .await
    }

    fn change_groups<T>(&self, change: impl FnOnce(&mut Groups) -> T) -> T {
        change(&mut self.0.groups.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Brings every network up to date with the groups; networks that use none of what changed are not touched.
    async fn spread_groups(&self) -> Result<()> {
        let mut failed = None;
        for slot in self.0.networks.all() {
            let mut held = slot.lock().await;
            if let Some(network) = held.as_mut()
                && let Err(e) = self.refresh_groups(network).await
            {
                failed = Some(e);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    pub(crate) async fn refresh_groups(&self, network: &mut Network) -> Result<()> {
        let known = self.groups();
        let mut change = network.plan_groups(&known);
        // A port changes with its groups between asking for state and not.
        let turned: Vec<(String, bool)> = network
            .ports
            .values()
            .map(|port| (port, is_stateless(port, &known)))
            .filter(|(port, stateless)| network.stateless.contains(&port.id) != *stateless)
            .map(|(port, stateless)| {
                change.batch += &nft::port::apply(port, stateless);
                (port.id.clone(), stateless)
            })
            .collect();
        if !change.batch.is_empty() {
            nft::apply(&network.netns, mem::take(&mut change.batch)).await?;
        }
        for (port, stateless) in turned {
            match stateless {
                true => network.stateless.insert(port),
                false => network.stateless.remove(&port),
            };
        }
        if change.tightened {
            self.sweep(network);
        }
        network.settle_groups(change).await;
        Ok(())
    }
}

impl Network {
    /// After the batch was applied. What nothing uses any more is deleted, but only if the kernel finds it unused,
    /// too: ports of an earlier driver may still be there and need it.
    pub async fn settle_groups(&mut self, change: GroupChange) {
        self.groups = change.installed;
        let unused = change.unused;
        if unused.is_empty() || nft::apply(&self.netns, nft::group::remove(&unused)).await.is_ok() {
            return;
        }
        for id in unused {
            if let Err(e) = nft::apply(&self.netns, nft::group::remove(slice::from_ref(&id))).await {
                tracing::debug!(network = self.spec.id, group = id, error = %e, "group stays in the tables");
            }
        }
    }

    /// Pure: compares groups wanted by the ports with what is installed.
    pub fn plan_groups(&self, known: &Groups) -> GroupChange {
        let used: BTreeSet<&String> = self.ports.values().flat_map(|p| &p.security_groups).collect();
        let remotes: BTreeSet<&String> = used
            .iter()
            .filter_map(|id| known.get(*id))
            .flat_map(|group| group.rules.iter().filter_map(|r| r.remote_group.as_ref()))
            .collect();
        let mut change = GroupChange { batch: String::new(), installed: HashMap::new(), unused: Vec::new(), tightened: false };
        for id in &remotes {
            change.members(id, known.get(*id), self.groups.get(*id), self.adopted);
        }
        for id in &used {
            change.rules(id, known.get(*id), self.groups.get(*id), self.adopted);
        }
        let unused = self.groups.keys().filter(|id| !used.contains(id) && !remotes.contains(id));
        change.unused = unused.cloned().collect();
        change
    }
}

impl GroupChange {
    fn rules(&mut self, id: &str, new: Option<&Arc<GroupSpec>>, old: Option<&Installed>, adopted: bool) {
        let Some(new) = new else { return };
        let old = old.and_then(|o| o.rules.as_ref());
        match old {
            Some(old) if old.rules == new.rules => {}
            Some(old) => {
                self.batch += &nft::group::rules(new);
                self.tightened |= !covers(&new.rules, &old.rules);
            }
            None => {
                self.batch += &nft::group::rules(new);
                self.tightened |= adopted;
            }
        }
        self.installed.entry(id.to_owned()).or_default().rules = Some(new.clone());
    }

    fn members(&mut self, id: &str, new: Option<&Arc<GroupSpec>>, old: Option<&Installed>, adopted: bool) {
        let Some(new) = new else { return };
        let old = old.and_then(|o| o.members.as_ref());
        match old {
            Some(old) if *old == new.members => {}
            Some(old) => {
                self.batch += &nft::group::change_members(id, old, &new.members);
                self.tightened |= !old.iter().all(|m| new.members.contains(m));
            }
            None => {
                self.batch += &nft::group::all_members(new);
                self.tightened |= adopted;
            }
        }
        self.installed.entry(id.to_owned()).or_default().members = Some(new.members.clone());
    }
}

fn covers(new: &[Rule], old: &[Rule]) -> bool {
    old.iter().all(|rule| new.contains(rule))
}
