//! Tokens for consoles: random, kept as a hash, good for ten minutes, and only for a console of one server.

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use unkai_model::compute::{ConsoleKind, ConsoleToken, Server};
use unkai_model::{Id, Meta, Timestamp};
use unkai_store::{Tx, View};

use crate::Fault;

const LIFE: Duration = Duration::from_secs(600);

fn id(token: &str) -> Id<ConsoleToken> {
    Id::new(hex::encode(Sha256::digest(token.as_bytes())))
}

/// A new token; those that expired go on the way.
pub fn issue(tx: &mut Tx, server: &Id<Server>, console: ConsoleKind) -> Result<String, Fault> {
    let now = tx.now();
    let expired: Vec<_> = tx.all::<ConsoleToken>().filter(|token| token.expires <= now).map(|token| token.meta.id.clone()).collect();
    for token in expired {
        tx.delete(&token)?;
    }
    let token = hex::encode(tx.random::<24>());
    tx.insert(ConsoleToken { meta: Meta::new(id(&token)), server: server.clone(), console, expires: now + LIFE })?;
    Ok(token)
}

/// The live server and the console that a token opens.
pub fn redeem(view: &View, token: &str, now: Timestamp) -> Option<(Arc<Server>, ConsoleKind)> {
    let found = view.get(&id(token)).filter(|token| now < token.expires)?;
    let server = view.get(&found.server).filter(|server| server.is_live())?;
    Some((server, found.console))
}
