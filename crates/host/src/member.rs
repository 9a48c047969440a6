//! This machine's membership of a cloud: key, certificate, the cloud's CA and its controllers, kept below the agent's directory.
//!
//! Joining spends a token once; afterwards the certificate speaks, and is renewed when two thirds of its life are over, with a new key.
//! What is on the disk is replaced whole, so a crash leaves the old membership or the new one. An agent that dies between the spent
//! token and the disk needs another token.

use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use unkai_link::ca::Identity;
use unkai_link::client::Link;
use unkai_link::enrolment::{self, Admitted, Enrol, Renew, Token};
use unkai_link::item::HostId;
use unkai_link::tls;
use unkai_model::Error;

use crate::dial::{Membership, connect};
use crate::ledger::Ledger;

#[derive(Clone, Serialize, Deserialize)]
struct Papers {
    host: HostId,
    name: String,
    key: String,
    certificate: String,
    authority: String,
    renew: Timestamp,
    controllers: Vec<String>,
}

pub struct Member {
    papers: Mutex<Papers>,
    ledger: Ledger,
}

fn ledger(dir: &Path) -> Result<Ledger, Error> {
    // Only this directory is closed: users of QEMU pass through those above.
    let made = std::fs::create_dir_all(dir);
    let dir = dir.join("member");
    let made = made.and_then(|()| std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir));
    made.map_err(|e| Error::caused(format!("creating `{}`", dir.display()), e))?;
    Ledger::open(dir)
}

impl Papers {
    fn take(&mut self, key: String, admitted: Admitted) {
        self.host = admitted.host;
        self.key = key;
        self.certificate = admitted.certificate;
        self.authority = admitted.authority;
        let two_thirds = Duration::from_secs(admitted.life_seconds * 2 / 3);
        self.renew = Timestamp::now().checked_add(two_thirds).unwrap_or(Timestamp::MAX);
    }
}

impl Member {
    /// What an earlier start has joined; none when this machine is in no cloud.
    pub fn open(dir: &Path) -> Result<Option<Self>, Error> {
        let ledger = ledger(dir)?;
        let papers = ledger.read("papers")?;
        Ok(papers.map(|papers| Member { papers: Mutex::new(papers), ledger }))
    }

    /// Spends a token at the controller at `address`. A machine that was a host before stays that host, if the token is for it.
    pub async fn join(dir: &Path, address: &str, name: &str, token: &str) -> Result<Self, Error> {
        let authority = token.parse::<Token>()?.authority;
        let ledger = ledger(dir)?;
        let before = ledger.read::<Papers>("papers")?.map(|papers| papers.host);
        let (key, request) = enrolment::request()?;
        let (link, _) = connect(address, tls::stranger(authority)).await?;
        let admitted = link.enrol(&Enrol { token: token.to_owned(), name: name.to_owned(), host: before.clone(), request }).await?;
        if let Some(before) = before.filter(|before| *before != admitted.host) {
            return Err(Error::conflict(format!(
                "this directory belongs to host {before}, and the token to host {}: give it another --state",
                admitted.host
            )));
        }
        let mut controllers = admitted.controllers.clone();
        if !controllers.iter().any(|known| known == address) {
            controllers.push(address.to_owned());
        }
        let (name, none) = (name.to_owned(), String::new);
        let mut papers = Papers {
            host: admitted.host.clone(),
            name,
            key: none(),
            certificate: none(),
            authority: none(),
            renew: Timestamp::MAX,
            controllers,
        };
        papers.take(key, admitted);
        ledger.write("papers", &papers)?;
        Ok(Member { papers: Mutex::new(papers), ledger })
    }

    pub fn host(&self) -> HostId {
        self.lock().host.clone()
    }

    pub fn name(&self) -> String {
        self.lock().name.clone()
    }

    pub fn controllers(&self) -> Vec<String> {
        self.lock().controllers.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Papers> {
        self.papers.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// On the disk first: what is used survives.
    fn replace(&self, change: impl FnOnce(&mut Papers)) -> Result<(), Error> {
        let mut papers = self.lock();
        let mut new = papers.clone();
        change(&mut new);
        self.ledger.write("papers", &new)?;
        *papers = new;
        Ok(())
    }
}

impl Membership for Member {
    fn tls(&self) -> Result<Arc<rustls::ClientConfig>, Error> {
        let (authority, own) = self.identity()?;
        tls::agent(&authority, own)
    }

    fn identity(&self) -> Result<(CertificateDer<'static>, Identity), Error> {
        let papers = self.lock().clone();
        Ok((enrolment::certificate(&papers.authority)?, enrolment::identity(&papers.certificate, &papers.key)?))
    }

    fn learn(&self, controllers: &[String]) -> Result<(), Error> {
        if self.lock().controllers == controllers {
            return Ok(());
        }
        self.replace(|papers| papers.controllers = controllers.to_vec())
    }

    fn is_due(&self) -> bool {
        Timestamp::now() >= self.lock().renew
    }

    fn renew(&self, link: Link) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send + '_>> {
        Box::pin(async move {
            let (key, request) = enrolment::request()?;
            let admitted = link.renew(&Renew { request }).await?;
            self.replace(|papers| papers.take(key, admitted))?;
            tracing::info!("this host's certificate is renewed");
            Ok(())
        })
    }
}
