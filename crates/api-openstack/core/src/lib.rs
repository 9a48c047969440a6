//! What the OpenStack dialects share: who calls, which routes there are, how times and pages look.
//!
//! Each dialect crate exposes `pub fn routes(cloud: &Cloud) -> Routes`; the binary nests it under its prefix. A handler parses, authorises,
//! runs one store transaction and renders; it never waits for a host, except to carry bytes through a [`Tunnels`].

mod asked;
mod caller;
mod limits;
mod routes;
mod time;
mod tunnel;
pub mod web;

use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;

use unkai_store::Store;

pub use asked::Asked;
pub use caller::{Authenticate, Caller, CallerName, Unauthorized};
pub use limits::quota_limit;
pub use routes::{Access, RequestId, RouteInfo, Routes, request_id};
pub use time::{iso, iso_micros, iso_z};
pub use tunnel::{ByteStream, NoTunnels, Target, Tunnels};

/// What every handler needs. Cheap to clone; the axum state of all dialects.
#[derive(Clone)]
pub struct Cloud(Arc<Parts>);

pub struct Parts {
    pub store: Store,
    pub auth: Arc<dyn Authenticate>,
    pub tunnels: Arc<dyn Tunnels>,
    /// Scheme, host and port under which clients reach this cloud: `https://10.0.0.1:8774`, no slash at the end.
    pub url: String,
    pub region: String,
    /// Where the controller keeps image bytes and other files of its own.
    pub state_dir: PathBuf,
}

impl Cloud {
    pub fn new(parts: Parts) -> Self {
        Cloud(Arc::new(parts))
    }
}

impl Deref for Cloud {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.0
    }
}

#[cfg(feature = "testing")]
pub mod testing;
