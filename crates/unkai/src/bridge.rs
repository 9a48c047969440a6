//! Where crates that do not know each other meet: tunnels of the dialects over the link, bytes of images for the agents.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use unkai_control::Images;
use unkai_image::bytes::Images as ImageBytes;
use unkai_link::server::{BoxFuture, Bytes, LinkServer};
use unkai_model::compute::Host;
use unkai_model::image::Image;
use unkai_model::{Error, Id};
use unkai_openstack::{ByteStream, Target, Tunnels};

/// The dialects' tunnels are the link's. Filled once the link is there.
#[derive(Clone, Default)]
pub struct LinkTunnels(pub Arc<OnceLock<Arc<LinkServer>>>);

impl Tunnels for LinkTunnels {
    fn open(&self, host: Id<Host>, target: Target) -> Pin<Box<dyn Future<Output = Result<ByteStream, Error>> + Send + '_>> {
        Box::pin(async move {
            let link = self.0.get().ok_or_else(|| Error::unavailable("the controller is starting"))?;
            let target = serde_json::to_value(target).map_err(|e| Error::caused("encoding a tunnel's target", e))?;
            Ok(Box::new(link.open_tunnel(&host, target).await?) as ByteStream)
        })
    }
}

/// The agents' images are those of the image service.
pub struct StoredImages(pub ImageBytes);

impl Images for StoredImages {
    fn open(&self, image: Id<Image>) -> BoxFuture<'_, Result<(Bytes, u64), Error>> {
        Box::pin(async move { self.0.open(&image).map(|(file, length)| (Box::new(file) as Bytes, length)) })
    }

    fn take(&self, image: Id<Image>, bytes: Bytes) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move { self.0.take(&image, bytes).await })
    }
}
