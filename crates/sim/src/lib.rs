//! Hosts that are not there: they speak the real link with the real controller, and only the machine behind it is imagined.
//!
//! A [`host::Machine`] is what survives its agent: the servers that run on it; a [`storage::Storage`] survives machines. A [`host::Agent`] connects it to a controller, as the
//! real one does, and may die and come back at any moment.

pub mod cloud;
pub mod host;
pub mod pause;
pub mod source;
pub mod storage;
pub mod storm;
pub mod wire;
