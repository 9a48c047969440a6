//! Images as resources: what may be said about them, how they are shown, made, found, changed and removed.

pub mod actions;
pub mod create;
pub mod delete;
pub mod fields;
pub mod list;
pub mod patch;
pub mod pointer;
pub mod tags;

pub mod query;
pub mod select;
pub mod show;

pub mod view;
