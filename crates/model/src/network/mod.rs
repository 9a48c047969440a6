//! Networks and what joins them.

mod port;

pub use port::Port;
