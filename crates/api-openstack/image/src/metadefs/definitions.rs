//! What objects, properties, tags and resource types have in common: they live in a namespace by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use unkai_model::Timestamp;
use unkai_model::image::{Definition, MetadefNamespace};
use unkai_openstack::{CallerName, Cloud};
use unkai_store::{Tx, View};

use crate::error::{ApiError, Result};
use crate::image::view::time;

/// The kinds of definitions, and where a namespace keeps them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sort {
    Object,
    Property,
    Tag,
    ResourceType,
}

impl Sort {
    pub fn all(self, namespace: &MetadefNamespace) -> &BTreeMap<String, Definition> {
        match self {
            Sort::Object => &namespace.objects,
            Sort::Property => &namespace.properties,
            Sort::Tag => &namespace.tags,
            Sort::ResourceType => &namespace.resource_types,
        }
    }

    pub fn all_mut(self, namespace: &mut MetadefNamespace) -> &mut BTreeMap<String, Definition> {
        match self {
            Sort::Object => &mut namespace.objects,
            Sort::Property => &mut namespace.properties,
            Sort::Tag => &mut namespace.tags,
            Sort::ResourceType => &mut namespace.resource_types,
        }
    }

    fn noun(self) -> &'static str {
        match self {
            Sort::Object => "object",
            Sort::Property => "property",
            Sort::Tag => "tag",
            Sort::ResourceType => "resource-type association",
        }
    }

    fn missing(self, namespace: &str, name: &str) -> ApiError {
        let noun = self.noun();
        ApiError::not_found(format!("The metadata definition {noun} with name={name} was not found in namespace={namespace}."))
    }

    pub fn get<'a>(self, namespace: &'a MetadefNamespace, name: &str) -> Result<&'a Definition> {
        self.all(namespace).get(name).ok_or_else(|| self.missing(&namespace.meta.name, name))
    }

    /// Adds a definition; the name must be free.
    pub fn add(self, namespace: &mut MetadefNamespace, mut body: Map<String, Value>, now: Timestamp) -> Result<String> {
        let name = take_name(&mut body);
        if self.all(namespace).contains_key(&name) {
            let (noun, namespace) = (self.noun(), &namespace.meta.name);
            return Err(ApiError::conflict(format!(
                "A metadata definition {noun} with name={name} already exists in namespace={namespace}."
            )));
        }
        self.all_mut(namespace).insert(name.clone(), Definition::new(body, now));
        Ok(name)
    }

    /// Replaces a definition, under another name if the body has one.
    pub fn replace(self, namespace: &mut MetadefNamespace, old: &str, body: Map<String, Value>, now: Timestamp) -> Result<String> {
        let created = self.get(namespace, old)?.created;
        self.all_mut(namespace).remove(old);
        let name = self.add(namespace, body, now)?;
        if let Some(definition) = self.all_mut(namespace).get_mut(&name) {
            definition.created = created;
        }
        Ok(name)
    }

    pub fn remove(self, namespace: &mut MetadefNamespace, name: &str) -> Result<()> {
        let missing = self.missing(&namespace.meta.name, name);
        self.all_mut(namespace).remove(name).map(drop).ok_or(missing)
    }
}

/// What the service says itself is not kept.
fn take_name(body: &mut Map<String, Value>) -> String {
    for kept in ["self", "schema", "created_at", "updated_at"] {
        body.remove(kept);
    }
    match body.remove("name") {
        Some(Value::String(name)) => name,
        _ => String::new(),
    }
}

/// `self`, `schema` and times may not be set where the schema lists them for answers.
pub fn refuse_kept(body: &Map<String, Value>) -> Result<()> {
    let kept = ["self", "schema", "created_at", "updated_at"].into_iter().find(|name| body.contains_key(*name));
    kept.map_or(Ok(()), |name| Err(ApiError::forbidden(format!("Attribute '{name}' is read-only."))))
}

pub fn view(name: &str, definition: &Definition) -> Map<String, Value> {
    let mut body = definition.body.clone();
    body.insert("name".into(), json!(name));
    body
}

pub fn timed(mut body: Map<String, Value>, definition: &Definition) -> Map<String, Value> {
    body.insert("created_at".into(), json!(time(definition.created)));
    body.insert("updated_at".into(), json!(time(definition.updated)));
    body
}

/// Newest first.
pub fn newest(all: &BTreeMap<String, Definition>) -> Vec<(&String, &Definition)> {
    let mut list: Vec<_> = all.iter().collect();
    list.sort_by_key(|(_, definition)| std::cmp::Reverse(definition.created));
    list
}

pub fn sees(caller: &CallerName, namespace: &MetadefNamespace) -> bool {
    let reads = caller.has_role("reader") || caller.has_role("member");
    caller.is_admin() || (reads && (namespace.public || caller.owns(namespace.meta.project.as_ref())))
}

pub fn missing(namespace: &str) -> ApiError {
    ApiError::not_found(format!("Metadata definition namespace={namespace} was not found."))
}

pub fn find(view: &View, caller: &CallerName, name: &str) -> Result<Arc<MetadefNamespace>> {
    let found = view.holder::<MetadefNamespace>(MetadefNamespace::NAMES, name).and_then(|id| view.get(&id));
    found.filter(|namespace| sees(caller, namespace)).ok_or_else(|| missing(name))
}

/// Reads a namespace.
pub async fn read(cloud: &Cloud, caller: &CallerName, name: &str) -> Result<Arc<MetadefNamespace>> {
    find(&cloud.store.read().await?, caller, name)
}

/// The namespace, for a caller who may change it.
pub fn find_to_change(tx: &Tx, caller: &CallerName, name: &str, rule: &str) -> Result<Arc<MetadefNamespace>> {
    let found = tx.holder::<MetadefNamespace>(MetadefNamespace::NAMES, name).and_then(|id| tx.get(&id));
    let namespace = found.filter(|namespace| sees(caller, namespace)).ok_or_else(|| missing(name))?;
    if caller.is_admin() { Ok(namespace) } else { Err(ApiError::policy(rule)) }
}

/// Changes a namespace, for callers who may.
pub async fn change<T: Send + 'static>(
    cloud: &Cloud,
    caller: unkai_openstack::Caller,
    name: String,
    rule: &'static str,
    change: impl Fn(&mut MetadefNamespace, Timestamp) -> Result<T> + Send + 'static,
) -> Result<(Arc<MetadefNamespace>, T)> {
    let apply = move |tx: &mut Tx| {
        let namespace = find_to_change(tx, &caller, &name, rule)?;
        let now = tx.now();
        let mut outcome = None;
        let namespace = tx.update(&namespace.meta.id, |namespace| {
            outcome = Some(change(namespace, now)?);
            Ok::<_, ApiError>(())
        })?;
        Ok((namespace, outcome.expect("the update ran the change")))
    };
    cloud.store.transact(apply).await
}
