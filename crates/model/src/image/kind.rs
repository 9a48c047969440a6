//! An image: bytes that servers start from, and what is said about them.
//!
//! `spec` is written by the API; `status` by whoever brings the bytes: an upload, an import or, for a snapshot, the agent of the host
//! that has the disk. The bytes themselves are files of the controller, named in `status`; a file that no image names is garbage.
//!
//! ```text
//! Queued ──upload──> Saving ─────────────> Active <──> Deactivated
//!   │  ^               │ failed: back        ^
//!   │  └───────────────┘                     │
//!   ├──stage──> Uploading ──import──> Importing
//!   └──web-download──────────────────────^   │ failed: back to Queued
//! ```
//! An image of a server with volumes has no bytes and is Active from the start.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::format::named;
use super::{ContainerFormat, DiskFormat, Member};
use crate::compute::{Host, Server};
use crate::identity::Project;
use crate::{Derived, Error, Id, Kind, Meta};

/// An image without a name has the empty one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Image {
    pub meta: Meta<Image>,
    #[serde(default)]
    pub spec: ImageSpec,
    #[serde(default)]
    pub status: ImageStatus,
}

/// What was said about it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageSpec {
    pub visibility: Visibility,
    pub disk_format: Option<DiskFormat>,
    pub container_format: Option<ContainerFormat>,
    pub min_disk_gib: u64,
    pub min_ram_mib: u64,
    /// Cannot be deleted while set.
    pub protected: bool,
    /// Not in lists unless asked for.
    pub hidden: bool,
    pub tags: BTreeSet<String>,
    /// Everything else that was said, `hw_disk_bus` for example.
    pub properties: BTreeMap<String, String>,
    /// Whom a shared image is shared with.
    pub members: BTreeMap<Id<Project>, Member>,
    /// Set for a snapshot: whose disk it is to be.
    pub source: Option<ImageSource>,
}

/// The disk that a snapshot is taken of. The agent of `host` uploads it while the image is queued.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageSource {
    pub server: Id<Server>,
    /// Where the server was when the snapshot was asked for.
    #[serde(default)]
    pub host: Option<Id<Host>>,
}

named! {
    #[derive(Default)]
    Visibility { Private = "private", #[default] Shared = "shared", Community = "community", Public = "public" }
}

/// What became of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageStatus {
    pub state: ImageState,
    /// Set while Active or Deactivated.
    pub content: Option<Content>,
    /// Set while Saving, Uploading or Importing.
    pub incoming: Option<Incoming>,
    /// Counts attempts to bring the bytes; each writes a file of its own.
    pub attempts: u64,
    /// Why the last attempt failed, in words for its owner.
    pub refusal: Option<String>,
}

named! {
    #[derive(Default)]
    ImageState {
        #[default]
        Queued = "queued",
        /// Bytes arrive.
        Saving = "saving",
        /// Bytes arrive, or have arrived, in the staging area, and wait for an import.
        Uploading = "uploading",
        Importing = "importing",
        Active = "active",
        /// Active, but the bytes are for administrators only.
        Deactivated = "deactivated",
    }
}

/// Bytes that were accepted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Content {
    /// The name of the file among the controller's image files.
    pub file: String,
    pub size: u64,
    /// Of the disk that the bytes describe.
    pub virtual_size: Option<u64>,
    pub md5: String,
    pub sha512: String,
}

/// Bytes on their way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Incoming {
    /// The attempt this is; a writer whose number is not this one is too late.
    pub attempt: u64,
    /// What is complete in the staging area.
    #[serde(default)]
    pub staged: Option<Content>,
    /// Why what was staged may not be imported. Nothing of it was kept.
    #[serde(default)]
    pub refused: Option<String>,
}

impl Image {
    /// A queued image. Its meta is the caller's: id, name, owner.
    pub fn new(meta: Meta<Image>, spec: ImageSpec) -> Self {
        Image { meta, spec, status: ImageStatus::default() }
    }

