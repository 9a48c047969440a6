//! Images that are to be here before a server asks for them.

use unkai_link::item::ImageItem;
use unkai_model::Error;

use crate::server::Servers;
use crate::worker::Progress;

/// Fetches the image if it is not here. Nobody waits for it, so a failure is said in the log and ends the attempt: the next one is
/// after the next connection, the next look at the cache, or when it is asked for again.
pub async fn converge(servers: &Servers, item: Option<ImageItem>) -> Result<Progress, Error> {
    let Some(ImageItem { image, .. }) = item else { return Ok(Progress::Over) };
    let Ok(link) = servers.link() else { return Ok(Progress::Settled) };
    match servers.images.prefetch(&link, &image).await {
        Ok(()) => tracing::debug!(image = %image.id, "the image is at hand"),
        Err(error) => tracing::error!(image = %image.id, %error, cause = ?std::error::Error::source(&error), "no image ahead of need"),
    }
    Ok(Progress::Settled)
}
