//! Foreign disk-image bytes: what a file really is, what it may not be, and conversion in a cage.
//!
//! An uploaded image is a hostile file. Three steps keep it from becoming more than bytes:
//!
//! 1. While it streams in, an [`Inspector`] keeps a bounded part of it (and [`Digests`] hash it); at the end it yields a
//!    [`Report`]: the format found and every reason not to open it.
//! 2. [`check`] compares the report with the declared [`DiskFormat`] and gives an [`Accepted`] or a [`Refusal`].
//! 3. Only an [`Accepted`] can be handed to the [`cage::Cage`], which runs `qemu-img` without privileges, network, memory
//!    or time to spare, and without ever letting it probe a format or open a file by name.
//!
//! Data ownership: this crate owns no stored state. The inspector holds at most [`Inspector::MEMORY`] bytes per upload.
//! If the process dies half way, an upload leaves nothing here; a conversion leaves a `*.part` file beside its output,
//! which [`cage::sweep_partial`] removes.
//!
//! Deliberately not here: guest file systems, decompression of uploads, signatures.

mod bytes;
pub mod cage;
mod check;
mod detect;
mod digest;
mod evidence;
mod findings;
mod format;
mod formats;
mod inspect;
mod policy;
mod problem;

pub use check::{Accepted, Refusal, check};
pub use digest::{Digests, Summary};
pub use format::{Container, Content, Detected, DiskFormat, UnknownDiskFormat};
pub use inspect::{Inspector, Report, inspect_file, inspect_open};
pub use policy::Policy;
pub use problem::{DescriptorFault, Problem};
