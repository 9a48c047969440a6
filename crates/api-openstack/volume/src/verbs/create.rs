//! New volumes.

use std::collections::BTreeMap;
use std::sync::Arc;

use unkai_model::identity::Project;
use unkai_model::image::{Image, ImageState};
use unkai_model::volume::{
    BackupPhase, Cipher, DefaultType, SnapshotPhase, Source, Volume, VolumeKey, VolumeSpec, VolumeStatus, VolumeType,
};
use unkai_model::{Error, Id, Meta};
use unkai_store::{Tx, View};

use super::limits;
use super::state::{State, state};

const GIB: u64 = 1 << 30;

/// A volume that is wanted. Whether its maker may see what it is made from is for the caller to know.
#[derive(Debug, Clone)]
pub struct New {
    pub project: Id<Project>,
    pub user: String,
    pub name: String,
    pub description: Option<String>,
    /// None: as large as what it is made from.
    pub size_gib: Option<u64>,
    pub source: Source,
    /// None: that of the volume it is made from, or of its snapshot; else the cloud's default.
    pub volume_type: Option<Id<VolumeType>>,
    pub zone: Option<String>,
    pub metadata: BTreeMap<String, String>,
    pub multi_attach: bool,
}

impl New {
    pub fn blank(project: Id<Project>, user: impl Into<String>) -> Self {
        let (name, description, size_gib, source, volume_type, zone, metadata) = Default::default();
        New { project, user: user.into(), name, description, size_gib, source, volume_type, zone, metadata, multi_attach: false }
    }
}

/// What the source says about the volume that is made from it.
#[derive(Default)]
pub(super) struct Origin {
    pub size_gib: u64,
    volume_type: Option<Id<VolumeType>>,
    bootable: bool,
    metadata: BTreeMap<String, String>,
    pub image_metadata: BTreeMap<String, String>,
    /// What opens it.
    key: Option<Id<VolumeKey>>,
    zone: Option<String>,
}

/// Wants a volume: in the same transaction its project is charged.
pub fn create(tx: &mut Tx, new: New) -> Result<Arc<Volume>, Error> {
    let view = tx.view();
    let origin = origin(&view, &new.source)?;
    let size_gib = size(&new, &origin)?;
    let kind = match new.volume_type.as_ref().or(origin.volume_type.as_ref()) {
        Some(id) => view.require(id)?,
        None => default_type(&view, Some(&new.project))?,
    };
    if !kind.is_visible_to(Some(&new.project)) {
        return Err(Error::not_found::<VolumeType>(&kind.meta.id));
    }
    let largest = limits::limit(&view, &new.project, "per_volume_gigabytes");
    if largest >= 0 && size_gib as i64 > largest {
        return Err(Error::denied(format!("Requested size {size_gib} is larger than maximum allowed limit {largest}.")));
    }
    let from_backup = matches!(new.source, Source::Backup(_));
    if from_backup && origin.key.is_some() != kind.encryption.is_some() {
        let text = "Invalid volume type: what a backup of an encrypted volume becomes is encrypted, and what another becomes is not.";
        return Err(Error::invalid(text));
    }
    limits::check(tx, &new.project, &["volumes", "gigabytes"]);
    limits::check_type(tx, &new.project, &kind, &["volumes", "gigabytes"]);
    let key = match &kind.encryption {
        // The container of a backup is as it was.
        Some(_) if from_backup => origin.key,
        Some(cipher) => Some(key(tx, cipher)?),
        None => None,
    };
    let mut meta = Meta::new(tx.new_id()).named(new.name);
    meta.project = Some(new.project);
    let spec = VolumeSpec {
        description: new.description,
        source: new.source,
        zone: new.zone.or(origin.zone),
        bootable: origin.bootable,
        multi_attach: new.multi_attach || kind.allows_multi_attach(),
        metadata: origin.metadata.into_iter().chain(new.metadata).collect(),
        image_metadata: origin.image_metadata,
        key,
        ..VolumeSpec::new(new.user, kind.meta.id.clone(), size_gib)
    };
    tx.insert(Volume { meta, spec, status: VolumeStatus::default() })
}

/// The one that was set for the project, else the first public type that was made.
pub fn default_type(view: &View, project: Option<&Id<Project>>) -> Result<Arc<VolumeType>, Error> {
    let set = project.and_then(|project| view.get(&Id::<DefaultType>::new(project.as_str())));
    if let Some(kind) = set.and_then(|set| view.get(&set.volume_type)) {
        return Ok(kind);
    }
    let public = view.all::<VolumeType>().filter(|kind| kind.public);
    let first = public.min_by_key(|kind| (kind.meta.created, kind.meta.id.clone()));
    first.ok_or_else(|| Error::invalid("Invalid input received: There is no public volume type."))
}

/// A new passphrase for a volume that is encrypted so.
fn key(tx: &mut Tx, cipher: &Cipher) -> Result<Id<VolumeKey>, Error> {
    let (cipher, mode) = qemu_words(cipher)?;
    let passphrase = hex::encode(tx.random::<32>());
    Ok(tx.insert(VolumeKey { meta: Meta::new(tx.new_id()), passphrase, cipher: cipher.into(), mode: mode.into() })?.meta.id.clone())
}

/// Names of the only container that QEMU writes, LUKS in its first version.
const PROVIDERS: [&str; 3] = ["luks", "LuksEncryptor", "nova.volume.encryptors.luks.LuksEncryptor"];

