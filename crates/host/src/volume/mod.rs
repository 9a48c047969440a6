//! The workers of block storage: pools, volumes, and backups that outlive their volumes.
//!
//! [`plan`] names the next step of a volume, purely, from what is in the pool; [`act`] carries it out and reports. Killed between any two
//! steps or within one, the next agent finds the pool as it is and plans from there. What must go through the QEMU of the server that has
//! a volume does; everything else is the driver's, which lets nobody work on a volume behind a server's back.

mod act;
mod backups;
mod plan;
mod pools;
mod steps;

pub use act::Volumes;
pub use pools::{LOOK, Pools};
pub(crate) use steps::qemu_format;

use unkai_driver_volume as driver;
use unkai_link::volume::Encryption;
use unkai_model::Error;
use unkai_model::volume::Backend;

/// The pool behind a back end.
pub fn pool(backend: &Backend) -> Result<driver::Pool, Error> {
    driver::Pool::open_backend(backend, driver::Tools::default()).map_err(|e| failed("opening a pool")(e))
}

pub fn luks(encryption: &Encryption) -> driver::Luks {
    driver::Luks { cipher: encryption.cipher.clone(), mode: encryption.mode.clone(), passphrase: encryption.passphrase.clone() }
}

/// What passes by itself is waited for.
pub fn failed(what: impl std::fmt::Display) -> impl FnOnce(driver::Error) -> Error {
    let what = what.to_string();
    move |error| match error {
        driver::Error::Pool(_) | driver::Error::Busy(_) | driver::Error::Stopped => Error::unavailable(format!("{what}: {error}")),
        other => Error::caused(what, other),
    }
}

/// Runs what blocks.
pub async fn blocking<T: Send + 'static>(
    what: impl std::fmt::Display,
    work: impl FnOnce() -> driver::Result<T> + Send + 'static,
) -> Result<T, Error> {
    let what = what.to_string();
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(failed(what)),
        Err(error) => Err(Error::caused(what, error)),
    }
}
