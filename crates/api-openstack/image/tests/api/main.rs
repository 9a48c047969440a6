//! The dialect against a cloud in memory: real store, real files.

mod bytes;
mod cloud;
mod lists;
