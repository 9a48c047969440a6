//! An import from the web, running beside the requests. Its end, good or bad, is written to the image and to its task; when the process
//! dies before, the next start does so.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use reqwest::Url;
use unkai_model::Id;
use unkai_model::image::{Image, ImageTask};

use crate::bytes::{BytesError, Images};

/// Between two pieces of the answer.
const SILENCE: Duration = Duration::from_secs(60);

pub async fn run(images: Images, image: Arc<Image>, task: Id<ImageTask>, url: Url) {
    let outcome = fetch(&images, &image, &url).await;
    if let Err(error) = &outcome {
        tracing::warn!(image = %image.meta.id, %url, %error, "image import failed");
    }
    let outcome = outcome.map_err(|error| error.for_owner());
    if let Err(error) = images.end_task(&task, outcome).await {
        tracing::error!(%task, %error, "could not end an import task");
    }
}

async fn fetch(images: &Images, image: &Image, url: &Url) -> Result<(), BytesError> {
    let mut receiving = images.resume(image).await?;
    let mut chunks = match open(url).await {
        Ok((chunks, length)) => {
            if let Some(length) = length {
                receiving.announce(length).await?;
            }
            chunks
        }
        Err(error) => return Err(receiving.fail(error).await),
    };
    while let Some(chunk) = chunks.next().await {
        match chunk {
            Ok(chunk) => receiving.write(chunk).await?,
            Err(error) => return Err(receiving.fail(broken(url, &error)).await),
        }
    }
    receiving.finish().await.map(drop)
}

type Chunks = std::pin::Pin<Box<dyn futures_util::Stream<Item = reqwest::Result<bytes::Bytes>> + Send>>;

/// The body of a successful answer. Redirects are not followed: they could lead where the operator's list does not.
async fn open(url: &Url) -> Result<(Chunks, Option<u64>), BytesError> {
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .connect_timeout(Duration::from_secs(10))
        .read_timeout(SILENCE)
        .build()
        .map_err(|error| broken(url, &error))?;
    let response = client.get(url.clone()).send().await.map_err(|error| broken(url, &error))?;
    if !response.status().is_success() {
        return Err(BytesError::Broken(format!("{url} answered {}", response.status())));
    }
    let length = response.content_length();
    Ok((Box::pin(response.bytes_stream()), length))
}

/// The cause too: "error sending request" alone helps nobody.
fn broken(url: &Url, error: &reqwest::Error) -> BytesError {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    BytesError::Broken(format!("downloading {url}: {cause}"))
}
