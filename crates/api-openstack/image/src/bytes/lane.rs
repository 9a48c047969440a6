//! One worker off the reactor: takes batches in order, one at a time, while the next one is being received.
//!
//! No thread is held while nothing arrives, so slow senders cost memory of one batch and nothing else.

use bytes::Bytes;
use tokio::task::JoinHandle;

use super::error::BytesError;

/// Some consecutive bytes of an image, as they arrived.
pub type Batch = std::sync::Arc<Vec<Bytes>>;

/// What is done to every batch.
pub trait Sink: Send + 'static {
    fn take(&mut self, batch: &[Bytes]) -> Result<(), BytesError>;
}

/// A sink and the batch it is busy with.
pub struct Lane<S> {
    idle: Option<S>,
    busy: Option<JoinHandle<Result<S, BytesError>>>,
}

impl<S: Sink> Lane<S> {
    pub fn new(sink: S) -> Self {
        Lane { idle: Some(sink), busy: None }
    }

    /// Waits for the batch before, then starts this one.
    pub async fn push(&mut self, batch: Batch) -> Result<(), BytesError> {
        self.settle().await?;
        let mut sink = self.idle.take().ok_or_else(ended)?;
        self.busy = Some(tokio::task::spawn_blocking(move || sink.take(&batch).map(|()| sink)));
        Ok(())
    }

    /// The sink, after its last batch.
    pub async fn end(mut self) -> Result<S, BytesError> {
        self.settle().await?;
        self.idle.take().ok_or_else(ended)
    }

    /// Cancel safe: a batch in work stays in `busy` until its result is taken.
    async fn settle(&mut self) -> Result<(), BytesError> {
        if let Some(busy) = &mut self.busy {
            let result = busy.await;
            self.busy = None;
            self.idle = Some(result.map_err(|e| BytesError::Io { context: "writing image data".into(), source: e.into() })??);
        }
        Ok(())
    }
}

fn ended() -> BytesError {
    BytesError::Broken("an earlier part of the data could not be stored".into())
}
