//! Where a server goes, and how.

use unkai_model::compute::{Host, Method, Migration, MigrationKind, MigrationState, Server};
use unkai_model::{Error, Id};
use unkai_store::{Tx, View};

use super::{change, end};
use crate::placement::{Candidate, Claim, NoValidHost, Sight, Want, choose, want_elsewhere};

/// From here on QEMU notes every page that an emulated guest writes while its memory is copied. An older one misses some, and what it
/// sends is damaged.
const NOTES_ALL_WRITES: u64 = 8_002_002;
/// What a host without hardware virtualisation calls its hypervisor.
const EMULATED: &str = "QEMU";

/// How a server leaves this host.
pub fn method(kind: MigrationKind, source: &Host) -> Method {
    if kind != MigrationKind::Live {
        return Method::Cold;
    }
    let status = &source.status;
    if status.hypervisor == EMULATED && status.hypervisor_version < NOTES_ALL_WRITES { Method::StopAndCopy } else { Method::Live }
}

/// Chooses, and charges; or ends the migration with the reasons. The host, if there is one.
pub fn settle(tx: &mut Tx, migration: &Migration) -> Result<Option<Id<Host>>, Error> {
    let view = tx.view();
    let server = view.require(&migration.server)?;
    let source = view.require(&migration.source)?;
    match destination(&view, migration, &server, &source) {
        Ok(host) => {
            let method = method(migration.kind, &source);
            tracing::info!(server = %server.meta.id, from = %source.meta.id, to = %host, ?method, "moves");
            change(tx, &migration.meta.id, |migration| {
                (migration.state, migration.destination, migration.method) = (MigrationState::Preparing, Some(host.clone()), method);
            })?;
            if migration.kind == MigrationKind::Evacuate {
                // Nobody is left there to be asked.
                let chosen = tx.require(&migration.meta.id)?;
                end::with_success(tx, &chosen)?;
            }
            Ok(Some(host))
        }
        Err(none) => {
            tracing::info!(server = %server.meta.id, reason = %none, "cannot move");
            end::without_success(tx, migration, MigrationState::Failed, &none.to_string())?;
            Ok(None)
        }
    }
}

fn destination(view: &View, migration: &Migration, server: &Server, source: &Host) -> Result<Id<Host>, NoValidHost> {
    let hosts: Vec<Candidate> = view
        .all::<Host>()
        .map(|host| {
            let mut candidate = Sight::of(view, server).candidate(&host);
            candidate.closed = candidate.closed.take().or_else(|| unfit(migration.kind, source, &host));
            candidate
        })
        .collect();
    let chosen = choose(&want(view, migration, server), &hosts)?;
    Ok(chosen.id.clone().expect("a candidate from the view has its id"))
}

fn want(view: &View, migration: &Migration, server: &Server) -> Want {
    let mut want = want_elsewhere(view, server);
    want.resources = migration.charge.resources().into_iter().filter(|(_, n)| *n > 0).map(|(class, n)| (class.to_owned(), n)).collect();
    if migration.kind == MigrationKind::Evacuate {
        want.claim = Claim::Failover;
    }
    let host = migration.wish.host.clone();
    if migration.wish.force { Want { forced_host: host, ..want } } else { Want { host, ..want } }
}

/// Why a server of `source` could not go on at `host`.
fn unfit(kind: MigrationKind, source: &Host, host: &Host) -> Option<String> {
    let to = &host.status;
    if source.meta.id == host.meta.id {
        return Some("the server is there now".into());
    }
    if kind == MigrationKind::Evacuate {
        return None;
    }
    if to.underlay.or(to.address).is_none() {
        return Some("no address of it is known".into());
    }
    if kind == MigrationKind::Live { unfit_for_guest(source, host) } else { None }
}

/// A running guest goes on only where its processors and devices are.
fn unfit_for_guest(source: &Host, host: &Host) -> Option<String> {
    let (from, to) = (&source.status, &host.status);
    if from.hypervisor != to.hypervisor || from.cpu_arch != to.cpu_arch {
        return Some(format!("{} on {} cannot continue a guest of {} on {}", to.hypervisor, to.cpu_arch, from.hypervisor, from.cpu_arch));
    }
    if from.hypervisor_version > to.hypervisor_version {
        let [from, to] = [from, to].map(|status| version(status.hypervisor_version));
        return Some(format!("its QEMU {to} is older than the {from} that the guest comes from"));
    }
    if from.hypervisor != EMULATED && from.cpu_model != to.cpu_model {
        return Some(format!("its processors ({}) are not those the guest was started on ({})", to.cpu_model, from.cpu_model));
    }
    None
}

fn version(number: u64) -> String {
    format!("{}.{}.{}", number / 1_000_000, number / 1_000 % 1_000, number % 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use unkai_model::Meta;

    fn host(name: &str, hypervisor: &str, version: u64) -> Host {
        let mut host = Host::new(Meta::new(name), 1);
        host.status.hypervisor = hypervisor.into();
        host.status.hypervisor_version = version;
        host.status.cpu_model = "one".into();
        host.status.address = Some("192.0.2.1".parse().unwrap());
        host
    }

    #[test]
    fn an_emulated_guest_of_an_old_qemu_stands_still_while_it_is_copied() {
        for (hypervisor, version, expected) in [
            ("QEMU", 7_002_022, Method::StopAndCopy),
            ("QEMU", 8_002_001, Method::StopAndCopy),
            ("QEMU", 8_002_002, Method::Live),
            ("QEMU", 10_000_002, Method::Live),
            ("QEMU (KVM)", 7_002_022, Method::Live),
            ("QEMU", 0, Method::StopAndCopy),
        ] {
            assert_eq!(method(MigrationKind::Live, &host("a", hypervisor, version)), expected, "{hypervisor} {version}");
        }
    }

    #[test]
    fn a_guest_goes_on_only_where_it_can() {
        let source = host("a", "QEMU (KVM)", 8_002_002);
        let said = |change: fn(&mut Host)| {
            let mut host = host("b", "QEMU (KVM)", 8_002_002);
            change(&mut host);
            unfit(MigrationKind::Live, &source, &host)
        };
        assert_eq!(said(|_| {}), None);
        assert_eq!(said(|host| host.status.hypervisor_version = 9_000_000), None);
        let refused = |change, part: &str| {
            let text = said(change).unwrap_or_default();
            assert!(text.contains(part), "{text:?} lacks {part:?}");
        };
        refused(|host| host.status.hypervisor_version = 7_002_022, "7.2.22 is older than the 8.2.2");
        refused(|host| host.status.hypervisor = "QEMU".into(), "cannot continue");
        refused(|host| host.status.cpu_model = "two".into(), "(two) are not those");
        refused(|host| host.status.address = None, "no address");
        refused(|host| host.meta.id = Id::new("a"), "is there now");
    }
}
