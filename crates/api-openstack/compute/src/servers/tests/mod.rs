//! The routes of servers, in process: real store, real handlers, control and agent played by the tests.

mod actions;
mod around;
mod life;
mod list;
mod migrations;
mod proxies;
mod versions;
