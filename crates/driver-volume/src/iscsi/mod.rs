//! Pools of LUNs: raw files on one host, served by Debian's user-space target and reached from all by QEMU's own client.
//!
//! ```text
//! DIR/...                     as in a pool of files, all raw
//! DIR/.unkai-mailbox          how other hosts ask for what is to be done there, served as a LUN too
//! DIR/volumes/VOLUME/served   the name it was last served under
//!
//! IQN:VOLUME:GENERATION       a volume, as the holder of that generation knows it; IQN:VOLUME:all when several servers write it
//! IQN:VOLUME:draft, :snap:ID  for who copies
//! ```
//!
//! The host that has the portal's address serves; it starts `tgtd`, which goes on without the agent, and starts it again when it is gone:
//! those who had a volume find it under the same name. **Fencing** takes the name away: sessions are closed and none is let in again, so an older
//! server's I/O waits for ever. Volumes that several servers share are not fenced from each other. Nothing of this
//! survives the host: its volumes are away while it is.
//!
//! A volume is made longer when no server has it open: a LUN keeps the size it was begun to be served with.

mod answer;
mod initiator;
mod mailbox;
mod remote;
mod served;
mod tgt;
mod wire;

use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use answer::Office;
use initiator::Initiator;
use remote::Remote;
use served::Served;
use tgt::Tgt;

use crate::driver::Driver;
use crate::error::{Error, Result};
use crate::files::Files;
use crate::pool::Pool;
use crate::tool::Tools;

/// How often a lock of another host is asked for again.
const RENEW: Duration = Duration::from_secs(15);

/// How a pool of LUNs is reached.
#[derive(Debug, Clone)]
pub struct Iscsi {
    pub portal: String,
    pub iqn: String,
    pub dir: PathBuf,
    pub user: String,
    pub password: String,
}

impl Iscsi {
    pub fn pool(&self, tools: Tools) -> Result<Pool> {
        Ok(Pool::of(self.driver(tools.clone())?.into(), tools))
    }

    /// The driver for this host: the one that serves, when the portal's address is its own.
    fn driver(&self, tools: Tools) -> Result<Box<dyn Driver>> {
        let initiator = self.initiator(&tools)?;
        if is_here(&initiator.portal)? { self.served(tools) } else { Ok(Box::new(Remote::new(initiator))) }
    }

    fn initiator(&self, tools: &Tools) -> Result<Arc<Initiator>> {
        Initiator::new(&self.portal, &self.iqn, &self.user, &self.password, tools.clone()).map(Arc::new)
    }

    fn serving(&self, tools: &Tools) -> Result<Served> {
        plain(&self.dir)?;
        let initiator = self.initiator(tools)?;
        let tgt = Tgt::new(&self.dir, &initiator.portal, &self.user, &self.password);
        Ok(Served { files: Files::new(&self.dir, tools.clone()), dir: self.dir.clone(), tgt, initiator })
    }

    /// It answers other hosts from now on too, once the pool is there.
    fn served(&self, tools: Tools) -> Result<Box<dyn Driver>> {
        let served = self.serving(&tools)?;
        if crate::files::mark::require(&self.dir).is_ok() {
            let office = Office::new(self.serving(&tools)?);
            mailbox::answer(&self.dir, Arc::new(move |ask| office.answer(ask)))?;
        }
        Ok(Box::new(served))
    }
}

fn plain(dir: &Path) -> Result<()> {
    let fits = dir.to_str().is_some_and(|text| !text.contains(',') && !text.chars().any(char::is_control));
    if fits { Ok(()) } else { Err(Error::Invalid(format!("`{}` cannot be the directory of an iSCSI target", dir.display()))) }
}

/// Whether an address is one of this host's: only then can it be listened at.
fn is_here(portal: &str) -> Result<bool> {
    let failed = |e: std::io::Error| Error::Pool(format!("iSCSI portal {portal}: {e}"));
    let addresses: Vec<SocketAddr> = portal.to_socket_addrs().map_err(failed)?.collect();
    Ok(addresses.iter().any(|address| TcpListener::bind((address.ip(), 0)).is_ok()))
}

#[cfg(test)]
mod tests;
