//! Typed identifiers. `Id<Server>` and `Id<Host>` do not mix, whatever text they carry.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The identity of one document of kind `K`. Cheap to clone.
///
/// The text is what the original service would show: dashed UUIDs for most kinds, 32 hex digits in identity, free text where
/// callers choose ids (flavors, regions).
pub struct Id<K: ?Sized> {
    text: Arc<str>,
    kind: PhantomData<fn() -> Box<K>>,
}

impl<K: ?Sized> Id<K> {
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Id { text: text.into(), kind: PhantomData }
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The text, shared; for maps that key documents of every kind.
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// The same text as the id of another kind, for ids that two kinds share by design (a server and its allocation).
    pub fn of<L: ?Sized>(&self) -> Id<L> {
        Id::new(self.text.clone())
    }
}

impl<K: ?Sized> Clone for Id<K> {
    fn clone(&self) -> Self {
        Id { text: self.text.clone(), kind: PhantomData }
    }
}
impl<K: ?Sized> PartialEq for Id<K> {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}
impl<K: ?Sized> Eq for Id<K> {}
impl<K: ?Sized> PartialOrd for Id<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<K: ?Sized> Ord for Id<K> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.text.cmp(&other.text)
    }
}
impl<K: ?Sized> Hash for Id<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state)
    }
}
impl<K: ?Sized> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
impl<K: ?Sized> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.text, f)
    }
}
impl<K: ?Sized> From<&str> for Id<K> {
    fn from(text: &str) -> Self {
        Id::new(text)
    }
}
impl<K: ?Sized> From<String> for Id<K> {
    fn from(text: String) -> Self {
        Id::new(text)
    }
}
impl<K: ?Sized> AsRef<str> for Id<K> {
    fn as_ref(&self) -> &str {
        &self.text
    }
}
impl<K: ?Sized> Serialize for Id<K> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.text)
    }
}
impl<'de, K: ?Sized> Deserialize<'de> for Id<K> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Ok(Id::new(Arc::<str>::deserialize(d)?))
    }
}
