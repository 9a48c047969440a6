//! The bytes of images over HTTP: upload, staging, download.

pub mod download;
mod range;
pub mod upload;
