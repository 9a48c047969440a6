//! How requests are read and refusals worded by the services that share one framework in the original: compute and block storage.

pub mod body;
mod fault;
pub mod microversion;
pub mod page;
pub mod policy;
pub mod query;
pub mod schema;

pub use body::Body;
pub use fault::{Fault, no_such_method, no_such_resource};
pub use microversion::{Dialect, Microversion};
pub use query::Query;
