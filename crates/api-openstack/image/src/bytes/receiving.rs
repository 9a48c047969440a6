//! An image that is getting its bytes: the file being written and the document that waits for it.

use std::sync::Arc;

use bytes::Bytes;
use unkai_model::image::{Image, ImageState};
use unkai_model::{Error, Id};

use super::error::BytesError;
use super::images::Images;
use super::upload::{Placed, Upload};

/// One attempt to bring the bytes of an image. Dropped before its end, the image is queued again and nothing is kept.
pub struct Receiving {
    images: Images,
    image: Id<Image>,
    attempt: u64,
    state: ImageState,
    upload: Option<Upload>,
    open: bool,
}

impl Receiving {
    pub(super) fn new(images: Images, image: Id<Image>, attempt: u64, state: ImageState) -> Self {
        Receiving { images, image, attempt, state, upload: None, open: true }
    }

    pub(super) fn start(&mut self, upload: Upload) {
        self.upload = Some(upload);
    }

    /// Refuses at once what is announced and cannot fit.
    pub async fn announce(&mut self, length: u64) -> Result<(), BytesError> {
        match self.upload()?.announce(length) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.fail(error).await),
        }
    }

    pub async fn write(&mut self, chunk: Bytes) -> Result<(), BytesError> {
        match self.upload()?.write(chunk).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.fail(error).await),
        }
    }

    /// Completes the file and the document: the image is active, or its bytes are staged.
    pub async fn finish(mut self) -> Result<Arc<Image>, BytesError> {
        let upload = self.upload.take().ok_or_else(closed)?;
        // Detached: once the transaction is on its way, whether the file stays is decided by its outcome and nothing else.
        let finished = tokio::spawn(async move {
            let result = match upload.finish().await {
                Ok(placed) => self.commit(placed).await,
                Err(BytesError::Refused(reason)) if self.state == ImageState::Uploading => self.stage_refusal(reason).await,
                Err(error) => Err(error),
            };
            match result {
                Ok(image) => Ok(self.ended(image)),
                Err(error) => Err(self.fail(error).await),
            }
        });
        finished.await.unwrap_or_else(|e| Err(Error::caused("finishing an upload", e).into()))
    }

    /// Gives the attempt up and says why; the image is queued again. Gives the error back.
    pub async fn fail(&mut self, error: BytesError) -> BytesError {
        tracing::warn!(image = %self.image, attempt = self.attempt, %error, "image data was not taken");
        self.upload = None;
        self.open = false;
        let gave_up = give_up(&self.images, &self.image, self.attempt, Some(error.for_owner())).await;
        if let Err(e) = gave_up {
            tracing::error!(image = %self.image, error = %e, "could not queue an image again");
        }
        error
    }

    fn ended(mut self, image: Arc<Image>) -> Arc<Image> {
        self.open = false;
        image
    }

    async fn commit(&self, placed: Placed) -> Result<Arc<Image>, BytesError> {
        let (id, attempt, state, content) = (self.image.clone(), self.attempt, self.state, placed.content().clone());
        let committed = self.images.store.transact(move |tx| {
            tx.update(&id, |image| match state {
                ImageState::Uploading => image.stage(attempt, Ok(content.clone())),
                _ => image.complete(attempt, content.clone()),
            })
        });
        match committed.await {
            // Whether it was committed is not known: a start decides, by what the store holds then.
            Err(error @ (Error::Internal { .. } | Error::Unavailable(_))) => {
                placed.keep();
                Err(error.into())
            }
            Err(error) => Err(error.into()),
            Ok(image) => {
                placed.keep();
                Ok(image)
            }
        }
    }

    /// The caller of a staging upload learns of a refusal when the image is imported.
    async fn stage_refusal(&self, reason: String) -> Result<Arc<Image>, BytesError> {
        tracing::warn!(image = %self.image, reason, "refused staged image data");
        let (id, attempt) = (self.image.clone(), self.attempt);
        let staged = self.images.store.transact(move |tx| tx.update(&id, |image| image.stage(attempt, Err(reason.clone()))));
        Ok(staged.await?)
    }

    fn upload(&mut self) -> Result<&mut Upload, BytesError> {
        self.upload.as_mut().ok_or_else(closed)
    }
}

fn closed() -> BytesError {
    BytesError::Broken("the upload was ended before".into())
}

async fn give_up(images: &Images, id: &Id<Image>, attempt: u64, reason: Option<String>) -> Result<(), Error> {
    let id = id.clone();
    let give_up = move |tx: &mut unkai_store::Tx| match tx.get(&id) {
        None => Ok(()),
        Some(_) => tx
            .update(&id, |image| {
                image.give_up(attempt, reason.clone());
                Ok::<_, Error>(())
            })
            .map(drop),
    };
    images.store.transact(give_up).await
}

impl Drop for Receiving {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if self.open {
            let (images, id, attempt) = (self.images.clone(), self.image.clone(), self.attempt);
            runtime.spawn(async move {
                if let Err(error) = give_up(&images, &id, attempt, Some("The sender went away.".into())).await {
                    tracing::error!(image = %id, %error, "could not queue an image again");
                }
            });
        }
    }
}
