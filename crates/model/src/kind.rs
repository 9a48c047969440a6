//! What every document has, and what a document derives from its own value.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Id;
use crate::identity::Project;

/// A kind of document. Everything the store knows about a document beside its bytes comes from here.
pub trait Kind: Clone + fmt::Debug + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The name in the store, for ever: `security_group`.
    const NAME: &'static str;
    /// The noun in messages: `security group`.
    const NOUN: &'static str = Self::NAME;

    fn meta(&self) -> &Meta<Self>;
    fn meta_mut(&mut self) -> &mut Meta<Self>;

    /// Indexes, claims, tallies and references. A pure function of the value: the store calls it on the old and the new value of
    /// every write and keeps the difference.
    fn derive(&self, _: &mut Derived) {}
}

/// The part of a document that is the same for every kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Meta<K: ?Sized> {
    pub id: Id<K>,
    /// The owning project; none for what belongs to the cloud itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<Id<Project>>,
    #[serde(default)]
    pub name: String,
    /// Counts changes of what is wanted. The author of such a change increments it; status names the generation it is about.
    #[serde(default)]
    pub generation: u64,
    /// Counts writes of this document; kept by the store.
    #[serde(default)]
    pub version: u64,
    /// Kept by the store, from the transaction's clock.
    #[serde(default)]
    pub created: Timestamp,
    #[serde(default)]
    pub updated: Timestamp,
}

impl<K> Meta<K> {
    pub fn new(id: impl Into<Id<K>>) -> Self {
        Meta {
            id: id.into(),
            project: None,
            name: String::new(),
            generation: 1,
            version: 0,
            created: Timestamp::UNIX_EPOCH,
            updated: Timestamp::UNIX_EPOCH,
        }
    }
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }
    pub fn owned_by(mut self, project: impl Into<Id<Project>>) -> Self {
        self.project = Some(project.into());
        self
    }
}

/// What one document derives. All namespaces are short constant names.
#[derive(Debug, Default, PartialEq)]
pub struct Derived {
    pub indexes: Vec<(&'static str, Arc<str>)>,
    pub claims: Vec<(&'static str, Arc<str>)>,
    pub tallies: Vec<(&'static str, Arc<str>, i64)>,
    pub references: Vec<(&'static str, Arc<str>)>,
}

impl Derived {
    /// Lets `View::by_index(name, key)` find this document.
    pub fn index(&mut self, name: &'static str, key: impl AsRef<str>) {
        self.indexes.push((name, key.as_ref().into()));
    }
    /// Holds `key` in `namespace`, against every other document of every kind.
    pub fn claim(&mut self, namespace: &'static str, key: impl AsRef<str>) {
        self.claims.push((namespace, key.as_ref().into()));
    }
    /// Adds `amount` to the sum `(namespace, key)`; quotas and capacities are limits on such sums.
    pub fn tally(&mut self, namespace: &'static str, key: impl AsRef<str>, amount: i64) {
        self.tallies.push((namespace, key.as_ref().into(), amount));
    }
    /// Names a document that must exist, and cannot be deleted, while this one names it.
    pub fn refers<K: Kind>(&mut self, id: &Id<K>) {
        self.references.push((K::NAME, id.text().clone()));
    }
}

/// Implements the two accessors that are the same for every kind.
#[macro_export]
macro_rules! meta_accessors {
    () => {
        fn meta(&self) -> &$crate::Meta<Self> {
            &self.meta
        }
        fn meta_mut(&mut self) -> &mut $crate::Meta<Self> {
            &mut self.meta
        }
    };
}
