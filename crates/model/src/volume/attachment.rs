//! The use of a volume by a server.
//!
//! ```text
//! Reserved ──> Attaching ──(the server's host has it)──> Attached ──> Detaching ──(the host has let go)──> deleted
//! ```
//! A server's host is told of its attachments that are Attaching or Attached, as part of the server's item; a change of them raises the
//! server's generation, and the server's settling at that generation is what ends Attaching and Detaching.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Volume;
use crate::compute::Server;
use crate::{Derived, Id, Kind, Meta};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attachment {
    /// The project is the volume's.
    pub meta: Meta<Attachment>,
    pub volume: Id<Volume>,
    /// Whom it is for. May name a server of another cloud, or none: then nothing is done on any host.
    pub server: Option<Id<Server>>,
    pub mode: Mode,
    pub state: AttachState,
    /// `/dev/vdb` as the caller is shown it.
    #[serde(default)]
    pub device: Option<String>,
    #[serde(default)]
    pub boot_index: Option<u32>,
    /// `virtio`, `scsi`, `ide`, `sata`.
    #[serde(default)]
    pub bus: Option<String>,
    #[serde(default)]
    pub tag: Option<String>,
    #[serde(default)]
    pub delete_on_termination: bool,
    /// What a caller of the attachments API said about its own initiator; stored and shown.
    #[serde(default)]
    pub connector: Option<serde_json::Value>,
    /// The server's generation in which the host was told last.
    #[serde(default)]
    pub generation: u64,
    /// The fencing generation of the volume that the server's host uses it with.
    #[serde(default)]
    pub fence: u64,
    #[serde(default)]
    pub attached_at: Option<Timestamp>,
    #[serde(default)]
    pub detached_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    #[default]
    ReadWrite,
    ReadOnly,
}

impl Mode {
    /// The word in APIs.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::ReadWrite => "rw",
            Mode::ReadOnly => "ro",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttachState {
    Reserved,
    Attaching,
    Attached,
    Detaching,
}

impl Attachment {
    /// One that is only reserved.
    pub fn new(meta: Meta<Attachment>, volume: Id<Volume>, server: Option<Id<Server>>, mode: Mode) -> Self {
        Attachment {
            meta,
            volume,
            server,
            mode,
            state: AttachState::Reserved,
            device: None,
            boot_index: None,
            bus: None,
            tag: None,
            delete_on_termination: false,
            connector: None,
            generation: 0,
            fence: 0,
            attached_at: None,
            detached_at: None,
        }
    }

    /// The server's host is to have it.
    pub fn is_wanted(&self) -> bool {
        matches!(self.state, AttachState::Attaching | AttachState::Attached)
    }

    /// The volume is what the server starts from.
    pub fn is_root(&self) -> bool {
        self.boot_index == Some(0)
    }
}

impl Kind for Attachment {
    const NAME: &'static str = "volume_attachment";
    const NOUN: &'static str = "attachment";
    crate::meta_accessors!();

    /// Indexes: `project`, `volume`, `server`, and `moving` while Attaching or Detaching.
    fn derive(&self, d: &mut Derived) {
        d.index("project", self.meta.project.as_ref().map_or("", |project| project.as_str()));
        d.index("volume", &self.volume);
        d.refers(&self.volume);
        if let Some(server) = &self.server {
            d.index("server", server);
            d.claim("volume-use", format!("{}/{server}", self.volume));
        }
        if matches!(self.state, AttachState::Attaching | AttachState::Detaching) {
            d.index("moving", "yes");
        }
    }
}
