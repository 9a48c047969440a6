//! The worker of a backup that is to go: it outlives its volume, so it has an item of its own.

use unkai_link::report::Up;
use unkai_link::volume::{BackupItem, BackupReport};
use unkai_model::Error;

use super::act::Volumes;
use super::blocking;
use super::steps::repository_of;
use crate::server::chain;
use crate::worker::Progress;

impl Volumes {
    pub async fn converge_backup(&self, id: &str) -> Result<Progress, Error> {
        let Some(item) = self.servers.desired.backup(id) else { return Ok(Progress::Over) };
        if item.present {
            return Ok(Progress::Settled);
        }
        match remove(&item).await {
            Err(error @ Error::Unavailable(_)) => Err(error),
            result => {
                let fault = result.err().map(|error| chain(&error));
                self.servers.say(Up::Backup(BackupReport { backup: item.id, generation: item.generation, fault })).await;
                Ok(Progress::Settled)
            }
        }
    }
}

async fn remove(item: &BackupItem) -> Result<(), Error> {
    let (repository, id) = (repository_of(&item.repository)?, item.id.clone());
    blocking(format!("removing backup {id}"), move || repository.remove(&id)).await
}
