//! The API of identity in process: real store, real tokens, the cheapest hash.

mod harness;
mod login;
