//! The bytes of images: files in one directory of the controller, written once and never changed.
//!
//! [`ImageFiles`] knows files and nothing of documents; [`Images`] joins both, and is what everyone else uses: the HTTP handlers, the
//! link server on behalf of agents, imports. Which file belongs to which image is said only by the image's document; so after a crash
//! at any point a file is either named by a document, and then complete and durable, or garbage that [`Images::recover`] removes.

mod error;
mod files;
mod images;
mod lane;
mod reader;
mod receiving;
mod sinks;
mod upload;

pub use error::BytesError;
pub use files::{FileLimits, ImageFiles};
pub use images::Images;
pub use reader::FileStream;
pub use receiving::Receiving;
pub use upload::{Placed, Upload};
