//! A request's mappings and those of its image, together.

use std::collections::BTreeMap;

use serde_json::Value;

use super::invalid;
use super::mapping::{Form, Mapping, Source};
use crate::Fault;
use crate::schema::as_bool;

/// The name of the root disk, in requests that know disks by name.
const ROOT: &str = "vda";

/// The mappings that an image says servers of it have: one of a server with volumes does.
pub fn of_image(properties: &BTreeMap<String, String>) -> Result<Vec<Mapping>, Fault> {
    let Some(stored) = properties.get("block_device_mapping") else { return Ok(Vec::new()) };
    let unreadable = || invalid("the image's own mapping cannot be read.");
    let list: Vec<Value> = serde_json::from_str(stored).map_err(|_| unreadable())?;
    let second = properties.get("bdm_v2").is_some_and(|word| as_bool(&Value::String(word.clone())));
    let form = if second { Form::Stored } else { Form::Legacy };
    let mut mappings: Vec<Mapping> = list.iter().map(|item| Mapping::read(item, form, false)).collect::<Result<_, _>>()?;
    if !second {
        mappings.iter_mut().for_each(root_by_name);
    }
    Ok(mappings)
}

/// In the legacy form the root disk is known by its name.
fn root_by_name(mapping: &mut Mapping) {
    let may = matches!(mapping.source, Source::Volume(_) | Source::Snapshot(_) | Source::Image(_));
    mapping.boot_index = (may && mapping.device.as_deref() == Some(ROOT)).then_some(0);
}

/// What a request asks for, where `image` is the one it names outside the mappings, and `defined` what the image says.
pub fn merge(asked: Vec<Mapping>, form: Form, image: Option<&str>, defined: Vec<Mapping>) -> Vec<Mapping> {
    let has_root = |list: &[Mapping]| list.iter().any(|mapping| mapping.boot_index == Some(0));
    let root_defined = has_root(&defined);
    let mut asked = asked;
    match form {
        Form::Legacy if !root_defined => {
            asked.iter_mut().for_each(root_by_name);
            if let Some(image) = image.filter(|_| !has_root(&asked)) {
                let root = Mapping { boot_index: Some(0), delete_on_termination: true, ..Mapping::new(Source::LocalImage(image.into())) };
                asked.insert(0, root);
            }
        }
        Form::Legacy => {}
        // The image is not a disk itself: what it says of the root disk takes the place of it.
        _ if root_defined => {
            asked.retain(|mapping| mapping.boot_index != Some(0) || !matches!(mapping.source, Source::LocalImage(_) | Source::Image(_)))
        }
        _ => {}
    }
    let overridden = |mapping: &Mapping| mapping.device.is_some() && asked.iter().any(|one| one.device == mapping.device);
    let kept: Vec<Mapping> = defined.into_iter().filter(|mapping| !overridden(mapping)).collect();
    asked.into_iter().chain(kept).filter(|mapping| mapping.source != Source::Nothing).collect()
}

/// Refused before anything is looked up: the name of the root disk is taken.
pub fn check_names(asked: &[Mapping], form: Form, image: Option<&str>) -> Result<(), Fault> {
    let takes_root = |mapping: &Mapping| !mapping.source.is_local() && mapping.device.as_deref() == Some(ROOT);
    match image {
        Some(_) if form == Form::Second && asked.iter().any(takes_root) => {
            Err(Fault::bad_request(format!("The volume cannot be assigned the same device name as the root device {ROOT}")))
        }
        _ => Ok(()),
    }
}

