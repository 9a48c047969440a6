//! What a network answers itself, on the host its guest lives on: DHCP, DNS, metadata, router advertisements.
//!
//! All answer from one [`Snapshot`], replaced as a whole when something changes; no lock is held while answering.
//! The tasks hold no state worth keeping: they end with the network or the process and start again from the specs.

pub mod dhcp;
pub mod dns;
mod metadata;
pub mod ra;
mod shares;

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;
use ipnet::{IpNet, Ipv4Net};
use tokio::{net::TcpStream, task::JoinHandle};

pub use shares::Share;

use crate::{
    Driver, Mac, Result, names,
    netns::Netns,
    network::service_mac,
    spec::{NetworkSpec, PortSpec},
};

/// What the driver needs from its owner.
pub trait Services: Send + Sync + 'static {
    /// A guest connected to 169.254.169.254 port 80. Must return at once: serve the connection in a task.
    fn metadata(&self, connection: MetadataConnection);
}

/// A guest of `network_id` at `peer`. The address is the guest's own: anti-spoofing lets no other through from a port
/// with port security, so network and address name one port.
pub struct MetadataConnection {
    pub network_id: String,
    pub peer: SocketAddr,
    pub stream: TcpStream,
    /// Counts against the guest's limit while it lives; keep it with the stream.
    pub permit: Share,
}

/// Everything the services of one network answer from.
#[derive(Debug)]
pub struct Snapshot {
    pub network: Arc<NetworkSpec>,
    pub mac: Mac,
    pub ports: HashMap<Mac, PortSpec>,
    /// A router on this host is joined to the network, and advertises itself.
    pub router_present: bool,
}

impl Snapshot {
    pub fn new<'a>(network: Arc<NetworkSpec>, ports: impl IntoIterator<Item = &'a PortSpec>, router_present: bool) -> Self {
        Self { mac: service_mac(&network), network, ports: ports.into_iter().map(|p| (p.mac, p.clone())).collect(), router_present }
    }

    pub fn service_nets(&self) -> impl Iterator<Item = IpNet> {
        self.network.service.iter().flat_map(|s| s.addresses.iter().copied())
    }

    pub fn service_v4(&self) -> impl Iterator<Item = Ipv4Net> {
        self.service_nets().filter_map(|net| match net {
            IpNet::V4(net) => Some(net),
            IpNet::V6(_) => None,
        })
    }
}

pub type Shared = Arc<ArcSwap<Snapshot>>;

/// A task that ends when this is dropped.
#[derive(Debug)]
pub struct Task(JoinHandle<()>);

impl Task {
    pub fn spawn(work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(work))
    }

    pub fn is_over(&self) -> bool {
        self.0.is_finished()
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The running services of one network.
pub struct ServiceSet {
    snapshot: Shared,
    forwarder: Arc<dns::Forwarder>,
    dns: Mutex<BTreeMap<IpAddr, Task>>,
    _others: [Task; 3],
}

impl ServiceSet {
    pub async fn start(driver: &Driver, netns: &Netns, snapshot: Snapshot) -> Result<Self> {
        let snapshot: Shared = Arc::new(ArcSwap::from_pointee(snapshot));
        let network_id = snapshot.load().network.id.clone();
        let others = [
            dhcp::start(netns, snapshot.clone()).await?,
            metadata::start(netns, network_id, driver.0.services.clone()).await?,
            ra::start(netns, names::BRIDGE, ra::Sender::Service, snapshot.clone()).await?,
        ];
        let set = Self {
            snapshot,
            forwarder: Arc::new(dns::Forwarder::new(driver.0.config.dns_upstreams.clone())),
            dns: Mutex::default(),
            _others: others,
        };
        set.listen(netns).await?;
        Ok(set)
    }

    pub fn publish(&self, snapshot: Snapshot) {
        self.snapshot.store(Arc::new(snapshot));
    }

    pub fn snapshot(&self) -> Shared {
        self.snapshot.clone()
    }

    /// One pair of DNS sockets for every address of the services.
    pub async fn listen(&self, netns: &Netns) -> Result<()> {
        let mut wanted: Vec<IpAddr> = self.snapshot.load().service_nets().map(|n| n.addr()).collect();
        wanted.push(IpAddr::from([169, 254, 169, 254]));
        let missing: Vec<IpAddr> = {
            let mut running = self.dns.lock().unwrap_or_else(PoisonError::into_inner);
            running.retain(|address, task| wanted.contains(address) && !task.is_over());
            wanted.into_iter().filter(|a| !running.contains_key(a)).collect()
        };
        let started = dns::start(netns, missing, &self.snapshot, &self.forwarder).await?;
        let mut running = self.dns.lock().unwrap_or_else(PoisonError::into_inner);
        running.extend(started);
        Ok(())
    }
}
