//! What the mappings of a request mean in this cloud now.

use std::collections::BTreeMap;
use std::sync::Arc;

use unkai_model::Id;
use unkai_model::compute::{BootDisk, FlavorCopy};
use unkai_model::image::{Image, ImageState};
use unkai_model::settings::Settings;
use unkai_model::volume::{self, Snapshot, Volume, VolumeType};
use unkai_store::View;
use unkai_volume::verbs::How;

use super::super::create::{check_content, check_disk, check_ram, disk_size, visible_image};
use super::super::cx::Cx;
use super::super::volumes;
use super::mapping::{Form, Mapping, Source};
use super::{invalid, merge};
use crate::Fault;

const GIB: u64 = 1 << 30;

/// The original's `max_local_block_devices`.
const MOST_LOCAL: usize = 3;

/// The disks of each server that is made.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub boot: BootDisk,
    /// The root disk first, when it is a volume.
    pub volumes: Vec<Disk>,
    pub less_ephemeral_gib: Option<u64>,
    pub less_swap_mib: Option<u64>,
}

/// A volume, and how the server is to have it.
#[derive(Debug, Clone, PartialEq)]
pub struct Disk {
    pub origin: Origin,
    pub how: How,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Origin {
    Existing(Id<Volume>),
    New { source: volume::Source, size_gib: u64, volume_type: Option<Id<VolumeType>> },
}

/// What a request says about disks.
pub struct Wish<'a> {
    pub mappings: &'a [Mapping],
    pub form: Form,
    /// The image that it names outside the mappings.
    pub image: Option<&'a Arc<Image>>,
    pub flavor: &'a FlavorCopy,
    pub several: bool,
}

impl Plan {
    pub fn find(view: &View, cx: &Cx, wish: &Wish<'_>) -> Result<Plan, Fault> {
        let image = wish.image.map(|image| image.meta.id.as_str());
        merge::check_names(wish.mappings, wish.form, image)?;
        let properties = match wish.image {
            Some(image) => {
                check_ram(image.spec.min_ram_mib, wish.flavor)?;
                image.spec.properties.clone()
            }
            None => root_properties(view, cx, wish)?,
        };
        let defined = merge::of_image(&properties)?;
        let mut mappings = merge::merge(wish.mappings.to_vec(), wish.form, image, defined);
        if wish.several && mappings.iter().any(|mapping| matches!(mapping.source, Source::Volume(_))) {
            return Err(Fault::bad_request("Cannot attach one or more volumes to multiple instances"));
        }
        if wish.mappings.is_empty() {
            boot_from_volume(view, wish, &mut mappings)?;
        }
        merge::check_order(&mappings)?;
        let mut volumes = Vec::new();
        mappings.sort_by_key(|mapping| mapping.boot_index.unwrap_or(i64::MAX));
        for mapping in mappings.iter().filter(|mapping| !mapping.source.is_local()) {
            volumes.push(disk(view, cx, mapping)?);
        }
        let boot = root(cx, wish, &mappings)?;
        let (less_ephemeral_gib, less_swap_mib) = local(wish.flavor, &mappings)?;
        Ok(Plan { boot, volumes, less_ephemeral_gib, less_swap_mib })
    }
}

fn root_of(mappings: &[Mapping]) -> Option<&Mapping> {
    mappings.iter().find(|mapping| mapping.boot_index == Some(0))
}