/// Disks to boot from are numbered from 0 on, each once, and there is at least one.
pub fn check_order(mappings: &[Mapping]) -> Result<(), Fault> {
    let mut order: Vec<i64> = mappings.iter().filter_map(|mapping| mapping.boot_index).collect();
    order.sort_unstable();
    match order.is_empty() || order.iter().enumerate().any(|(at, index)| at as i64 != *index) {
        true => Err(invalid("Boot sequence for the instance and image/block device mapping combination is not valid.")),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(source: Source, boot_index: Option<i64>, device: Option<&str>) -> Mapping {
        Mapping { boot_index, device: device.map(str::to_owned), ..Mapping::new(source) }
    }

    fn volume(id: &str) -> Source {
        Source::Volume(id.into())
    }

    #[test]
    fn an_image_alone_is_the_root_disk() {
        let merged = merge(Vec::new(), Form::Legacy, Some("i"), Vec::new());
        assert_eq!((&merged[0].source, merged[0].boot_index), (&Source::LocalImage("i".into()), Some(0)));
        assert!(check_order(&merged).is_ok());
        assert!(check_order(&merge(Vec::new(), Form::Legacy, None, Vec::new())).is_err());
    }

    #[test]
    fn the_legacy_form_knows_the_root_disk_by_its_name() {
        let merged = merge(vec![one(volume("a"), None, Some("vdb")), one(volume("b"), None, Some("vda"))], Form::Legacy, None, Vec::new());
        assert_eq!(merged.iter().map(|mapping| mapping.boot_index).collect::<Vec<_>>(), [None, Some(0)]);
        let beside = merge(vec![one(volume("a"), None, Some("vdb"))], Form::Legacy, Some("i"), Vec::new());
        assert_eq!((beside.len(), &beside[0].source), (2, &Source::LocalImage("i".into())));
    }

    #[test]
    fn in_the_second_form_nothing_is_added() {
        let only = merge(vec![one(volume("a"), None, None)], Form::Second, Some("i"), Vec::new());
        assert_eq!(only.len(), 1);
        assert!(check_order(&only).is_err());
        assert!(check_names(&[one(volume("a"), None, Some("vda"))], Form::Second, Some("i")).is_err());
        assert!(check_names(&[one(volume("a"), None, Some("vda"))], Form::Second, None).is_ok());
    }

    #[test]
    fn what_an_image_says_holds_unless_the_request_says_otherwise() {
        let defined = || {
            let properties = BTreeMap::from([
                ("bdm_v2".to_owned(), "True".to_owned()),
                (
                    "block_device_mapping".to_owned(),
                    r#"[{"source_type": "snapshot", "destination_type": "volume", "snapshot_id": "s", "boot_index": 0, "device_name": "/dev/vda"},
                        {"source_type": "snapshot", "destination_type": "volume", "snapshot_id": "d", "device_name": "/dev/vdb"}]"#
                        .to_owned(),
                ),
            ]);
            of_image(&properties).unwrap()
        };
        let sources = |list: Vec<Mapping>| list.into_iter().map(|mapping| mapping.source).collect::<Vec<_>>();
        let (root, data) = (Source::Snapshot("s".into()), Source::Snapshot("d".into()));
        assert_eq!(sources(merge(Vec::new(), Form::Legacy, Some("i"), defined())), [root.clone(), data.clone()]);
        let local = one(Source::LocalImage("i".into()), Some(0), None);
        assert_eq!(sources(merge(vec![local], Form::Second, Some("i"), defined())), [root.clone(), data]);
        let without = merge(vec![one(Source::Nothing, None, Some("vdb"))], Form::Second, Some("i"), defined());
        assert_eq!(sources(without), [root]);
        assert!(of_image(&BTreeMap::from([("block_device_mapping".to_owned(), "?".to_owned())])).is_err());
    }

    #[test]
    fn boot_indexes_are_counted_through() {
        let order = |indexes: &[Option<i64>]| {
            check_order(&indexes.iter().map(|index| one(Source::Blank, *index, None)).collect::<Vec<_>>()).is_ok()
        };
        assert!(order(&[Some(0)]) && order(&[Some(1), None, Some(0)]));
        assert!(!order(&[]) && !order(&[None]) && !order(&[Some(1)]) && !order(&[Some(0), Some(0)]) && !order(&[Some(0), Some(2)]));
    }
}
