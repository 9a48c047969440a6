//! Imports: `POST /v2/images/{id}/import`, and the tasks that show how they went.

pub mod create_task;
mod download;
mod request;
mod start;
pub mod tasks;

pub use start::import;
