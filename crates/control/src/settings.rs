//! What is set for the cloud as a whole.

use unkai_model::Error;
use unkai_model::settings::Settings;
use unkai_store::Tx;

/// Changes the one document; answers it as it is then.
pub fn change(tx: &mut Tx, change: impl FnOnce(&mut Settings) -> Result<(), Error>) -> Result<Settings, Error> {
    if tx.get(&Settings::the_id()).is_none() {
        tx.insert(Settings::standard())?;
    }
    tx.update(&Settings::the_id(), change).map(|settings| Settings::clone(&settings))
}

/// Changes what is given; answers all of it.
pub fn set(tx: &mut Tx, boot_from_volume: Option<bool>) -> Result<Settings, Error> {
    change(tx, |settings| {
        settings.boot_from_volume = boot_from_volume.unwrap_or(settings.boot_from_volume);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use unkai_store::{Store, System};

    use super::*;

    #[tokio::test]
    async fn settings_that_are_not_named_stay() {
        let store = Store::in_memory(Arc::new(System));
        let body = |tx: &mut Tx| {
            assert!(!set(tx, None)?.boot_from_volume);
            assert!(set(tx, Some(true))?.boot_from_volume);
            crate::availability::set(tx, &crate::availability::Change { silence_ms: Some(9_000), ..Default::default() })?;
            let now = set(tx, None)?;
            Ok::<_, Error>((now.boot_from_volume, now.availability.silence_ms))
        };
        assert_eq!(store.transact(body).await.unwrap(), (true, 9_000));
    }
}