/// What is known of the disk that is to be started from, when no image is named: it must be there, and be fit to start from.
fn root_properties(view: &View, cx: &Cx, wish: &Wish<'_>) -> Result<BTreeMap<String, String>, Fault> {
    let merged = merge::merge(wish.mappings.to_vec(), wish.form, None, Vec::new());
    let volume = match root_of(&merged).map(|root| &root.source) {
        Some(Source::Image(id)) => {
            let image = the_image(view, cx, id)?;
            check_ram(image.spec.min_ram_mib, wish.flavor)?;
            return Ok(image.spec.properties.clone());
        }
        Some(Source::Volume(id)) => the_volume(view, cx, id).map_err(|_| invalid(format!("failed to get volume {id}.")))?,
        Some(Source::Snapshot(id)) => {
            let snapshot = the_snapshot(view, cx, id).ok_or_else(|| Fault::bad_request(format!("Snapshot {id} could not be found.")))?;
            let volume = snapshot.volume.clone();
            view.get(&volume).ok_or_else(|| invalid(format!("failed to get volume {volume}.")))?
        }
        _ => return Ok(BTreeMap::new()),
    };
    if !volume.spec.bootable {
        return Err(Fault::bad_request(format!("Block Device {} is not bootable.", volume.meta.id)));
    }
    let least = volume.spec.image_metadata.get("min_ram").and_then(|least| least.parse().ok()).unwrap_or(0);
    check_ram(least, wish.flavor)?;
    Ok(volume.spec.image_metadata.clone())
}

fn the_image(view: &View, cx: &Cx, id: &str) -> Result<Arc<Image>, Fault> {
    let image = visible_image(view, cx, id).map_err(|_| invalid(format!("failed to get image {id}.")))?;
    match image.status.state {
        ImageState::Active => Ok(image),
        _ => Err(Fault::bad_request(format!("Image {id} is not active."))),
    }
}

/// What the original calls a bad request when it is in a body.
fn the_volume(view: &View, cx: &Cx, id: &str) -> Result<Arc<Volume>, Fault> {
    volumes::find(view, cx, id).map_err(|missing| Fault::bad_request(missing.message))
}

fn the_snapshot(view: &View, cx: &Cx, id: &str) -> Option<Arc<Snapshot>> {
    view.get(&Id::<Snapshot>::new(id)).filter(|snapshot| cx.sees(snapshot.meta.project.as_ref()))
}

/// Where the cloud says so, an image is not a disk of the host but becomes a volume that goes with the server.
fn boot_from_volume(view: &View, wish: &Wish<'_>, mappings: &mut [Mapping]) -> Result<(), Fault> {
    let settings = view.get(&Settings::the_id());
    if !settings.is_some_and(|settings| settings.boot_from_volume) {
        return Ok(());
    }
    let Some(image) = wish.image else { return Ok(()) };
    for mapping in mappings.iter_mut().filter(|mapping| mapping.boot_index == Some(0)) {
        if let Source::LocalImage(id) = &mapping.source {
            check_disk(image, wish.flavor)?;
            let own = disk_size(image).div_ceil(GIB).max(image.spec.min_disk_gib).max(1);
            mapping.size = Some(if wish.flavor.disk_gib > 0 { wish.flavor.disk_gib } else { own });
            mapping.source = Source::Image(id.clone());
            mapping.delete_on_termination = true;
        }
    }
    Ok(())
}

/// Whether the root disk is a volume, and whether it is large enough for what is to be on it.
fn root(cx: &Cx, wish: &Wish<'_>, mappings: &[Mapping]) -> Result<BootDisk, Fault> {
    let root = root_of(mappings);
    let Some(Source::LocalImage(id)) = root.map(|root| &root.source) else {
        let least = wish.image.map_or(0, |image| image.spec.min_disk_gib * GIB);
        match root.and_then(|root| root.size).map(|size| size * GIB) {
            Some(size) if least > size => return Err(too_small(size, least)),
            _ => return Ok(BootDisk::Volume),
        }
    };
    let image = wish.image.filter(|image| image.meta.id.as_str() == id);
    let image = image.ok_or_else(|| invalid("Boot sequence for the instance and image/block device mapping combination is not valid."))?;
    if wish.flavor.disk_gib == 0 && !cx.is_admin() {
        return Err(Fault::forbidden("Only volume-backed servers are allowed for flavors with zero disk."));
    }
    check_disk(image, wish.flavor)?;
    Ok(BootDisk::Local)
}

fn too_small(size: u64, least: u64) -> Fault {
    Fault::bad_request(format!(
        "Volume is smaller than the minimum size specified in image metadata. Volume size is {size} bytes, minimum size is {least} bytes."
    ))
}

