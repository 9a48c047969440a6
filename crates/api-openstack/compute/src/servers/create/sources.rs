//! What a server is made from: flavor, image and key, as they are at this moment.

use std::sync::Arc;

use unkai_model::Id;
use unkai_model::compute::{Flavor, FlavorCopy, KeyPair};
use unkai_model::image::{Image, ImageState};
use unkai_store::View;

use super::super::cx::Cx;
use super::super::disks::{Plan, Wish};
use super::request::Request;
use crate::Fault;
use crate::admin::quotas;

const GIB: u64 = 1 << 30;

pub struct Sources {
    pub flavor: FlavorCopy,
    pub image: Option<Arc<Image>>,
    /// Name and public key.
    pub key: Option<(String, String)>,
    pub disks: Plan,
}

impl Sources {
    pub fn find(view: &View, cx: &Cx, request: &Request) -> Result<Sources, Fault> {
        let flavor = flavor(view, cx, &request.flavor)?;
        let key = request.key_name.as_deref().map(|name| key(view, &cx.caller.user, name)).transpose()?;
        let image = request.image.as_deref().map(|id| active_image(view, cx, id)).transpose()?;
        let wish = Wish {
            mappings: &request.mappings,
            form: request.form,
            image: image.as_ref(),
            flavor: &flavor,
            several: request.max_count > 1,
        };
        let disks = Plan::find(view, cx, &wish)?;
        check_metadata(view, cx, request.metadata.len())?;
        Ok(Sources { flavor, image, key, disks })
    }
}

/// The number of metadata entries a server may have.
pub fn check_metadata(view: &View, cx: &Cx, count: usize) -> Result<(), Fault> {
    let Some(project) = &cx.caller.project else { return Ok(()) };
    match quotas::limit(view, project, Some(&cx.caller.user), "metadata_items") {
        most if most >= 0 && count as i64 > most => Err(Fault::forbidden(format!("Maximum number of metadata items exceeds {most}"))),
        _ => Ok(()),
    }
}

/// The flavor of this id, when the caller may use it.
pub fn flavor(view: &View, cx: &Cx, id: &str) -> Result<FlavorCopy, Fault> {
    let found = view.get(&Id::<Flavor>::new(id)).filter(|flavor| cx.is_admin() || flavor.is_visible_to(cx.caller.project.as_ref()));
    found.map(|flavor| flavor.copy()).ok_or_else(|| Fault::bad_request(format!("Flavor {id} could not be found.")))
}

pub fn key(view: &View, user: &str, name: &str) -> Result<(String, String), Fault> {
    let found = view.get(&KeyPair::id(user, name));
    found.map(|key| (name.to_owned(), key.public_key.clone())).ok_or_else(|| Fault::bad_request("Invalid key_name provided."))
}

/// The image of this id, when the caller may see it, servers can start from it, and it fits the flavor.
pub fn image(view: &View, cx: &Cx, id: &str, flavor: &FlavorCopy) -> Result<Arc<Image>, Fault> {
    let image = active_image(view, cx, id)?;
    check_ram(image.spec.min_ram_mib, flavor)?;
    check_disk(&image, flavor)?;
    Ok(image)
}

/// One that only says which volumes servers are made with is no disk.
pub fn check_content(image: &Image) -> Result<(), Fault> {
    match image.status.content {
        Some(_) => Ok(()),
        None => Err(Fault::bad_request(format!("Image {} is unacceptable: it has no content to start from.", image.meta.id))),
    }
}

pub fn visible_image(view: &View, cx: &Cx, id: &str) -> Result<Arc<Image>, Fault> {
    let visible = |image: &Image| cx.sees(image.meta.project.as_ref()) || image.is_visible_to(cx.caller.project.as_ref());
    let found = view.get(&Id::<Image>::new(id)).filter(|image| visible(image));
    found.ok_or_else(|| Fault::bad_request("Can not find requested image"))
}

pub fn active_image(view: &View, cx: &Cx, id: &str) -> Result<Arc<Image>, Fault> {
    let image = visible_image(view, cx, id)?;
    match image.status.state {
        ImageState::Active => Ok(image),
        _ => Err(Fault::bad_request(format!("Image {id} is not active."))),
    }
}

pub fn check_ram(least_mib: u64, flavor: &FlavorCopy) -> Result<(), Fault> {
    match flavor.ram_mib < least_mib {
        true => Err(Fault::bad_request("Flavor's memory is too small for requested image.")),
        false => Ok(()),
    }
}

/// Whether the image fits a local disk of the flavor.
pub fn check_disk(image: &Image, flavor: &FlavorCopy) -> Result<(), Fault> {
    check_content(image)?;
    let (disk, size, least) = (flavor.disk_gib * GIB, disk_size(image), image.spec.min_disk_gib * GIB);
    if flavor.disk_gib > 0 && size > disk {
        return Err(Fault::bad_request(format!(
            "Flavor's disk is too small for requested image. Flavor disk is {disk} bytes, image is {size} bytes."
        )));
    }
    if flavor.disk_gib > 0 && least > disk {
        return Err(Fault::bad_request(format!(
            "Flavor's disk is smaller than the minimum size specified in image metadata. Flavor disk is {disk} bytes, minimum size is {least} bytes."
        )));
    }
    Ok(())
}

/// The larger of the file and the disk it describes.
pub fn disk_size(image: &Image) -> u64 {
    image.status.content.as_ref().map_or(0, |content| content.size.max(content.virtual_size.unwrap_or(0)))
}
