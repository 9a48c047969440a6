//! The block storage API, as Cinder v3 speaks it.

pub mod verbs;
