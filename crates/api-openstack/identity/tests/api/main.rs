//! The API of identity in process: real store, real tokens, the cheapest hash.

mod at_once;
mod credentials;
mod guarded;
mod harness;
mod login;
mod projects;
mod roles;
mod speed;
