//! Snapshots: a copy of a server's root disk, taken while it runs, uploaded as an image.

use std::path::PathBuf;

use unkai_driver_qemu::Format;
use unkai_link::item::SnapshotItem;
use unkai_link::report::Up;
use unkai_model::Error;
use uuid::Uuid;

use crate::server::Servers;
use crate::worker::Progress;

/// Makes and uploads one. The controller makes the image active and withdraws the item when it has the bytes.
pub async fn converge(servers: &Servers, dir: PathBuf, item: Option<SnapshotItem>) -> Result<Progress, Error> {
    let Some(item) = item else { return Ok(Progress::Over) };
    let link = servers.link()?;
    let path = dir.join(item.image.as_str());
    let made = make(servers, &item, path.clone()).await;
    let result = match made {
        Ok(()) => upload(&link, &item, &path).await,
        Err(error) => Err(error),
    };
    let _ = tokio::fs::remove_file(&path).await;
    match result {
        Ok(()) => Ok(Progress::Settled),
        Err(error @ Error::Unavailable(_)) => Err(error),
        Err(error) => {
            tracing::error!(image = %item.image, server = %item.server, %error, cause = ?std::error::Error::source(&error), "no snapshot");
            servers.say(Up::SnapshotFailed { image: item.image, reason: error.to_string() }).await;
            Ok(Progress::Settled)
        }
    }
}

async fn make(servers: &Servers, item: &SnapshotItem, path: PathBuf) -> Result<(), Error> {
    let context = format!("taking a snapshot of server {}", item.server);
    let uuid = Uuid::parse_str(item.server.as_str()).map_err(|e| Error::caused(context.clone(), e))?;
    let _ = tokio::fs::remove_file(&path).await;
    let format = if item.format == "raw" { Format::Raw } else { Format::Qcow2 };
    servers.qemu.snapshot_disk(uuid, "root", &path, format, None).await.map(drop).map_err(|e| Error::caused(context, e))
}

async fn upload(link: &unkai_link::client::Link, item: &SnapshotItem, path: &std::path::Path) -> Result<(), Error> {
    let file = tokio::fs::File::open(path).await.map_err(|e| Error::caused(format!("opening `{}`", path.display()), e))?;
    link.put_image(&item.image, file).await
}
