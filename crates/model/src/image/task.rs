//! An import in progress, kept for a while after it ended so that its result can be read.
//!
//! Made in the transaction that moves the image to `importing`; ended in the one that makes it active or gives it up. A controller that
//! starts ends the tasks that its predecessor left unfinished, together with their images.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::Image;
use super::format::named;
use crate::{Derived, Id, Kind, Meta};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageTask {
    pub meta: Meta<ImageTask>,
    pub image: Id<Image>,
    pub user: String,
    pub request: String,
    /// `api_image_import`.
    pub action: String,
    /// As the caller sent it.
    pub input: serde_json::Value,
    pub state: TaskState,
    /// Why it failed; empty otherwise.
    #[serde(default)]
    pub message: String,
    /// When it may be forgotten; set when it ends.
    #[serde(default)]
    pub expires: Option<Timestamp>,
}

named! {
    TaskState { Pending = "pending", Processing = "processing", Success = "success", Failure = "failure" }
}

impl TaskState {
    pub fn is_final(self) -> bool {
        matches!(self, TaskState::Success | TaskState::Failure)
    }
}

/// How long a finished task can be read.
const KEPT: SignedDuration = SignedDuration::from_hours(48);

impl ImageTask {
    /// The import succeeded, or failed for the given reason. A task ends once; later outcomes change nothing.
    pub fn end(&mut self, now: Timestamp, outcome: Result<(), String>) {
        if self.state.is_final() {
            return;
        }
        (self.state, self.message) = match outcome {
            Ok(()) => (TaskState::Success, String::new()),
            Err(reason) => (TaskState::Failure, reason),
        };
        self.expires = now.checked_add(KEPT).ok();
    }
}

impl Kind for ImageTask {
    const NAME: &'static str = "image_task";
    const NOUN: &'static str = "task";
    crate::meta_accessors!();

    fn derive(&self, d: &mut Derived) {
        d.index("image", &self.image);
        if !self.state.is_final() {
            d.index("unfinished", "yes");
        }
    }
}
