//! The other end of the wire: QEMU's own iSCSI client.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};

use serde_json::json;

use crate::error::{Error, Result};
use crate::image::{Format, Image, Secret, Storage};
use crate::job::Job;
use crate::tool::{Run, Tools, dotted, memory};

const PORT: &str = ":3260";

pub struct Initiator {
    pub portal: String,
    iqn: String,
    user: String,
    password: String,
    tools: Tools,
}

impl Initiator {
    pub fn new(portal: &str, iqn: &str, user: &str, password: &str, tools: Tools) -> Result<Initiator> {
        // Options of `tgtd` are separated by commas.
        let plain = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic() && !"\"',;\\/=".contains(c));
        if let Some(odd) = [portal, iqn, user].into_iter().find(|text| !plain(text)) {
            return Err(Error::Invalid(format!("{odd:?} cannot be part of how an iSCSI target is reached")));
        }
        if password.is_empty() || password.chars().any(|c| c == ',' || c.is_control()) {
            return Err(Error::Invalid("the password of an iSCSI target is not empty and has no commas".into()));
        }
        let bare = match portal.rsplit_once(']') {
            Some((_, rest)) => !rest.contains(':'),
            None => !portal.contains(':'),
        };
        let portal = format!("{portal}{}", if bare { PORT } else { "" });
        Ok(Initiator { portal, iqn: iqn.into(), user: user.into(), password: password.into(), tools })
    }

    /// The name of a target of this pool.
    pub fn name(&self, rest: &str) -> String {
        format!("{}:{rest}", self.iqn)
    }

    /// Requests of other hosts come by this one. No volume has an empty name.
    pub fn control(&self) -> String {
        self.name(":control")
    }

    pub fn image(&self, volume: &str, target: &str) -> Image {
        let secret = Secret::new(volume, "iscsi", self.password.as_bytes());
        let node = json!({
            "driver": "iscsi", "transport": "tcp", "portal": self.portal, "target": target, "lun": 1, "user": self.user,
            "password-secret": secret.id, "cache": {"direct": true},
        });
        Image { storage: Storage::Node { node, secrets: vec![secret] }, format: Format::Raw }
    }

    /// Moves bytes between a place in a LUN and a file in memory.
    fn slice(&self, run: &mut Run<'_>, target: &str, at: u64, length: usize, writable: bool) -> Result<serde_json::Value> {
        let mut node = run.open(&self.image("control", target), writable)?;
        node["offset"] = at.into();
        node["size"] = length.into();
        Ok(node)
    }

    pub fn write(&self, target: &str, at: u64, bytes: &[u8]) -> Result<()> {
        let mut run = Run::qemu_img(&self.tools, "convert");
        let node = self.slice(&mut run, target, at, bytes.len(), true)?;
        let file = self.in_memory(bytes)?;
        let source = json!({"driver": "raw", "file": run.file(&file)?});
        run.args(["-n", "--target-image-opts"]).arg(format!("json:{source}")).arg(dotted(&node));
        self.go(run).map(drop)
    }

    pub fn read(&self, target: &str, at: u64, length: usize) -> Result<Vec<u8>> {
        let mut run = Run::qemu_img(&self.tools, "convert");
        let node = self.slice(&mut run, target, at, length, false)?;
        let mut file = self.in_memory(&vec![0; length])?;
        let into = json!({"driver": "raw", "file": run.file(&file)?});
        run.args(["-n", "--target-image-opts"]).arg(format!("json:{node}")).arg(dotted(&into));
        self.go(run)?;
        let failed = || Error::io("read", "what was read from a target");
        let mut bytes = Vec::with_capacity(length);
        file.seek(SeekFrom::Start(0)).map_err(failed())?;
        file.read_to_end(&mut bytes).map_err(failed())?;
        Ok(bytes)
    }

    fn in_memory(&self, bytes: &[u8]) -> Result<File> {
        let failed = || Error::io("make in memory", "what is sent to a target");
        let mut file = memory(c"iscsi").map_err(failed())?;
        file.write_all(bytes).map_err(failed())?;
        self.tools.give(&file, std::path::Path::new("what is sent to a target"))?;
        Ok(file)
    }

    fn go(&self, run: Run<'_>) -> Result<Vec<u8>> {
        run.go(&Job::default()).map_err(|error| match error {
            Error::Tool { text, .. } => Error::Pool(format!("iSCSI target at {}: {text}", self.portal)),
            other => other,
        })
    }
}
