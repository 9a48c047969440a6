//! The conformance suite: every case runs on every engine.

mod constraints;
mod documents;
mod order;
mod watching;
