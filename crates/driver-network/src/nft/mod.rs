//! Firewall batches: built as text by pure functions, applied as one transaction each.
//!
//! Two tables per network namespace, because this has to work where the bridge family cannot track connections:
//!
//! ```text
//!  frame from a port ──► bridge/pre      anti-spoofing of that port (chain a_PORT), packet mark := source port
//!                    ──► inet/pre        rules for what the source may send        (chain e_PORT), by mark
//!                    ──► bridge/across   per copy, per way out: packet mark := destination port
//!                    ──► inet/across     rules for what the destination may receive (chain i_PORT), by mark
//! ```
//!
//! `br_netfilter` carries bridged IP packets through the inet hooks, where connections are tracked. The namespace
//! holds one network, so its connections are that network's. Ports without port security have mark 0 and pass.
//!
//! A port is a few chains and one element in each of a few maps; a group is two chains and its members' sets. So a
//! change to one writes nothing of the others. Every batch is written so that it can be applied to any earlier state
//! of itself: `add` before `flush` or `delete`.

pub mod group;
pub mod network;
pub mod port;
pub mod router;

use std::{
    io::{self, Write as _},
    process::{Command, Stdio},
};

use unkai_crashpoint::point;

use crate::{Error, Result, netns::Netns};

/// Applies a batch in a namespace, all or nothing.
pub async fn apply(netns: &Netns, batch: String) -> Result<()> {
    let refused = netns.run("run nft", move || run(&batch)).await?;
    point("network: rules are written");
    match refused {
        None => Ok(()),
        Some(message) => Err(Error::Nft { namespace: netns.name().to_owned(), message }),
    }
}

/// In the namespace of the calling thread, which the child inherits. Answers what nft complained about, if it did.
pub fn run(batch: &str) -> io::Result<Option<String>> {
    let mut child = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let written = child.stdin.take().expect("stdin was asked to be a pipe").write_all(batch.as_bytes());
    let output = child.wait_with_output()?;
    if output.status.success() {
        return written.map(|()| None);
    }
    Ok(Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

/// `{ a, b, c }`
fn braces<T: std::fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|i| i.to_string()).collect();
    format!("{{ {} }}", items.join(", "))
}
