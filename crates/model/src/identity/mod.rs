//! Identity: who may ask.

mod project;

pub use project::Project;
