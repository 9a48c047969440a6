//! An import from the web, running beside the requests. Its end, good or bad, is written to the image and to its task; when the process
//! dies before, the next start does so.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use reqwest::Url;
use reqwest::redirect::Policy;
use unkai_model::Id;
use unkai_model::image::{Image, ImageTask};

use crate::bytes::{BytesError, Images};
use crate::settings::Settings;

/// A longer chain of redirects leads nowhere.
const REDIRECTS: usize = 5;

pub async fn run(images: Images, settings: Settings, image: Arc<Image>, task: Id<ImageTask>, url: Url) {
    let outcome = fetch(&images, &settings, &image, &url).await;
    if let Err(error) = &outcome {
        tracing::warn!(image = %image.meta.id, %url, %error, "image import failed");
    }
    let outcome = outcome.map_err(|error| error.for_owner());
    if let Err(error) = images.end_task(&task, outcome).await {
        tracing::error!(%task, %error, "could not end an import task");
    }
}

async fn fetch(images: &Images, settings: &Settings, image: &Image, url: &Url) -> Result<(), BytesError> {
    let mut receiving = images.resume(image).await?;
    let mut chunks = match open(settings, url).await {
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

/// Redirects are followed only to where the operator's list leads, too.
fn redirects(settings: &Settings) -> Policy {
    let settings = settings.clone();
    Policy::custom(move |attempt| {
        if !settings.allows(attempt.url()) {
            let refused = format!("it redirects to {}, from where images may not come", attempt.url());
            return attempt.error(refused);
        }
        if attempt.previous().len() > REDIRECTS { attempt.error("it redirects too often") } else { attempt.follow() }
    })
}

/// The body of a successful answer.
async fn open(settings: &Settings, url: &Url) -> Result<(Chunks, Option<u64>), BytesError> {
    let client = reqwest::Client::builder()
        .redirect(redirects(settings))
        .no_proxy()
        .connect_timeout(Duration::from_secs(10))
        .read_timeout(settings.download_silence)
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
