//! The metadata address: connections are accepted here and handed to the driver's owner.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{net::TcpListener, sync::Semaphore};

use super::{MetadataConnection, Services, Task};
use crate::{Result, netns::Netns};

/// Connections of one network served at once.
const LIMIT: usize = 64;

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
    let limit = Arc::new(Semaphore::new(LIMIT));
    loop {
        let Ok(permit) = limit.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, peer)) => services.metadata(MetadataConnection {
                network_id: network_id.clone(),
                peer,
                stream,
                permit,
            }),
            Err(e) => pause(&e).await,
        }
    }
}

/// Out of descriptors or the like: nothing is gained by asking again at once.
async fn pause(error: &io::Error) {
    tracing::warn!(%error, "metadata connection not accepted");
    tokio::time::sleep(Duration::from_millis(100)).await;
}
