//! Snapshots: a copy of a server's root disk, taken while it runs, uploaded as an image.

use std::path::PathBuf;

use unkai_driver_qemu::Format;
use unkai_link::item::SnapshotItem;
use unkai_link::report::Up;
use unkai_model::Error;
use unkai_model::compute::Run;
use uuid::Uuid;

use crate::server::Servers;
use crate::worker::Progress;

/// Makes and uploads one. The controller makes the image active and withdraws the item when it has the bytes.
pub async fn converge(servers: &Servers, dir: PathBuf, item: Option<SnapshotItem>) -> Result<Progress, Error> {
    let Some(item) = item else { return Ok(Progress::Over) };
    let link = servers.link()?;
    wait_for_shelving(servers, &item).await?;
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

/// A shelved server's image is its whole future: it is taken when nothing is written any more.
async fn wait_for_shelving(servers: &Servers, item: &SnapshotItem) -> Result<(), Error> {
    let shelving = servers.desired.server(item.server.as_str()).is_some_and(|server| server.run == Run::Shelved);
    let runs = match Uuid::parse_str(item.server.as_str()) {
        Ok(uuid) => servers.qemu.vm(uuid).await.is_some(),
        Err(_) => false,
    };
    if shelving && runs {
        return Err(Error::unavailable(format!("server {} has not stopped yet", item.server)));
    }
    Ok(())
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