/// A cipher in QEMU's words: `aes-xts-plain64` with 256 bits is two keys of 128. [`Error::Invalid`] for those that it does not have.
fn qemu_words(cipher: &Cipher) -> Result<(&'static str, &'static str), Error> {
    if !PROVIDERS.contains(&cipher.provider.as_str()) {
        return Err(input(format!("Encryption provider {} is not supported; luks is.", cipher.provider)));
    }
    match (cipher.cipher.as_deref().unwrap_or("aes-xts-plain64"), cipher.key_size) {
        ("aes-xts-plain64", Some(256)) => Ok(("aes-128", "xts")),
        ("aes-xts-plain64", None | Some(512)) => Ok(("aes-256", "xts")),
        (name, size) => {
            let size = size.map_or_else(String::new, |bits| format!(" with {bits} bits"));
            Err(Error::invalid(format!(
                "Invalid input received: Cipher {name}{size} is not supported; aes-xts-plain64 with 256 or 512 bits is."
            )))
        }
    }
}

fn size(new: &New, origin: &Origin) -> Result<u64, Error> {
    let least = origin.size_gib;
    let size = match (new.size_gib, &new.source) {
        (Some(size), _) => size,
        (None, Source::Snapshot(_) | Source::Volume(_) | Source::Backup(_)) => least,
        (None, Source::Blank | Source::Image(_)) => 0,
    };
    if size == 0 {
        let said = new.size_gib.map_or_else(|| "None".to_owned(), |size| size.to_string());
        return Err(input(format!("Volume size '{said}' must be an integer and greater than 0")));
    }
    if size >= least {
        return Ok(size);
    }
    Err(input(match &new.source {
        Source::Snapshot(_) => {
            format!("Volume size '{size}'GB cannot be smaller than the snapshot size {least}GB. They must be >= original snapshot size.")
        }
        Source::Volume(_) => {
            format!("Volume size '{size}'GB cannot be smaller than original volume size  {least}GB. They must be >= original volume size.")
        }
        Source::Backup(_) => {
            format!("Volume size '{size}'GB cannot be smaller than the backup size {least}GB. They must be >= original backup size.")
        }
        Source::Blank | Source::Image(_) => format!("Size of specified image {least}GB is larger than volume size {size}GB."),
    }))
}

fn input(text: String) -> Error {
    Error::invalid(format!("Invalid input received: {text}"))
}

fn origin(view: &View, source: &Source) -> Result<Origin, Error> {
    match source {
        Source::Blank => Ok(Origin::default()),
        Source::Image(id) => {
            let missing = || Error::invalid("Invalid image identifier or unable to access requested image.");
            of_image(&*view.get(id).ok_or_else(missing)?)
        }
        Source::Snapshot(id) => {
            let snapshot = view.require(id)?;
            if snapshot.deleted || snapshot.phase != SnapshotPhase::Available {
                return Err(Error::invalid("Invalid snapshot: Originating snapshot status must be one of 'available' values"));
            }
            Ok(Origin { size_gib: snapshot.size_gib, ..of_volume(&*view.require(&snapshot.volume)?) })
        }
        Source::Volume(id) => {
            let volume = view.require(id)?;
            match state(view, &volume) {
                State::Available | State::InUse => Ok(of_volume(&volume)),
                other => Err(Error::invalid(format!(
                    "Invalid volume: Volume {id} status must be available or in-use, but it is {}.",
                    other.as_str()
                ))),
            }
        }
        Source::Backup(id) => {
            let backup = view.require(id)?;
            if backup.deleted || backup.phase != BackupPhase::Available {
                return Err(Error::invalid("Invalid backup: Backup status must be available"));
            }
            let was = &backup.was;
            Ok(Origin {
                size_gib: backup.size_gib,
                volume_type: was.volume_type.clone().filter(|kind| view.get(kind).is_some()),
                bootable: was.bootable,
                metadata: was.metadata.clone(),
                image_metadata: was.image_metadata.clone(),
                key: backup.key.clone(),
                zone: None,
            })
        }
    }
}

fn of_volume(volume: &Volume) -> Origin {
    Origin {
        size_gib: volume.spec.size_gib,
        volume_type: Some(volume.spec.volume_type.clone()),
        bootable: volume.spec.bootable,
        image_metadata: volume.spec.image_metadata.clone(),
        key: volume.spec.key.clone(),
        zone: volume.spec.zone.clone(),
        ..Origin::default()
    }
}

pub(super) fn of_image(image: &Image) -> Result<Origin, Error> {
    let (id, spec) = (&image.meta.id, &image.spec);
    if image.status.state != ImageState::Active {
        return Err(Error::invalid(format!("Invalid image identifier or unable to access requested image. Image {id} is not active.")));
    }
    let Some(content) = &image.status.content else {
        return Err(Error::invalid(format!("Image {id} is unacceptable: it has no content to start from.")));
    };
    let bytes = content.size.max(content.virtual_size.unwrap_or(0));
    let noted = [
        ("image_id", Some(id.to_string())),
        ("image_name", Some(image.meta.name.clone())),
        ("checksum", Some(content.md5.clone())),
        ("size", Some(content.size.to_string())),
        ("min_disk", Some(spec.min_disk_gib.to_string())),
        ("min_ram", Some(spec.min_ram_mib.to_string())),
        ("disk_format", spec.disk_format.map(|format| format.as_str().to_owned())),
        ("container_format", spec.container_format.map(|format| format.as_str().to_owned())),
    ];
    let noted = noted.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
    Ok(Origin {
        size_gib: bytes.div_ceil(GIB).max(spec.min_disk_gib),
        bootable: true,
        image_metadata: spec.properties.clone().into_iter().chain(noted).collect(),
        ..Origin::default()
    })
}
