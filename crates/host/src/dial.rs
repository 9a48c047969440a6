//! How the agent reaches a controller.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use unkai_link::client::Link;
use unkai_link::tls;
use unkai_model::Error;

const CONNECT: Duration = Duration::from_secs(10);

/// Where to, under which name, and as whom.
pub struct Dial {
    pub address: SocketAddr,
    /// The name in the controller's certificate.
    pub server_name: String,
    /// The TLS settings of the next connection, with the agent's certificate of the moment.
    pub identity: Box<dyn Fn() -> Result<Arc<rustls::ClientConfig>, Error> + Send + Sync>,
}

impl Dial {
    pub async fn link(&self) -> Result<Link, Error> {
        let connect = async {
            let stream = TcpStream::connect(self.address).await.map_err(|e| Error::caused(format!("connecting to {}", self.address), e))?;
            let _ = stream.set_nodelay(true);
            let name = tls::server_name(&self.server_name)?;
            let connector = TlsConnector::from((self.identity)()?);
            let stream =
                connector.connect(name, stream).await.map_err(|e| Error::caused(format!("speaking TLS with {}", self.address), e))?;
            Link::connect(stream).await
        };
        tokio::time::timeout(CONNECT, connect)
            .await
            .unwrap_or_else(|_| Err(Error::unavailable(format!("{} does not answer", self.address))))
    }
}
