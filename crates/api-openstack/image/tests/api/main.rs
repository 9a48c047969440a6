//! The dialect against a cloud in memory: real store, real files.

mod authorization;
mod bytes;
mod changes;
mod cloud;
mod imports;
mod lists;
mod members;
mod metadefs;
