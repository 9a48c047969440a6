//! Two kinds that derive one of everything, so that the tests do not depend on what the cloud's own kinds derive today.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use unkai_model::{Derived, Id, Kind, Meta, meta_accessors};
use unkai_store::Registry;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Item {
    pub meta: Meta<Item>,
    pub group: String,
    pub names: BTreeSet<String>,
    pub weight: i64,
    pub parent: Option<Id<Item>>,
    pub shelf: Option<Id<Shelf>>,
    pub text: String,
}

impl Item {
    pub fn new(id: &str) -> Self {
        Item {
            meta: Meta::new(id),
            group: "none".into(),
            names: BTreeSet::new(),
            weight: 0,
            parent: None,
            shelf: None,
            text: String::new(),
        }
    }
    pub fn group(mut self, group: &str) -> Self {
        self.group = group.into();
        self
    }
    pub fn claiming(mut self, name: &str) -> Self {
        self.names.insert(name.into());
        self
    }
    pub fn weighing(mut self, weight: i64) -> Self {
        self.weight = weight;
        self
    }
    pub fn under(mut self, parent: &str) -> Self {
        self.parent = Some(parent.into());
        self
    }
    pub fn saying(mut self, text: impl Into<String>) -> Self {
        self.text = text.into();
        self
    }
}

impl Kind for Item {
    const NAME: &'static str = "test_item";
    const NOUN: &'static str = "item";
    meta_accessors!();
    fn derive(&self, d: &mut Derived) {
        d.index("group", &self.group);
        self.names.iter().for_each(|name| d.claim("name", name));
        d.tally("weight", &self.group, self.weight);
        self.parent.iter().for_each(|parent| d.refers(parent));
        self.shelf.iter().for_each(|shelf| d.refers(shelf));
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Shelf {
    pub meta: Meta<Shelf>,
    pub name: Option<String>,
}

impl Shelf {
    pub fn new(id: &str) -> Self {
        Shelf { meta: Meta::new(id), name: None }
    }
}

impl Kind for Shelf {
    const NAME: &'static str = "test_shelf";
    const NOUN: &'static str = "shelf";
    meta_accessors!();
    fn derive(&self, d: &mut Derived) {
        self.name.iter().for_each(|name| d.claim("name", name));
    }
}

pub fn registry() -> Registry {
    Registry::empty().with::<Item>().with::<Shelf>()
}

pub fn item(id: &str) -> Id<Item> {
    Id::new(id)
}
