//! Which volumes a query is about.

use std::sync::Arc;

use unkai_model::volume::{AttachState, Attachment, Source, Volume, VolumeType};
use unkai_openstack::web::query::{time, truth};
use unkai_openstack::web::{Fault, Query};
use unkai_store::View;

use super::view::zone;
use crate::admin::{backend, full_name};
use crate::cx::Cx;
use crate::verbs;

/// What a query may say beside filters.
const NO_FILTERS: [&str; 12] = [
    "limit",
    "marker",
    "offset",
    "sort",
    "sort_key",
    "sort_dir",
    "all_tenants",
    "project_id",
    "tenant_id",
    "with_count",
    "cascade",
    "detail",
];

/// Drops what does not match. Filters that are not known are not heeded, as in the original, which takes the same from everybody.
pub fn keep(cx: &Cx, view: &View, query: &Query, volumes: &mut Vec<Arc<Volume>>) -> Result<(), Fault> {
    for (name, value) in query.0.iter().filter(|(name, _)| !NO_FILTERS.contains(&name.as_str())) {
        let Some(test) = test(cx, view, name, value)? else { continue };
        volumes.retain(|volume| test(volume));
    }
    Ok(())
}

type Test<'a> = Box<dyn Fn(&Volume) -> bool + 'a>;

fn test<'a>(cx: &Cx, view: &'a View, name: &str, value: &str) -> Result<Option<Test<'a>>, Fault> {
    let text = value.to_owned();
    Ok(Some(match name {
        "name" | "display_name" => Box::new(move |volume| volume.meta.name == text),
        "name~" | "display_name~" if cx.version.at_least(34) => Box::new(move |volume| volume.meta.name.contains(&text)),
        "id" => Box::new(move |volume| volume.meta.id.as_str() == text),
        "description" => Box::new(move |volume| volume.spec.description.as_deref() == Some(&text)),
        "status" => Box::new(move |volume| verbs::state(view, volume).as_str() == text),
        "size" => Box::new(move |volume| volume.spec.size_gib.to_string() == text),
        "availability_zone" => Box::new(move |volume| zone(volume) == text),
        "user_id" => Box::new(move |volume| volume.spec.user == text),
        "snapshot_id" => Box::new(move |volume| matches!(&volume.spec.source, Source::Snapshot(id) if id.as_str() == text)),
        "source_volid" => Box::new(move |volume| matches!(&volume.spec.source, Source::Volume(id) if id.as_str() == text)),
        "volume_type" | "volume_type_id" | "type" => Box::new(move |volume| {
            let kind = view.get::<VolumeType>(&volume.spec.volume_type);
            volume.spec.volume_type.as_str() == text || kind.is_some_and(|kind| kind.meta.name == text)
        }),
        "host" if cx.is_admin() => Box::new(move |volume| {
            let pool = volume.status.pool.as_ref().and_then(|id| view.get(id));
            pool.is_some_and(|pool| full_name(&pool) == text || backend(&pool) == text)
        }),
        "bootable" | "multiattach" | "encrypted" => {
            let wanted = truth(value).ok_or_else(|| Fault::bad_request(format!("{name}={value} is not a boolean")))?;
            match name {
                "bootable" => Box::new(move |volume| volume.spec.bootable == wanted),
                "multiattach" => Box::new(move |volume| volume.spec.multi_attach == wanted),
                _ => Box::new(move |volume| volume.spec.key.is_some() == wanted),
            }
        }
        "attach_status" => Box::new(move |volume| (text == "attached") == is_attached(view, volume)),
        "metadata" => {
            let wanted = dict(value)?;
            Box::new(move |volume| wanted.iter().all(|(key, value)| volume.spec.metadata.get(key) == Some(value)))
        }
        "glance_metadata" if cx.version.at_least(4) => {
            let wanted = dict(value)?;
            Box::new(move |volume| wanted.iter().all(|(key, value)| volume.spec.image_metadata.get(key) == Some(value)))
        }
        "created_at" | "updated_at" if cx.version.at_least(60) => times(name, value)?,
        "group_id" | "consistencygroup_id" | "migration_status" => Box::new(|_| false),
        _ => return Ok(None),
    }))
}

