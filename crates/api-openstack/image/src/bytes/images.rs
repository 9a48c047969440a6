//! Images with their bytes: the files and the documents that name them.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::StreamExt;
use tokio::io::AsyncRead;
use tokio_util::io::ReaderStream;
use unkai_imagefile::DiskFormat;
use unkai_model::image::{ContainerFormat, Content, Image, ImageSpec, ImageState, ImageTask};
use unkai_model::{Error, Id};
use unkai_store::{Change, Changes, Store, Tx};

use super::error::BytesError;
use super::files::{FileLimits, ImageFiles};
use super::receiving::Receiving;

/// A handle; cheap to clone.
#[derive(Clone)]
pub struct Images {
    pub(super) store: Store,
    pub(super) files: Arc<ImageFiles>,
}

impl Images {
    /// `dir` is made when the first image arrives.
    pub fn new(store: Store, dir: std::path::PathBuf, limits: FileLimits) -> Self {
        Images { store, files: Arc::new(ImageFiles::new(dir, limits)) }
    }

    /// The bytes of an image that servers may start from, and how many there are.
    pub fn open(&self, id: &Id<Image>) -> Result<(tokio::fs::File, u64), Error> {
        let image = self.store.view().require(id)?;
        let content = image.bootable().ok_or_else(|| Error::conflict(format!("image {id} is {}, not active", image.status.state)))?;
        let (file, length) = self.open_content(content)?;
        Ok((tokio::fs::File::from_std(file), length))
    }

    pub(crate) fn open_content(&self, content: &Content) -> Result<(std::fs::File, u64), BytesError> {
        self.files.open(&content.file)
    }

    /// Removes files that no document names any more.
    pub(crate) fn discard(&self, image: &Image) {
        image.files().for_each(|file| self.files.remove(file));
    }

    /// Moves an image to `state`, one in which bytes arrive, and opens the file for them. `allow` is asked first, in the same transaction.
    pub async fn receive<E>(
        &self,
        id: &Id<Image>,
        state: ImageState,
        mut allow: impl FnMut(&mut Tx, &Image) -> Result<(), E> + Send + 'static,
    ) -> Result<Receiving, E>
    where
        E: From<Error> + From<BytesError> + Send + 'static,
    {
        let (images, id) = (self.clone(), id.clone());
        // Detached, so that a caller who goes away cannot leave the image in a state that nobody ends.
        let begun = tokio::spawn(async move {
            let wanted = id.clone();
            let image = images
                .store
                .transact(move |tx| {
                    let image = tx.require(&wanted)?;
                    allow(tx, &image)?;
                    tx.update(&wanted, |image| image.begin(state).map(drop).map_err(E::from))
                })
                .await?;
            images.resume(&image).await.map_err(E::from)
        });
        begun.await.unwrap_or_else(|e| Err(Error::caused("starting an upload", e).into()))
    }

    /// Opens the file for the attempt that the image's document is waiting for.
    pub(crate) async fn resume(&self, image: &Image) -> Result<Receiving, BytesError> {
        let attempt = image.status.attempts;
        let mut receiving = Receiving::new(self.clone(), image.meta.id.clone(), attempt, image.status.state);
        let files = self.files.clone();
        let name = format!("{}.{attempt}", image.meta.id);
        let format = judged_as(&image.spec);
        let opened = tokio::task::spawn_blocking(move || files.begin_upload(&name, format)).await;
        let upload = opened.unwrap_or_else(|e| Err(BytesError::Io { context: "opening an image file".into(), source: e.into() }));
        match upload {
            Ok(upload) => receiving.start(upload),
            Err(error) => return Err(receiving.fail(error).await),
        }
        Ok(receiving)
    }

    /// Takes all bytes of a queued image from a reader: the way of agents. Ok only when they are safe and the image is active.
    pub async fn take(&self, id: &Id<Image>, bytes: impl AsyncRead + Send) -> Result<(), Error> {
        let mut receiving = self.receive(id, ImageState::Saving, |_, _| Ok::<_, BytesError>(())).await?;
        let mut chunks = std::pin::pin!(ReaderStream::with_capacity(bytes, 256 << 10));
        while let Some(chunk) = chunks.next().await {
            match chunk {
                Ok(chunk) => receiving.write(chunk).await?,
                Err(e) => return Err(receiving.fail(BytesError::Broken(e.to_string())).await.into()),
            }
        }
        receiving.finish().await?;
        Ok(())
    }

