//! One task per item: it acts on the newest wish, tries again after a failure, and ends when nothing is wanted and nothing is left.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use unkai_link::item::ItemKey;
use unkai_model::Error;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What the worker of one item does.
pub trait Work: Send + Sync + 'static {
    /// Makes the machine match the item's present wish (or its absence). Called again after every change and every failure.
    fn converge(&self, key: ItemKey) -> Pin<Box<dyn Future<Output = Result<Progress, Error>> + Send + '_>>;
}

pub enum Progress {
    /// As wanted; wait for the next change.
    Settled,
    /// Nothing is wanted and nothing is left: the worker ends.
    Over,
}

/// The workers that exist.
#[derive(Clone)]
pub struct Workers {
    work: Arc<dyn Work>,
    running: Arc<Mutex<HashMap<ItemKey, Arc<Notify>>>>,
}

impl Workers {
    pub fn new(work: Arc<dyn Work>) -> Self {
        Workers { work, running: Arc::default() }
    }

    /// Something about the item changed: its worker looks, and is made if there is none.
    pub fn wake(&self, key: &ItemKey) {
        let mut running = self.running.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(notify) = running.get(key) {
            return notify.notify_one();
        }
        let notify = Arc::new(Notify::new());
        running.insert(key.clone(), notify.clone());
        tokio::spawn(self.clone().work_on(key.clone(), notify));
    }

    async fn work_on(self, key: ItemKey, notify: Arc<Notify>) {
        let mut pause = FIRST_PAUSE;
        loop {
            let again = match self.work.converge(key.clone()).await {
                Ok(Progress::Over) => {
                    if self.end(&key, &notify) {
                        return;
                    }
                    continue;
                }
                Ok(Progress::Settled) => {
                    pause = FIRST_PAUSE;
                    None
                }
                Err(error) => {
                    tracing::warn!(item = %key, %error, cause = ?std::error::Error::source(&error), "not as wanted; trying again");
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    Some(pause)
                }
            };
            match again {
                None => notify.notified().await,
                Some(after) => drop(tokio::time::timeout(after, notify.notified()).await),
            }
        }
    }

    /// Ends the worker unless it was woken meanwhile.
    fn end(&self, key: &ItemKey, notify: &Notify) -> bool {
        let mut running = self.running.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut woken = std::pin::pin!(notify.notified());
        if woken.as_mut().enable() {
            return false;
        }
        running.remove(key);
        true
    }
}
