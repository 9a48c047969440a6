//! An answer under construction: the attributes of one resource, in order, and only those that somebody asked for.

use std::collections::BTreeSet;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::Value;
use unkai_model::network::Standard;
use unkai_model::{Kind, Meta};
use unkai_openstack::iso_z;

/// Attributes in the order in which they were put.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Object<'w> {
    pairs: Vec<(&'static str, Value)>,
    wanted: Option<&'w BTreeSet<String>>,
}

impl<'w> Object<'w> {
    /// Takes only what is in `wanted`; everything when that is none.
    pub fn of(wanted: Option<&'w BTreeSet<String>>) -> Self {
        Object { pairs: Vec::with_capacity(32), wanted }
    }

    /// `value` is not computed when nobody asked for it.
    pub fn put<V: Into<Value>>(&mut self, name: &'static str, value: impl FnOnce() -> V) {
        if self.wanted.is_none_or(|wanted| wanted.contains(name)) {
            self.pairs.push((name, value().into()));
        }
    }

    /// An attribute for filters and for those who name it, not part of the usual answer.
    pub fn put_hidden<V: Into<Value>>(&mut self, name: &'static str, value: impl FnOnce() -> V) {
        if self.wanted.is_some() {
            self.put(name, value);
        }
    }

    /// What resources begin with.
    pub fn head<K: Kind>(&mut self, meta: &Meta<K>) {
        self.put("id", || meta.id.as_str());
        self.put("name", || meta.name.as_str());
        self.owner(meta);
    }

    pub fn owner<K: Kind>(&mut self, meta: &Meta<K>) {
        let project = || meta.project.as_ref().map_or("", |p| p.as_str());
        self.put("tenant_id", project);
        self.put("project_id", project);
    }

    /// What resources end with.
    pub fn tail<K: Kind>(&mut self, meta: &Meta<K>, standard: &Standard) {
        self.put("description", || standard.description.as_str());
        self.put("tags", || standard.tags.iter().map(String::as_str).collect::<Vec<_>>());
        self.put("created_at", || iso_z(meta.created));
        self.put("updated_at", || iso_z(meta.updated));
        self.put("revision_number", || meta.version);
    }

    pub fn get(&self, name: &str) -> Option<&Value> {
        self.pairs.iter().find(|(n, _)| *n == name).map(|(_, value)| value)
    }

    /// Leaves only these attributes, all when there are none.
    pub fn select(mut self, fields: &BTreeSet<String>) -> Object<'static> {
        if !fields.is_empty() {
            self.pairs.retain(|(name, _)| fields.contains(*name));
        }
        Object { pairs: self.pairs, wanted: None }
    }

    /// The same, no longer bound to the set of names it was made with.
    pub fn freed(self) -> Object<'static> {
        Object { pairs: self.pairs, wanted: None }
    }

    pub fn into_value(self) -> Value {
        Value::Object(self.pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }
}

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(Some(self.pairs.len()))?;
        for (name, value) in &self.pairs {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}
