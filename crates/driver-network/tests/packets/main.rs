//! Real traffic through a real driver: what must pass passes, what must not does not.
//!
//! Every test has its own data-plane namespace and prefix. Guests are namespaces joined by veth pairs in the place of
//! taps; the port's side is the same. Needs root, `nft`, `ip` and `busybox`; says so and passes where they are missing.

mod crashes;
mod groups;
mod hosts;
mod lifecycle;
mod routers;
mod services;
mod spoofing;
mod traffic;
mod world;
