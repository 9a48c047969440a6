//! What must be so when nothing fails any more.

use std::collections::BTreeMap;

use tokio::time::Instant;
use unkai_model::Id;
use unkai_model::compute::{Failover, Host, Phase, Run, Server};

use super::{CALM, STEP, Storm, volumes};

/// What is held against every storm, in words.
pub const PROMISES: &[&str] = &[
    "no server with a lease, and none that stays on its host, runs on two machines at any moment",
    "no volume is written to by two servers, and none that runs under a lease is fenced off, at any moment",
    "no address is spoken from by two guests under leases, at any moment",
    "what was acknowledged is in the store, at that generation or a later one",
    "90 s after the last failure every server is as wanted and nothing waits: no fence, failover, deletion or attachment is open",
    "every volume is whole, and what is stored is what there are volumes for",
    "lookups, claims and sums are those of the documents; hosts are charged what their servers take, and no more than they have",
];

impl Storm {
    /// After a calm time nothing waits.
    pub(super) async fn settle(&mut self, when: &str) {
        let end = Instant::now() + CALM;
        loop {
            let unsettled = self.unsettled();
            if unsettled.is_empty() {
                return;
            }
            if Instant::now() >= end {
                let at = self.began.elapsed();
                self.outcome.broken.extend(unsettled.into_iter().map(|what| format!("{when}, at {at:?}: {what}")));
                return;
            }
            tokio::time::sleep(STEP).await;
        }
    }

    /// What is not as wanted, in words.
    fn unsettled(&self) -> Vec<String> {
        let view = self.store.view();
        let running: BTreeMap<Id<Server>, usize> = self.running();
        let mut wrong = Vec::new();
        for (id, generation) in &self.acknowledged {
            let Some(server) = view.get(id).filter(|server| server.meta.generation >= *generation) else {
                wrong.push(format!("the acknowledged generation {generation} of server {id} is lost"));
                continue;
            };
            let count = running.get(id).copied().unwrap_or(0);
            if server.status.host.is_none() && server.status.fault.is_some() {
                // There was no host for it when it was asked for, and its owner was told.
                continue;
            }
            match server.spec.run {
                Run::Running if count != 1 || !server.is_settled() => {
                    let (host, phase) = (&server.status.host, &server.status.observed.phase);
                    wrong.push(format!(
                        "server {id} should run once, runs {count} times; host {host:?}, {phase:?}, {:?}",
                        server.status.fault
                    ));
                }
                Run::Stopped if count != 0 || !matches!(server.status.observed.phase, Phase::Stopped(_)) => {
                    wrong.push(format!("server {id} should be off, runs {count} times"));
                }
                _ => {}
            }
        }
        wrong.extend(
            view.all::<Server>().filter(|s| s.spec.run == Run::Deleted && s.is_live()).map(|s| format!("{} is not gone yet", s.meta.id)),
        );
        wrong.extend(view.all::<Host>().filter(|h| h.fence.is_some()).map(|h| format!("host {} is still fenced", h.meta.id)));
        wrong.extend(view.all::<Failover>().filter(|f| f.is_open()).map(|f| format!("failover {} is open", f.meta.id)));
        wrong.extend(volumes::unsettled(&view, &self.storage));
        wrong
    }

    fn running(&self) -> BTreeMap<Id<Server>, usize> {
        let mut running = BTreeMap::new();
        for (id, _) in self.boxes.iter().flat_map(|one| one.machine.running()) {
            *running.entry(id).or_default() += 1;
        }
        running
    }

    /// The store's sums are those of its documents, and what hosts are charged with is what they have.
    pub(super) fn check_books(&mut self) {
        let view = self.store.view();
        self.outcome.broken.extend(view.check().into_iter().map(|finding| finding.to_string()));
        for host in view.all::<Host>() {
            let id = host.meta.id.as_str();
            let servers = view.by_index::<Server>("host", id);
            let memory: i64 = servers.map(|server| server.spec.launch.flavor.ram_mib as i64).sum();
            let charged = view.tally("MEMORY_MB", id);
            if memory != charged || charged > host.usable("MEMORY_MB") {
                let usable = host.usable("MEMORY_MB");
                self.outcome.broken.push(format!("host {id} is charged {charged} MiB of {usable} for servers of {memory}"));
            }
        }
    }
}
