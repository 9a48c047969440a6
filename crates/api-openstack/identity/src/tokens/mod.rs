//! Tokens: stateless, sealed under rotating keys, and judged anew against the present state at every use.

pub mod grants;
pub mod keys;
pub mod memory;
pub mod payload;
pub mod session;
