//! How the agent reaches a controller: any of those it knows, and another one when that is gone.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use unkai_link::ca::Identity;
use unkai_link::client::Link;
use unkai_link::tls;
use unkai_model::Error;

const CONNECT: Duration = Duration::from_secs(3);

/// Who this agent is towards controllers, and what it learns from them.
pub trait Membership: Send + Sync + 'static {
    /// The TLS settings of the next connection, with the agent's certificate of the moment.
    fn tls(&self) -> Result<Arc<rustls::ClientConfig>, Error>;
    /// The cloud's CA and what proves this host, for other hosts to see.
    fn identity(&self) -> Result<(CertificateDer<'static>, Identity), Error> {
        Err(Error::unavailable("this host has no certificate to show to other hosts"))
    }
    /// The cloud's controllers are these now.
    fn learn(&self, _controllers: &[String]) -> Result<(), Error> {
        Ok(())
    }
    /// Should the certificate be renewed?
    fn is_due(&self) -> bool {
        false
    }
    /// Takes the new certificate that a controller gives.
    fn renew(&self, _link: Link) -> std::pin::Pin<Box<dyn Future<Output = Result<(), Error>> + Send + '_>> {
        Box::pin(async { Ok(()) })
    }
}

/// The controllers known, the one to try next first.
pub struct Dial {
    pub membership: Arc<dyn Membership>,
    controllers: Mutex<Vec<String>>,
}

impl Dial {
    /// `controllers`: host names or addresses, with ports.
    pub fn new(controllers: Vec<String>, membership: Arc<dyn Membership>) -> Self {
        Dial { membership, controllers: Mutex::new(controllers) }
    }

    /// A connection to the controller whose turn it is. When there is none, it is the next one's turn.
    pub(crate) async fn link(&self) -> Result<(Link, SocketAddr), Error> {
        let address = self.lock().first().cloned().ok_or_else(|| Error::unavailable("no controller is known"))?;
        match connect(&address, self.membership.tls()?).await {
            Ok(link) => Ok(link),
            Err(error) => {
                self.turn();
                Err(error)
            }
        }
    }

    /// The next one's turn.
    pub(crate) fn turn(&self) {
        let mut controllers = self.lock();
        if !controllers.is_empty() {
            controllers.rotate_left(1);
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }

    /// Takes what a controller says of the others. Those known before stay behind them: a cloud that has moved is found again, and one
    /// whose controllers are all new has been told by the last old one.
    pub(crate) fn learn(&self, told: Vec<String>) -> Result<(), Error> {
        if told.is_empty() {
            return Ok(());
        }
        let mut controllers = self.lock();
        let present = controllers.first().cloned();
        let mut known: Vec<String> = told.clone();
        known.extend(controllers.iter().filter(|address| !told.contains(address)).take(MOST_OLD).cloned());
        // The one in use stays first.
        if let Some(at) = present.and_then(|present| known.iter().position(|address| *address == present)) {
            known.rotate_left(at);
        }
        *controllers = known.clone();
        drop(controllers);
        self.membership.learn(&known)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.controllers.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// So many controllers are remembered that are not told of any more.
const MOST_OLD: usize = 8;

/// A connection to the controller at an address, by the link's protocol.
pub async fn connect(address: &str, tls: Arc<rustls::ClientConfig>) -> Result<(Link, SocketAddr), Error> {
    let connect = async {
        let stream = TcpStream::connect(address).await.map_err(|e| Error::caused(format!("connecting to {address}"), e))?;
        let _ = stream.set_nodelay(true);
        let peer = stream.peer_addr().map_err(|e| Error::caused(format!("connecting to {address}"), e))?;
        let name = tls::server_name(tls::CONTROLLER_NAME)?;
        let stream = TlsConnector::from(tls).connect(name, stream).await;
        let stream = stream.map_err(|e| Error::caused(format!("speaking TLS with {address}"), e))?;
        Ok((Link::connect(stream).await?, peer))
    };
    tokio::time::timeout(CONNECT, connect).await.unwrap_or_else(|_| Err(Error::unavailable(format!("{address} does not answer"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nobody;
    impl Membership for Nobody {
        fn tls(&self) -> Result<Arc<rustls::ClientConfig>, Error> {
            Err(Error::unavailable("no"))
        }
    }

    #[test]
    fn what_is_told_comes_before_what_was_known_and_the_one_in_use_stays_first() {
        let dial = Dial::new(vec!["b".into(), "old".into()], Arc::new(Nobody));
        dial.learn(vec!["a".into(), "b".into(), "c".into()]).unwrap();
        assert_eq!(*dial.lock(), ["b", "c", "old", "a"]);
        dial.turn();
        assert_eq!(dial.lock()[0], "c");
        dial.learn(vec![]).unwrap();
        assert_eq!(dial.count(), 4);
        dial.learn(vec!["d".into()]).unwrap();
        assert_eq!(dial.lock()[0], "c", "still connected to it");
    }
}