    /// The bytes, if a server may be started from them.
    pub fn bootable(&self) -> Option<&Content> {
        self.status.content.as_ref().filter(|_| self.status.state == ImageState::Active)
    }

    /// An image without bytes, active at once: it only says, in its properties, which volumes its servers are made with.
    pub fn hollow(meta: Meta<Image>, spec: ImageSpec) -> Self {
        Image { meta, spec, status: ImageStatus { state: ImageState::Active, ..ImageStatus::default() } }
    }

    pub fn size(&self) -> Option<u64> {
        let hollow = matches!(self.status.state, ImageState::Active | ImageState::Deactivated).then_some(0);
        self.status.content.as_ref().map(|content| content.size).or(hollow)
    }

    /// Files of the controller that belong to this image.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        let staged = self.status.incoming.as_ref().and_then(|incoming| incoming.staged.as_ref());
        self.status.content.iter().chain(staged).map(|content| content.file.as_str())
    }

    /// Whether a project that is neither owner nor administrator may see it. Pending and rejected members may.
    pub fn is_visible_to(&self, project: Option<&Id<Project>>) -> bool {
        match self.spec.visibility {
            Visibility::Public | Visibility::Community => true,
            Visibility::Shared => project.is_some_and(|project| self.spec.members.contains_key(project)),
            Visibility::Private => false,
        }
    }

    /// Moves from `from` to `to`, a state in which bytes arrive, and gives the number of the attempt.
    pub fn begin(&mut self, to: ImageState) -> Result<u64, Error> {
        self.go(to)?;
        self.status.attempts += 1;
        self.status.refusal = None;
        self.status.incoming = Some(Incoming { attempt: self.status.attempts, staged: None, refused: None });
        Ok(self.status.attempts)
    }

    /// The bytes of `attempt` are complete: the image is what they are.
    pub fn complete(&mut self, attempt: u64, content: Content) -> Result<(), Error> {
        self.require_attempt(attempt)?;
        self.go(ImageState::Active)?;
        self.status.incoming = None;
        self.status.content = Some(content);
        self.spec.source = None;
        Ok(())
    }

    /// The bytes of `attempt` are complete in the staging area, or were refused there.
    pub fn stage(&mut self, attempt: u64, outcome: Result<Content, String>) -> Result<(), Error> {
        self.require_attempt(attempt)?;
        let (staged, refused) = match outcome {
            Ok(content) => (Some(content), None),
            Err(reason) => (None, Some(reason)),
        };
        self.status.incoming = Some(Incoming { attempt, staged, refused });
        Ok(())
    }

    /// The bytes of `attempt` will not come. True when the image was still waiting for them.
    pub fn give_up(&mut self, attempt: u64, reason: Option<String>) -> bool {
        if self.require_attempt(attempt).is_err() {
            return false;
        }
        self.status.state = ImageState::Queued;
        self.status.incoming = None;
        self.status.refusal = reason;
        true
    }

    /// Moves to another state, if that is legal.
    pub fn go(&mut self, to: ImageState) -> Result<(), Error> {
        if !self.status.state.leads_to(to) {
            return Err(Error::conflict(format!("Image status transition from {} to {to} is not allowed", self.status.state)));
        }
        self.status.state = to;
        Ok(())
    }

    fn require_attempt(&self, attempt: u64) -> Result<(), Error> {
        match &self.status.incoming {
            Some(incoming) if incoming.attempt == attempt => Ok(()),
            _ => Err(Error::conflict(format!("upload {attempt} of image {} was given up", self.meta.id))),
        }
    }
}

impl ImageState {
    pub fn leads_to(self, to: ImageState) -> bool {
        use ImageState::*;
        match self {
            Queued => matches!(to, Saving | Uploading | Importing),
            Saving | Importing => matches!(to, Active | Queued),
            Uploading => matches!(to, Importing | Queued),
            Active => to == Deactivated,
            Deactivated => to == Active,
        }
    }

