//! The disks that a new server is to have: what was asked for, in its several forms, and what comes of it.
//!
//! ```text
//! mapping  one disk that was asked for; the forms are read here: version 2, the legacy one, and an image's own
//! merge    the request's and the image's together, and which of them the server starts from
//! plan     what each means in this cloud now: volumes to be made or found, sizes, the local disks
//! make     the volumes and their attachments, in the transaction that makes the server
//! ```

mod make;
mod mapping;
mod merge;
mod plan;

pub use make::make;
pub use mapping::{Form, Mapping};
pub use plan::{Plan, Wish};

use crate::Fault;

/// The refusal of a mapping, with what is wrong.
fn invalid(what: impl std::fmt::Display) -> Fault {
    Fault::bad_request(format!("Block Device Mapping is Invalid: {what}"))
}
