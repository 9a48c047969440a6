//! Which hosts are fenced, and when that is done.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;
use unkai_link::item::HostId;
use unkai_model::compute::{Fence, FencedBy, Host, Reachability};
use unkai_model::settings::AvailabilitySettings;
use unkai_model::{Error, Timestamp};
use unkai_store::{Store, Tx, View};

use super::settings;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// No lease of this host is renewed from now on.
    Fence(HostId),
    /// Nothing that needs a lease runs there any more.
    Done(HostId, u64, FencedBy),
}

/// What this controller knows that the store does not.
#[derive(Default)]
pub struct Known {
    /// Since when it has seen each fence.
    fences: HashMap<(HostId, u64), Instant>,
}

impl Known {
    /// Notes the fences of a view; the ages of those that are not done.
    pub fn look(&mut self, view: &View, now: Instant) -> HashMap<HostId, Duration> {
        let open = view.by_index::<Host>("fenced", "yes").filter(|host| !host.is_fenced());
        let open: Vec<_> = open.filter_map(|host| Some((host.meta.id.clone(), host.fence.as_ref()?.number))).collect();
        self.fences.retain(|key, _| open.contains(key));
        open.into_iter().map(|key| (key.0.clone(), now - *self.fences.entry(key).or_insert(now))).collect()
    }
}

/// `silence`: how long each host is known to be silent. `ages`: how long it has known of each fence.
pub fn plan(view: &View, silence: impl Fn(&Host) -> Option<Duration>, ages: &HashMap<HostId, Duration>, now: Timestamp) -> Vec<Action> {
    let settings = settings(view);
    view.all::<Host>().filter_map(|host| judge(&host, silence(&host), ages.get(&host.meta.id).copied(), &settings, now)).collect()
}

fn judge(host: &Host, silence: Option<Duration>, age: Option<Duration>, settings: &AvailabilitySettings, now: Timestamp) -> Option<Action> {
    let id = || host.meta.id.clone();
    match &host.fence {
        None if host.forced_down => Some(Action::Fence(id())),
        // One that has never been heard holds no lease and runs nothing.
        None if host.status.reachability == Reachability::Unknown => None,
        None => (silence? >= settings.silence()).then(|| Action::Fence(id())),
        Some(Fence { done: Some(_), .. }) => None,
        Some(fence) if host.forced_down => Some(Action::Done(id(), fence.number, FencedBy::Operator)),
        Some(fence) => (age? >= settings.longest_lease(now)).then(|| Action::Done(id(), fence.number, FencedBy::Lease)),
    }
}

pub fn act(tx: &mut Tx, actions: &[Action]) -> Result<(), Error> {
    let now = tx.now();
    for action in actions {
        match action {
            Action::Fence(id) => change(tx, id, |host| {
                if host.fence.is_none() {
                    tracing::warn!(host = %host.meta.id, name = host.meta.name, "fenced");
                    host.fences += 1;
                    host.fence = Some(Fence { number: host.fences, since: now, done: None });
                }
            })?,
            Action::Done(id, number, by) => change(tx, id, |host| {
                let open = host.fence.as_mut().filter(|fence| fence.number == *number && fence.done.is_none());
                if let Some(fence) = open {
                    tracing::warn!(host = %host.meta.id, name = host.meta.name, ?by, "nothing that needs a lease runs there any more");
                    fence.done = Some((now, *by));
                }
            })?,
        }
    }
    Ok(())
}

fn change(tx: &mut Tx, id: &HostId, change: impl FnOnce(&mut Host)) -> Result<(), Error> {
    if tx.get(id).is_none() {
        return Ok(());
    }
    tx.update(id, |host: &mut Host| {
        change(host);
        Ok::<_, Error>(())
    })
    .map(drop)
}

/// How long the host, which asks just now, may go on. Reads what every controller has written before this call.
pub async fn grant(store: &Store, id: &HostId) -> Result<Duration, Error> {
    let view = store.read().await?;
    let host = view.require(id)?;
    if host.forced_down {
        return Err(Error::denied(format!("host {} is said to be down", host.meta.name)));
    }
    if host.fence.is_some() {
        let id = id.clone();
        store.transact(move |tx| unfence(tx, &id)).await?;
    }
    Ok(settings(&view).lease())
}

/// A fenced host is heard again.
fn unfence(tx: &mut Tx, id: &HostId) -> Result<(), Error> {
    let host = tx.require(id)?;
    if host.forced_down {
        return Err(Error::denied(format!("host {} is said to be down", host.meta.name)));
    }
    change(tx, id, |host| {
        if host.fence.take().is_some() {
            tracing::info!(host = %host.meta.id, name = host.meta.name, "no longer fenced: it is heard");
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use unkai_model::Meta;

    fn host() -> Host {
        let status = unkai_model::compute::HostStatus { reachability: Reachability::Up, ..Default::default() };
        Host { status, ..Host::new(Meta::new("h"), 1) }
    }

    fn judged(host: &Host, silence: u64, age: Option<u64>) -> Option<Action> {
        let settings = AvailabilitySettings { silence_ms: 5_000, lease_ms: 10_000, ..Default::default() };
        judge(host, Some(Duration::from_millis(silence)), age.map(Duration::from_millis), &settings, Timestamp::from_second(1_000).unwrap())
    }

    #[test]
    fn silence_fences_and_the_longest_lease_ends_it() {
        assert_eq!(judged(&host(), 4_999, None), None);
        assert_eq!(judged(&host(), 5_000, None), Some(Action::Fence("h".into())));
        let fenced = Host { fence: Some(Fence { number: 3, since: Timestamp::UNIX_EPOCH, done: None }), ..host() };
        assert_eq!(judged(&fenced, 60_000, None), None, "a fence that was just seen is not old");
        assert_eq!(judged(&fenced, 60_000, Some(10_000)), None, "its clock may run slow");
        assert_eq!(judged(&fenced, 60_000, Some(10_400)), Some(Action::Done("h".into(), 3, FencedBy::Lease)));
    }

    #[test]
    fn an_operators_word_needs_no_waiting() {
        let down = Host { forced_down: true, ..host() };
        assert_eq!(judged(&down, 0, None), Some(Action::Fence("h".into())));
        let fenced = Host { fence: Some(Fence { number: 1, since: Timestamp::UNIX_EPOCH, done: None }), ..down };
        assert_eq!(judged(&fenced, 0, None), Some(Action::Done("h".into(), 1, FencedBy::Operator)));
    }

    #[test]
    fn a_host_that_was_never_heard_is_not_fenced() {
        let mut unknown = host();
        unknown.status.reachability = Reachability::Unknown;
        assert_eq!(judged(&unknown, 60_000, None), None);
    }
}