    /// Writes how an import went.
    pub(crate) async fn end_task(&self, id: &Id<ImageTask>, outcome: Result<(), String>) -> Result<(), Error> {
        let id = id.clone();
        let end = move |tx: &mut Tx| {
            let now = tx.now();
            tx.update(&id, |task| {
                task.end(now, outcome.clone());
                Ok::<_, Error>(())
            })
        };
        self.store.transact(end).await.map(drop)
    }

    /// Removes the files of images that are deleted, whoever deletes them, until the store stops. Handlers of this crate do not wait for
    /// it; everybody else only deletes the document.
    pub async fn follow_deletions(self) {
        let mut watch = self.store.watch();
        while let Some((view, changes)) = watch.next().await {
            let deleted = match changes {
                Changes::TooOld => true,
                Changes::Since(changes) => changes.iter().filter_map(Change::of::<Image>).any(|id| view.get(&id).is_none()),
            };
            if deleted && let Err(error) = self.remove_strangers().await {
                tracing::warn!(%error, "the files of deleted images were not removed");
            }
        }
    }

    /// Files whose image is not there. First the files, then what every controller has written: an image is there before the first byte of
    /// it is, so one that another controller takes meanwhile is not missed.
    async fn remove_strangers(&self) -> Result<(), Error> {
        let files = self.files.clone();
        let blocking = |e: std::io::Error| Error::caused("listing the files of images", e);
        let names = tokio::task::spawn_blocking(move || files.names()).await.map_err(|e| blocking(e.into()))?.map_err(blocking)?;
        let view = self.store.read().await?;
        let is_stranger =
            |name: &String| view.get::<Image>(&Id::new(name.split_once('.').map_or(name.as_str(), |(image, _)| image))).is_none();
        let (files, strangers) = (self.files.clone(), names.into_iter().filter(is_stranger).collect::<Vec<_>>());
        let removed = tokio::task::spawn_blocking(move || strangers.iter().for_each(|name| files.remove(name))).await;
        removed.map_err(|e| blocking(e.into()))
    }

    /// What a starting controller does before it serves: ends the attempts that its predecessor left, and removes leftover files.
    pub async fn recover(&self) -> Result<(), Error> {
        self.store.transact(recover).await?;
        let view = self.store.view();
        let keep: HashSet<String> = view.all::<Image>().flat_map(|image| image.files().map(str::to_owned).collect::<Vec<_>>()).collect();
        let files = self.files.clone();
        let swept = tokio::task::spawn_blocking(move || files.sweep(&keep)).await.unwrap_or_else(|e| Err(e.into()));
        match swept {
            Ok(removed) if removed > 0 => tracing::info!(removed, "removed leftovers of image uploads"),
            Ok(_) => {}
            Err(e) => return Err(Error::caused("sweeping leftover image files", e)),
        }
        Ok(())
    }
}

const CUT_OFF: &str = "The service restarted while the image data was on its way.";

fn recover(tx: &mut Tx) -> Result<(), Error> {
    let cut_off: Vec<_> = tx.by_index::<Image>("incoming", "yes").filter(|image| !is_staged(image)).collect();
    for image in cut_off {
        tx.update(&image.meta.id, |image| {
            image.give_up(image.status.attempts, Some(CUT_OFF.into()));
            Ok::<_, Error>(())
        })?;
    }
    let unfinished: Vec<_> = tx.by_index::<ImageTask>("unfinished", "yes").collect();
    for task in unfinished {
        let now = tx.now();
        tx.update(&task.meta.id, |task| {
            task.end(now, Err(CUT_OFF.into()));
            Ok::<_, Error>(())
        })?;
    }
    Ok(())
}

/// Complete in the staging area: waits for its import as before.
fn is_staged(image: &Image) -> bool {
    let complete = image.status.incoming.as_ref().is_some_and(|incoming| incoming.staged.is_some() || incoming.refused.is_some());
    image.status.state == ImageState::Uploading && complete
}

/// What the bytes have to be. Those of an archive (`ova`, `docker`, `compressed`) are not the disk itself: they are kept as they are, and
/// the hosts, which judge every image again before they use it, will not start from them.
fn judged_as(spec: &ImageSpec) -> Option<DiskFormat> {
    use ContainerFormat::{Aki, Ami, Ari, Bare};
    match spec.container_format {
        None | Some(Bare | Ami | Ari | Aki) => spec.disk_format.map(same_format),
        Some(_) => None,
    }
}

fn same_format(format: unkai_model::image::DiskFormat) -> DiskFormat {
    format.as_str().parse().expect("both lists hold the same names; a test keeps it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_declared_format_can_be_judged() {
        for format in unkai_model::image::DiskFormat::ALL {
            assert_eq!(same_format(*format).as_str(), format.as_str());
        }
    }
}