    /// Somebody is expected to bring bytes.
    pub fn is_incoming(self) -> bool {
        matches!(self, ImageState::Saving | ImageState::Uploading | ImageState::Importing)
    }
}

const MIB: u64 = 1 << 20;

impl Kind for Image {
    const NAME: &'static str = "image";
    crate::meta_accessors!();

    /// Indexes: `project`, `visibility`, `member` (project it is shared with), `incoming`, and `snapshot_of` (host or "") while queued
    /// for an agent to upload. Tallies: Glance's quotas, by project.
    fn derive(&self, d: &mut Derived) {
        let project = self.meta.project.as_ref().map_or("", |p| p.as_str());
        d.index("project", project);
        d.index("visibility", self.spec.visibility.as_str());
        for member in self.spec.members.keys() {
            d.index("member", member);
        }
        if let Some(source) = self.spec.source.as_ref().filter(|_| self.status.content.is_none()) {
            d.index("snapshot_of", source.host.as_ref().map_or("", |host| host.as_str()));
        }
        d.tally("image_count_total", project, 1);
        if let Some(content) = &self.status.content {
            d.tally("image_size_total", project, content.size.div_ceil(MIB) as i64);
        }
        if let Some(incoming) = &self.status.incoming {
            d.index("incoming", "yes");
            d.tally("image_count_uploading", project, 1);
            let staged = incoming.staged.as_ref().map_or(0, |content| content.size.div_ceil(MIB));
            d.tally("image_stage_total", project, staged as i64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content() -> Content {
        Content { file: "a.1".into(), size: 3 * MIB + 1, virtual_size: None, md5: "m".into(), sha512: "s".into() }
    }

    fn image() -> Image {
        Image::new(Meta::new("a").owned_by("p"), ImageSpec::default())
    }

    #[test]
    fn only_the_newest_attempt_can_finish() {
        let mut image = image();
        let first = image.begin(ImageState::Saving).unwrap();
        assert!(image.give_up(first, None));
        let second = image.begin(ImageState::Saving).unwrap();
        assert!(image.complete(first, content()).is_err());
        assert!(!image.give_up(first, None));
        image.complete(second, content()).unwrap();
        assert_eq!(image.status.state, ImageState::Active);
        assert!(image.begin(ImageState::Saving).is_err(), "an active image takes no other bytes");
    }

    #[test]
    fn what_was_staged_becomes_active_only_through_an_import() {
        let mut image = image();
        let attempt = image.begin(ImageState::Uploading).unwrap();
        image.stage(attempt, Ok(content())).unwrap();
        assert!(image.complete(attempt, content()).is_err());
        image.go(ImageState::Importing).unwrap();
        image.complete(attempt, content()).unwrap();
        assert_eq!(image.files().collect::<Vec<_>>(), ["a.1"]);
    }

    #[test]
    fn an_image_of_volumes_is_active_without_bytes() {
        let hollow = Image::hollow(Meta::new("a").owned_by("p"), ImageSpec::default());
        assert_eq!((hollow.status.state, hollow.size(), image().size()), (ImageState::Active, Some(0), None));
        assert!(hollow.bootable().is_none());
    }

    #[test]
    fn quota_counts_whole_mebibytes() {
        let mut image = image();
        let attempt = image.begin(ImageState::Saving).unwrap();
        image.complete(attempt, content()).unwrap();
        let mut derived = Derived::default();
        image.derive(&mut derived);
        assert!(derived.tallies.contains(&("image_size_total", "p".into(), 4)));
        assert!(derived.tallies.contains(&("image_count_total", "p".into(), 1)));
    }

    #[test]
    fn only_members_see_a_shared_image() {
        let mut image = image();
        image.spec.members.insert("q".into(), Member::new(jiff::Timestamp::UNIX_EPOCH));
        assert!(image.is_visible_to(Some(&"q".into())));
        assert!(!image.is_visible_to(Some(&"r".into())));
        image.spec.visibility = Visibility::Private;
        assert!(!image.is_visible_to(Some(&"q".into())));
    }
}
