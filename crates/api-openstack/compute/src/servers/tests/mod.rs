//! The routes of servers, in process: real store, real handlers, control and agent played by the tests.

mod actions;
mod around;
mod disks;
mod life;
mod list;
mod migrations;
mod proxies;
mod versions;
mod volume_backed;
mod volumes;

/// What a refusal says.
fn message(answer: &unkai_openstack::testing::Answer) -> String {
    answer.body.as_object().and_then(|o| o.values().next()).map_or(String::new(), |v| v["message"].as_str().unwrap_or("").to_owned())
}