fn is_attached(view: &View, volume: &Volume) -> bool {
    let mut all = view.by_index::<Attachment>("volume", volume.meta.id.as_str());
    all.any(|attachment| matches!(attachment.state, AttachState::Attached | AttachState::Detaching))
}

/// `gt:2026-01-31T12:00:00,lt:...`
fn times<'a>(name: &str, value: &str) -> Result<Test<'a>, Fault> {
    let created = name == "created_at";
    let mut wanted = Vec::new();
    for part in value.split(',') {
        let said = part.split_once(':').filter(|(word, _)| ["gt", "gte", "eq", "neq", "lt", "lte"].contains(word));
        let (word, text) = said.unwrap_or(("eq", part));
        let at = time(text).ok_or_else(|| Fault::bad_request(format!("Invalid input received: {name}={value} is not a time")))?;
        wanted.push((word.to_owned(), at.as_second()));
    }
    Ok(Box::new(move |volume| {
        let at = if created { volume.meta.created } else { volume.meta.updated }.as_second();
        wanted.iter().all(|(word, than)| match word.as_str() {
            "gt" => at > *than,
            "gte" => at >= *than,
            "lt" => at < *than,
            "lte" => at <= *than,
            "neq" => at != *than,
            _ => at == *than,
        })
    }))
}

/// `{'key': 'value'}`, as clients in Python write a dictionary, or the same in JSON.
pub fn dict(text: &str) -> Result<Vec<(String, String)>, Fault> {
    let bad = || Fault::bad_request(format!("Invalid input received: {text} is not a dictionary"));
    let inner = text.trim().strip_prefix('{').and_then(|text| text.strip_suffix('}')).ok_or_else(bad)?;
    let mut words = Vec::new();
    let mut rest = inner.trim_start();
    while !rest.is_empty() {
        // Python 2 marks text with a u.
        rest = rest.strip_prefix('u').unwrap_or(rest);
        let quote = rest.chars().next().filter(|c| matches!(c, '\'' | '"')).ok_or_else(bad)?;
        let end = rest[1..].find(quote).ok_or_else(bad)?;
        words.push(rest[1..=end].to_owned());
        rest = rest[end + 2..].trim_start();
        let wanted = if words.len() % 2 == 1 { ':' } else { ',' };
        rest = match rest.strip_prefix(wanted) {
            Some(rest) => rest.trim_start(),
            None if rest.is_empty() && wanted == ',' => rest,
            None => return Err(bad()),
        };
    }
    if words.len() % 2 == 1 {
        return Err(bad());
    }
    Ok(words.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dictionaries_are_read_as_clients_write_them() {
        let pairs = |text: &str| dict(text).map_err(|fault| fault.code.as_u16());
        let one = |key: &str, value: &str| vec![(key.to_owned(), value.to_owned())];
        assert_eq!(pairs("{'a': 'b'}"), Ok(one("a", "b")));
        assert_eq!(pairs("{u'a': u'b'}"), Ok(one("a", "b")));
        assert_eq!(pairs(r#"{"a":"it's"}"#), Ok(one("a", "it's")));
        assert_eq!(pairs("{'a': 'b', 'c': 'd'}"), Ok([one("a", "b"), one("c", "d")].concat()));
        assert_eq!(pairs("{}"), Ok(vec![]));
        for odd in ["", "a", "{'a'}", "{'a': }", "{'a': 'b'", "{'a' 'b'}", "{'a': 'b' 'c': 'd'}", "{'a: 'b'}"] {
            assert_eq!(pairs(odd), Err(400), "{odd}");
        }
    }
}
