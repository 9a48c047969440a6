//! Why bytes were not taken.

use std::io;

use unkai_model::Error;

/// Why an upload ended without an image. Nothing of it is kept.
#[derive(Debug, thiserror::Error)]
pub enum BytesError {
    #[error("The incoming image is too large: the limit is {limit} bytes.")]
    TooLarge { limit: u64 },
    #[error("Image storage media is full: there is no room for the image data.")]
    Full,
    /// The content is not what it was declared to be, or is dangerous.
    #[error("Image content refused: {0}")]
    Refused(String),
    /// The sender stopped sending.
    #[error("The image data ended early: {0}")]
    Broken(String),
    #[error("{context}")]
    Io {
        context: String,
        #[source]
        source: io::Error,
    },
    /// The document did not allow it.
    #[error(transparent)]
    Store(#[from] Error),
}

impl BytesError {
    pub fn io(context: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let context = context.into();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => BytesError::Full,
            _ => BytesError::Io { context, source },
        }
    }

    /// What the image's owner may read about it later.
    pub fn for_owner(&self) -> String {
        match self {
            BytesError::Io { .. } | BytesError::Store(Error::Internal { .. }) => "The cloud could not store the image data.".into(),
            other => other.to_string(),
        }
    }
}

impl From<BytesError> for Error {
    fn from(error: BytesError) -> Self {
        match error {
            BytesError::Store(error) => error,
            BytesError::Io { .. } => Error::caused("storing image data", error),
            BytesError::Full => Error::unavailable(error.to_string()),
            BytesError::TooLarge { .. } | BytesError::Refused(_) | BytesError::Broken(_) => Error::invalid(error.to_string()),
        }
    }
}
