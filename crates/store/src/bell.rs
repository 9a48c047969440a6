//! How those who wait hear that there is a newer view: in the order in which they came to wait, so that a simulation is the same each time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

#[derive(Default)]
pub(crate) struct Bell {
    notify: Notify,
    over: AtomicBool,
}

impl Bell {
    /// Asks now and each time it rings until there is an answer; none when it will not ring any more. Cancel safe.
    pub async fn until<T>(&self, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
        let mut told = std::pin::pin!(self.notify.notified());
        loop {
            // Before asking, or what comes in between is missed.
            told.as_mut().enable();
            if let Some(answer) = ask() {
                return Some(answer);
            }
            if self.over.load(Ordering::Acquire) {
                return None;
            }
            told.as_mut().await;
            told.set(self.notify.notified());
        }
    }
}

/// The writer's end. Dropped, it never rings again.
pub(crate) struct Ringer(pub Arc<Bell>);

impl Ringer {
    pub fn ring(&self) {
        self.0.notify.notify_waiters();
    }
}

impl Drop for Ringer {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Release);
        self.ring();
    }
}
