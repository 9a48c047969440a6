//! The verbs: placement, what each host is assigned, what reports mean, and the loops that converge.
//!
//! Every decision is a pure function of a view; every act is one transaction that decides again on the newest state, so that any number
//! of controllers may run the same loops. Hosts are reached only through the store and the link.

mod actions;
pub mod assign;
pub mod availability;
mod controller;
pub mod hosts;
mod idle;
pub mod migration;
pub mod placement;
mod reports;
mod retire;
mod router;
pub mod settings;
mod shelve;
pub mod volume;

pub use controller::{Controller, Images, run};
