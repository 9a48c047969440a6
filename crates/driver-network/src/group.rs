//! Security groups: kept once for the driver, installed in every network that has a port using them.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, PoisonError},
};

use ipnet::IpNet;

use crate::{
    Driver, Result,
    network::Network,
    nft,
    policy::Groups,
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
    /// Something that was allowed may not be any more.
    pub tightened: bool,
}

impl Driver {
    /// Rules and members of a group; takes effect in every network here that has a port in it.
    pub async fn apply_group(&self, spec: &GroupSpec) -> Result<()> {
        {
            let mut groups = self.0.groups.write().unwrap_or_else(PoisonError::into_inner);
            if groups.get(&spec.id).is_some_and(|known| **known == *spec) {
                return Ok(());
            }
            groups.insert(spec.id.clone(), Arc::new(spec.clone()));
        }
        self.spread_groups().await
    }

    /// Forgets a group: ports that still name it get nothing from it.
    pub async fn remove_group(&self, id: &str) -> Result<()> {
        let known = {
            let mut groups = self.0.groups.write().unwrap_or_else(PoisonError::into_inner);
            match groups.get(id) {
                None => return Ok(()),
                // Emptied before it is forgotten: a forgotten group is an unknown one, which denies nothing that is
                // already established.
                Some(known) => {
                    let empty = GroupSpec {
                        rules: Vec::new(),
                        members: Vec::new(),
                        ..GroupSpec::clone(known)
                    };
                    groups.insert(id.to_owned(), Arc::new(empty))
                }
            }
        };
        if known.is_some_and(|k| !k.rules.is_empty() || !k.members.is_empty()) {
            self.spread_groups().await?;
        }
        let mut groups = self.0.groups.write().unwrap_or_else(PoisonError::into_inner);
        groups.remove(id);
        Ok(())
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

    async fn refresh_groups(&self, network: &mut Network) -> Result<()> {
        let change = network.plan_groups(&self.groups());
        if change.batch.is_empty() {
            return Ok(());
        }
        nft::apply(&network.netns, change.batch).await?;
        network.groups = change.installed;
        if change.tightened {
            self.sweep(network).await?;
        }
        Ok(())
    }
}

impl Network {
    /// Pure: compares groups wanted by the ports with what is installed.
    pub fn plan_groups(&self, known: &Groups) -> GroupChange {
        let used: BTreeSet<&String> = self.ports.values().flat_map(|p| &p.security_groups).collect();
        let remotes: BTreeSet<&String> = used
            .iter()
            .filter_map(|id| known.get(*id))
            .flat_map(|group| group.rules.iter().filter_map(|r| r.remote_group.as_ref()))
            .collect();
        let mut change = GroupChange {
            batch: String::new(),
            installed: HashMap::new(),
            tightened: false,
        };
        for id in &remotes {
            change.members(id, known.get(*id), self.groups.get(*id), self.adopted);
        }
        for id in &used {
            change.rules(id, known.get(*id), self.groups.get(*id), self.adopted);
        }
        for (id, old) in &self.groups {
            if old.rules.is_some() && !used.contains(id) {
                change.batch += &nft::group::remove(id);
                change.tightened = true;
            }
        }
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
