//! What a kind of storage must be able to do. Everything else is [`crate::Pool`]'s.

use crate::error::{Error, Result};
use crate::image::{Format, Image};
use crate::job::Job;
use crate::spec::{Found, Notes, Spot, Status};

/// Which of the two contents that a spot can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Being made: nobody's until it is published, and thrown away when the making is begun again.
    Draft,
    Whole,
}

/// Held while something is done to a volume. Letting go of it unlocks.
pub struct Lock(Option<Box<dyn std::any::Any + Send>>);

impl Lock {
    pub fn holding(guard: impl Send + 'static) -> Lock {
        Lock(Some(Box::new(guard)))
    }

    /// For storage that needs none.
    pub fn none() -> Lock {
        Lock(None)
    }

    pub fn is_held(&self) -> bool {
        self.0.is_some()
    }
}

/// One pool of one kind. Every step may be repeated after it was interrupted anywhere; none leaves a half-made thing under a whole one's
/// name. Steps that find the pool gone say [`Error::Pool`] and make nothing.
///
/// Making a content: `begin` (or `copy`, where the storage can do better than moving bytes), fill the draft, `publish`.
pub trait Driver: Send + Sync {
    /// How the pool is. One that never was a pool becomes one when no `mark` is expected.
    fn status(&self, mark: Option<&str>) -> Result<Status>;

    /// One host at a time works on a volume; any number may read it (`shared`). [`Error::Busy`] when that cannot be now.
    fn lock(&self, volume: &str, shared: bool) -> Result<Lock>;

    /// None: there is no trace of it.
    fn look(&self, volume: &str) -> Result<Option<Found>>;

    fn note(&self, volume: &str, notes: &Notes) -> Result<()>;

    /// How QEMU opens it. Does not say whether it is there.
    fn image(&self, spot: &Spot, look: Look) -> Image;

    /// How a server's QEMU opens the volume, which is let in from here on.
    fn open(&self, volume: &str) -> Result<Image> {
        Ok(self.image(&Spot::data(volume), Look::Whole))
    }

    /// An empty draft of so many bytes. `shared`: in a form that several may write at once, which not every format is.
    fn begin(&self, spot: &Spot, bytes: u64, shared: bool) -> Result<()>;

    /// A draft of `to` with the content of `from`, which nobody writes. False: this storage cannot, and bytes must be moved.
    /// A driver whose copies are whole at once makes them so.
    fn copy(&self, from: &Spot, to: &Spot, shared: bool, job: &Job) -> Result<bool>;

    /// Bytes of a content.
    fn bytes(&self, spot: &Spot, look: Look) -> Result<u64>;

    /// Makes a content longer; zeros come behind. [`Error::Busy`] when a server has it open.
    fn grow(&self, spot: &Spot, look: Look, bytes: u64) -> Result<()>;

    /// The draft becomes what the spot is, durably and at once. Nothing happens when `copy` has made it whole.
    fn publish(&self, spot: &Spot) -> Result<()>;

    /// Removes a content, its draft too; nothing happens when there is none.
    fn remove(&self, spot: &Spot) -> Result<()>;

    /// Removes all there is of a volume.
    fn remove_volume(&self, volume: &str) -> Result<()>;

    /// Keeps those out who were given an older generation, as far as this storage can beyond refusing them here.
    fn fence(&self, _volume: &str, _notes: &Notes) -> Result<()> {
        Ok(())
    }

    /// Whether [`Driver::copy`] may make a snapshot of a volume that a server writes to: as after a power failure.
    fn snapshots_live(&self) -> bool {
        false
    }

    /// The pool is none of this host's any more: ends what was started for it here.
    fn leave(&self) -> Result<()> {
        Ok(())
    }

    /// Several servers may have it open for writing.
    fn is_shared(&self, volume: &str) -> Result<bool> {
        Ok(self.image(&Spot::data(volume), Look::Whole).format == Format::Raw)
    }

    /// Makes sure that no server has the volume open for writing. Storage that cannot tell says nothing.
    fn at_rest(&self, _volume: &str) -> Result<Lock> {
        Ok(Lock::none())
    }
}

/// For drivers: the volume is there.
pub(crate) fn present(found: Option<Found>, volume: &str) -> Result<Found> {
    found.ok_or_else(|| Error::Missing(format!("volume {volume}")))
}
