//! Cutting connections that are no longer allowed, behind the back of whoever changed the rules.
//!
//! Listing connections costs the kernel a walk over its whole table (some ten milliseconds whatever is in it), so
//! callers do not wait for it, and requests that come while one walk is under way are served by one more walk, with
//! the newest rules. Rules are in force before a sweep is asked for; a process that dies in between sweeps again when
//! the port or group is applied by its successor.

use std::{
    collections::HashSet,
    mem,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

use crate::{
    Result,
    netns::Netns,
    policy::Judge,
    service::Task,
    sys::conntrack::{self, Flow},
};

/// Time to gather requests that come together.
const GATHER: Duration = Duration::from_millis(5);
const RETRY: Duration = Duration::from_secs(1);

pub(crate) struct Sweeper {
    newest: watch::Sender<Option<Arc<Judge>>>,
    retired: Arc<Mutex<HashSet<IpAddr>>>,
    _task: Task,
}

impl Sweeper {
    pub fn start(netns: Netns, network_id: String) -> Self {
        let (newest, wanted) = watch::channel(None);
        let retired = Arc::new(Mutex::default());
        let task = Task::spawn(work(netns, network_id, wanted, Arc::clone(&retired)));
        Self { newest, retired, _task: task }
    }

    /// Connections `judge` denies are cut soon.
    pub fn request(&self, judge: Judge) {
        self.newest.send_replace(Some(Arc::new(judge)));
    }

    /// The machine that had these addresses is gone: with the next sweep all their connections go.
    pub fn retire(&self, addresses: impl IntoIterator<Item = IpAddr>) {
        lock(&self.retired).extend(addresses);
    }
}

async fn work(netns: Netns, network_id: String, mut wanted: watch::Receiver<Option<Arc<Judge>>>, retired: Arc<Mutex<HashSet<IpAddr>>>) {
    while wanted.changed().await.is_ok() {
        tokio::time::sleep(GATHER).await;
        let Some(judge) = wanted.borrow_and_update().clone() else {
            continue;
        };
        let gone = mem::take(&mut *lock(&retired));
        match sweep(&netns, judge, gone.clone()).await {
            Ok(0) => {}
            Ok(cut) => tracing::info!(network = network_id, cut, "connections no longer allowed were cut"),
            Err(e) => {
                tracing::warn!(network = network_id, error = &e as &dyn std::error::Error, "connections not cut");
                lock(&retired).extend(gone);
                wanted.mark_changed();
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

async fn sweep(netns: &Netns, judge: Arc<Judge>, gone: HashSet<IpAddr>) -> Result<usize> {
    netns
        .run("cut connections", move || {
            conntrack::retain(|Flow { original, .. }| {
                let orphan = gone.contains(&original.source) || gone.contains(&original.destination);
                !orphan && judge.stays(original)
            })
        })
        .await
}

fn lock(retired: &Mutex<HashSet<IpAddr>>) -> std::sync::MutexGuard<'_, HashSet<IpAddr>> {
    retired.lock().unwrap_or_else(PoisonError::into_inner)
}
