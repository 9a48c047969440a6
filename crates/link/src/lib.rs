//! Controller and agent: mutual TLS, HTTP/2, items down, reports up, byte streams and tunnels.
//!
//! The agent dials; a host needs no open port. One HTTP/2 connection carries:
//!
//! | request | body up | body down |
//! | --- | --- | --- |
//! | `POST /session` | [`report::Up`], a JSON line each | [`item::Down`], a JSON line each |
//! | `GET /images/{id}` | | the bytes of an image that an item of this host names |
//! | `PUT /images/{id}` | the bytes of an image that this host was told to make | |
//! | `POST /tunnels/{id}` | raw bytes | raw bytes |
//! | `POST /renew` | [`enrolment::Renew`] | [`enrolment::Admitted`] |
//! | `POST /enrol` (without a certificate, and only this) | [`enrolment::Enrol`] | [`enrolment::Admitted`] |
//! | `POST /relay/{host}` (only from another controller) | raw bytes | raw bytes of a tunnel to a host that is connected here |
//!
//! What is assigned to a host is a set of items, keyed and complete in themselves. The session sends an item when its content changes, and
//! after a connect everything, then `Synced`: from then on absence counts. What is decided (control) and what is done (host) is not here.
//! The functions take any byte stream, so the same code runs over TLS and in memory.

pub mod ca;
pub mod client;
pub mod enrolment;
mod interests;
pub mod item;
pub mod migration;
pub mod peers;
pub mod report;
pub mod server;
pub mod tls;
pub mod volume;
mod wire;

/// The application protocol in the TLS handshake, so that agents share the port of the APIs.
pub const ALPN: &[u8] = b"unkai-link/1";
