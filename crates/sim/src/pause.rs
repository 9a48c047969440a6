//! Processes that are stopped for a while, as by SIGSTOP: they do nothing, notice nothing, and go on where they were.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use unkai_link::enrolment::Enrol;
use unkai_link::item::{HostId, Item};
use unkai_link::report::{Inventory, Up};
use unkai_link::server::{BoxFuture, Bytes, Control};
use unkai_model::image::Image;
use unkai_model::{Error, Id};
use unkai_store::View;

/// Open while the process runs. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Gate(Arc<watch::Sender<bool>>);

impl Default for Gate {
    fn default() -> Self {
        Gate(Arc::new(watch::Sender::new(true)))
    }
}

impl Gate {
    pub fn close(&self) {
        self.0.send_replace(false);
    }

    pub fn open(&self) {
        self.0.send_replace(true);
    }

    pub fn is_open(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it is open.
    pub async fn pass(&self) {
        self.is(true).await;
    }

    async fn is(&self, open: bool) {
        // The sender is this gate's own: it lives as long as the wait.
        let _ = self.0.subscribe().wait_for(|now| *now == open).await;
    }

    /// Work that goes on only while the gate is open.
    pub async fn hold<T>(self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            self.pass().await;
            tokio::select! {
                biased;
                () = self.is(false) => {}
                result = &mut work => return result,
            }
        }
    }
}

/// The control of a process that may be stopped: whatever reaches it then is dealt with when it goes on, late.
pub struct Held {
    pub control: Arc<dyn Control>,
    pub gate: Gate,
}

impl Held {
    /// A process may be stopped before it acts, and before it says so.
    async fn act<T>(&self, work: impl Future<Output = T>) -> T {
        self.gate.pass().await;
        let result = work.await;
        self.gate.pass().await;
        result
    }
}

impl Control for Held {
    fn assigned(&self, view: &View, host: &HostId) -> Vec<Item> {
        self.control.assigned(view, host)
    }

    fn process(&self) -> &str {
        self.control.process()
    }

    fn hello(&self, host: HostId, inventory: Inventory) -> BoxFuture<'_, Result<u64, Error>> {
        Box::pin(self.act(self.control.hello(host, inventory)))
    }

    fn report(&self, host: HostId, session: u64, reports: Vec<Up>) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.act(self.control.report(host, session, reports)))
    }

    fn enrol(&self, enrol: Enrol) -> BoxFuture<'_, Result<(HostId, u64), Error>> {
        Box::pin(self.act(self.control.enrol(enrol)))
    }

    fn open_image(&self, host: HostId, image: Id<Image>) -> BoxFuture<'_, Result<(Bytes, u64), Error>> {
        Box::pin(self.act(self.control.open_image(host, image)))
    }

    fn take_image(&self, host: HostId, image: Id<Image>, bytes: Bytes) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.act(self.control.take_image(host, image, bytes)))
    }

    fn lease(&self, host: HostId) -> BoxFuture<'_, Result<Duration, Error>> {
        Box::pin(self.act(self.control.lease(host)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn what_is_stopped_goes_on_where_it_was() {
        let gate = Gate::default();
        let began = Instant::now();
        let work = tokio::spawn(gate.clone().hold(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            tokio::time::sleep(Duration::from_secs(2)).await;
            began.elapsed()
        }));
        tokio::task::yield_now().await;
        gate.close();
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!(!work.is_finished());
        gate.open();
        // The first sleep was over meanwhile and is noticed late; the second begins then.
        assert_eq!(work.await.unwrap().as_secs(), 12);
    }
}
