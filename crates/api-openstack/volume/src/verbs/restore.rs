//! Other contents for a volume that there is.

use unkai_model::image::Image;
use unkai_model::volume::{Restore, RestoreFrom, Volume};
use unkai_model::{Error, Id};
use unkai_store::Tx;

use super::create::of_image;

/// The content of a volume is to be that of something else, once. Whether its state allows it is for the caller to know.
pub fn put_back(tx: &mut Tx, id: &Id<Volume>, from: RestoreFrom) -> Result<(), Error> {
    tx.update(id, |volume: &mut Volume| {
        let before = volume.spec.restore.as_ref().map_or(0, |restore| restore.number);
        volume.spec.restore = Some(Restore { number: before.max(volume.status.restored) + 1, from });
        volume.meta.generation += 1;
        Ok::<_, Error>(())
    })
    .map(drop)
}

/// The content of a volume is to be that of an image, which must fit it; it notes the image as if it had been made of it.
pub fn reimage(tx: &mut Tx, id: &Id<Volume>, image: &Id<Image>) -> Result<(), Error> {
    let origin = of_image(&*tx.require(image)?)?;
    let size = tx.require(id)?.spec.size_gib;
    if origin.size_gib > size {
        let needed = origin.size_gib;
        return Err(Error::invalid(format!(
            "Invalid input received: Size of specified image {needed}GB is larger than volume size {size}GB."
        )));
    }
    tx.update(id, |volume: &mut Volume| {
        volume.spec.image_metadata = origin.image_metadata;
        volume.spec.bootable = true;
        Ok::<_, Error>(())
    })?;
    put_back(tx, id, RestoreFrom::Image(image.clone()))
}
