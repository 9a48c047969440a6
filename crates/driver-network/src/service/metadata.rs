//! The metadata address: connections are accepted here and handed to the driver's owner.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::net::TcpListener;

use super::{MetadataConnection, Services, Task, shares::Shares};
use crate::{Result, netns::Netns};

/// Connections of one guest, and of one network, served at once; what is more is closed.
const EACH: usize = 8;
const ALL: usize = 256;

pub async fn start(netns: &Netns, network_id: String, services: Arc<dyn Services>) -> Result<Task> {
    let address = SocketAddr::from((Ipv4Addr::new(169, 254, 169, 254), 80));
    let listener = netns
        .run("listen for metadata requests", move || {
            let listener = super::dns::bind_tcp(address)?;
            TcpListener::from_std(listener)
        })
        .await?;
    Ok(Task::spawn(accept(listener, network_id, services)))
}

async fn accept(listener: TcpListener, network_id: String, services: Arc<dyn Services>) {
    let shares = Shares::new(EACH, ALL);
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(e) => {
                pause(&e).await;
                continue;
            }
        };
        if let Some(permit) = shares.take(peer.ip()) {
            services.metadata(MetadataConnection { network_id: network_id.clone(), peer, stream, permit });
        }
    }
}

/// Out of descriptors or the like: nothing is gained by asking again at once.
async fn pause(error: &io::Error) {
    tracing::warn!(%error, "metadata connection not accepted");
    tokio::time::sleep(Duration::from_millis(100)).await;
}