/// One volume of the plan.
fn disk(view: &View, cx: &Cx, mapping: &Mapping) -> Result<Disk, Fault> {
    let how = How {
        boot_index: mapping.boot_index.and_then(|index| u32::try_from(index).ok()),
        bus: mapping.bus.clone(),
        tag: mapping.tag.clone(),
        delete_on_termination: mapping.delete_on_termination,
        ..How::default()
    };
    let (source, size) = match &mapping.source {
        Source::Volume(id) => {
            let volume = the_volume(view, cx, id)?;
            volumes::check_multi_attach(cx, &volume)?;
            return Ok(Disk { origin: Origin::Existing(volume.meta.id.clone()), how });
        }
        Source::Image(id) => {
            let image = the_image(view, cx, id)?;
            let text = "Images with destination_type 'volume' need to have a non-zero size specified";
            let size = mapping.size.ok_or_else(|| Fault::bad_request(text))?;
            check_content(&image)?;
            if image.spec.min_disk_gib > size {
                return Err(too_small(size * GIB, image.spec.min_disk_gib * GIB));
            }
            (volume::Source::Image(image.meta.id.clone()), size)
        }
        Source::Snapshot(id) => {
            let snapshot = the_snapshot(view, cx, id).ok_or_else(|| invalid(format!("failed to get snapshot {id}.")))?;
            (volume::Source::Snapshot(snapshot.meta.id.clone()), mapping.size.unwrap_or(snapshot.size_gib))
        }
        _ => {
            let text = "Blank volumes (source: 'blank', dest: 'volume') need to have non-zero size";
            (volume::Source::Blank, mapping.size.ok_or_else(|| Fault::bad_request(text))?)
        }
    };
    let volume_type = mapping.volume_type.as_deref().map(|name| the_type(view, cx, name)).transpose()?;
    Ok(Disk { origin: Origin::New { source, size_gib: size, volume_type }, how })
}

fn the_type(view: &View, cx: &Cx, name: &str) -> Result<Id<VolumeType>, Fault> {
    let named = |one: &Arc<VolumeType>| one.meta.id.as_str() == name || one.meta.name == name;
    let usable = |one: &Arc<VolumeType>| cx.is_admin() || one.is_visible_to(cx.caller.project.as_ref());
    let found = view.all::<VolumeType>().find(|one| named(one) && usable(one));
    found.map(|one| one.meta.id.clone()).ok_or_else(|| Fault::bad_request(format!("Volume type {name} could not be found.")))
}

/// The sizes of the local disks beside the root disk, where they are not the flavor's.
fn local(flavor: &FlavorCopy, mappings: &[Mapping]) -> Result<(Option<u64>, Option<u64>), Fault> {
    let of = |source: Source| mappings.iter().filter(move |mapping| mapping.source == source);
    let ephemeral: u64 = of(Source::Ephemeral).map(|mapping| mapping.size.unwrap_or(flavor.ephemeral_gib)).sum();
    if ephemeral > flavor.ephemeral_gib {
        let text = "Ephemeral disks requested are larger than the instance type allows. If no size is given in one block device mapping, \
                    flavor ephemeral size will be used.";
        return Err(Fault::bad_request(text));
    }
    if of(Source::Swap).count() > 1 {
        return Err(invalid("More than one swap drive requested."));
    }
    let swap = of(Source::Swap).next().map(|mapping| mapping.size.unwrap_or(flavor.swap_mib));
    if swap.is_some_and(|swap| swap > flavor.swap_mib) {
        return Err(Fault::bad_request("Swap drive requested is larger than instance type allows."));
    }
    // A host makes one ephemeral disk of a server, so the second is one too many.
    let ephemerals = of(Source::Ephemeral).count();
    if ephemerals > 1 || mappings.iter().filter(|mapping| mapping.source.is_local()).count() > MOST_LOCAL {
        return Err(invalid("You specified more local devices than the limit allows"));
    }
    let less = |wanted: u64, whole: u64| (wanted < whole).then_some(wanted);
    let ephemeral = if ephemerals > 0 { less(ephemeral, flavor.ephemeral_gib) } else { None };
    Ok((ephemeral, swap.and_then(|swap| less(swap, flavor.swap_mib))))
}
