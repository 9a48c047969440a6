//! What can go wrong, always with what was attempted on what.

use std::io;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call or a file of the kernel's refused.
    #[error("{what}")]
    Io { what: String, source: io::Error },
    /// The kernel refused a netlink request.
    #[error("{what}")]
    Netlink { what: String, source: rtnetlink::Error },
    /// `nft` refused a batch; nothing of the batch took effect.
    #[error("apply firewall batch in {namespace}: {message}")]
    Nft { namespace: String, message: String },
    /// The network was never applied (or was removed) on this host.
    #[error("network {0} is not present on this host")]
    NoNetwork(String),
    /// `apply_port` for a port whose device does not exist.
    #[error("port {0} has no device on this host")]
    NoPort(String),
    /// The device exists and somebody holds it, most likely a running guest.
    #[error("port {0} is already open")]
    PortBusy(String),
    /// Two different ids fall on the same derived name. See [`crate::names`].
    #[error("{kind} {id} and {other} have the same short name on this host")]
    Collision { kind: &'static str, id: String, other: String },
    #[error("{0}")]
    Invalid(String),
}

impl Error {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
        let what = what.into();
        move |source| Error::Io { what, source }
    }

    pub(crate) fn errno(what: impl Into<String>) -> impl FnOnce(nix::Error) -> Error {
        let what = what.into();
        move |source| Error::Io { what, source: source.into() }
    }

    pub(crate) fn netlink(what: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> Error {
        let what = what.into();
        move |source| Error::Netlink { what, source }
    }
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The errno a netlink request failed with, if it was the kernel that refused.
pub(crate) fn kernel_errno(error: &rtnetlink::Error) -> Option<i32> {
    match error {
        rtnetlink::Error::NetlinkError(message) => Some(-message.raw_code()),
        _ => None,
    }
}
