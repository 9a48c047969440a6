//! Volumes and images: one made of the other, and what a volume notes of its image.

use std::sync::Arc;

use serde_json::{Value, json};
use unkai_model::Meta;
use unkai_model::image::{ContainerFormat, DiskFormat, Image, ImageSpec, Visibility};
use unkai_model::volume::{Upload, Volume};
use unkai_openstack::web::Fault;
use unkai_openstack::web::schema::{Schema, as_bool, object};
use unkai_openstack::{iso, web::policy};
use unkai_store::Tx;

use super::change;
use crate::cx::Cx;
use crate::verbs::{self, State, state};
use crate::volumes::create::the_image;
use crate::volumes::metadata;

pub fn upload_schema() -> Schema {
    let word = || Schema::string(0, 255).or_null();
    object()
        .required("image_name", Schema::string(1, 255))
        .optional("force", Schema::Boolean.or_null())
        .optional("disk_format", Schema::one_of(["raw", "vmdk", "vdi", "qcow2", "vhd", "vhdx", "ploop"]).or_null())
        .optional("container_format", word())
        .optional_in(1.., "visibility", Schema::one_of(["community", "public", "private", "shared"]).or_null())
        .optional_in(1.., "protected", Schema::Boolean.or_null())
        .into()
}

/// What hosts can write.
const FORMATS: [&str; 3] = ["raw", "qcow2", "vmdk"];

/// What a volume notes of its image that another image has of its own.
const OF_THE_IMAGE: [&str; 8] = ["checksum", "container_format", "disk_format", "image_id", "image_name", "min_disk", "min_ram", "size"];

/// Its content is to become an image.
pub fn upload(tx: &mut Tx, cx: &Cx, volume: &Arc<Volume>, body: &Value) -> Result<Value, Fault> {
    let (id, now) = (&volume.meta.id, state(&tx.view(), volume));
    let forced = as_bool(&body["force"]);
    if !(now == State::Available || forced && now == State::InUse) {
        let states = if forced { "available or in-use" } else { "available" };
        return Err(Fault::bad_request(format!("Invalid volume: Volume {id} status must be {states} to upload, but is {}.", now.as_str())));
    }
    let word = |key: &str, default: &str| body[key].as_str().filter(|word| !word.is_empty()).unwrap_or(default).to_owned();
    let (format, container) = (word("disk_format", "raw"), word("container_format", "bare"));
    if !FORMATS.contains(&format.as_str()) {
        return Err(Fault::bad_request(format!("Invalid input received: Images of volumes are raw, qcow2 or vmdk, not {format}.")));
    }
    let container_format = ContainerFormat::named(&container);
    if container_format.is_none_or(|container| container != ContainerFormat::Bare) {
        return Err(Fault::bad_request(format!("Invalid input received: Images of volumes are in bare containers, not {container}.")));
    }
    let visibility = Visibility::named(&word("visibility", "private")).unwrap_or(Visibility::Private);
    policy::allow(visibility != Visibility::Public || cx.is_admin(), "volume_extension:volume_actions:upload_public")?;
    let noted = &volume.spec.image_metadata;
    let number = |key: &str| noted.get(key).and_then(|text| text.parse().ok()).unwrap_or(0);
    let own = |key: &str| !OF_THE_IMAGE.contains(&key) && !key.starts_with("img_signature") && !key.starts_with("cinder_");
    let properties = noted.iter().filter(|(key, _)| own(key)).map(|(key, value)| (key.clone(), value.clone())).collect();
    let name = body["image_name"].as_str().unwrap_or_default();
    let mut meta = Meta::new(tx.new_id()).named(name);
    meta.project.clone_from(&cx.caller.project);
    let spec = ImageSpec {
        visibility,
        protected: as_bool(&body["protected"]),
        disk_format: DiskFormat::named(&format),
        container_format,
        min_disk_gib: number("min_disk"),
        min_ram_mib: number("min_ram"),
        properties,
        ..ImageSpec::default()
    };
    let image = tx.insert(Image::new(meta, spec))?;
    let upload = Upload { image: image.meta.id.clone(), format: format.clone() };
    let changed = change(tx, volume, true, |volume| volume.spec.upload = Some(upload))?;
    let mut shown = json!({
        "id": id,
        "updated_at": iso(changed.meta.updated),
        "status": State::Uploading.as_str(),
        "display_description": volume.spec.description,
        "size": volume.spec.size_gib,
        "volume_type": tx.get(&volume.spec.volume_type).map(|kind| crate::types::render(cx, &kind)),
        "image_id": image.meta.id,
        "container_format": container,
        "disk_format": format,
        "image_name": name,
    });
    if cx.version.at_least(1) {
        shown["visibility"] = json!(visibility.as_str());
        shown["protected"] = json!(as_bool(&body["protected"]));
    }
    Ok(json!({ "os-volume_upload_image": shown }))
}

pub fn set_schema() -> Schema {
    Schema::wrapped("metadata", metadata::schema())
}

pub fn set(tx: &mut Tx, _: &Cx, volume: &Arc<Volume>, body: &Value) -> Result<Value, Fault> {
    let said = metadata::read(&body["metadata"]);
    let changed = change(tx, volume, false, |volume| volume.spec.image_metadata.extend(said))?;
    Ok(json!({ "metadata": changed.spec.image_metadata }))
}

pub fn unset_schema() -> Schema {
    object().required("key", Schema::string(1, 255)).into()
}

pub fn unset(tx: &mut Tx, _: &Cx, volume: &Arc<Volume>, body: &Value) -> Result<Value, Fault> {
    let key = body["key"].as_str().unwrap_or_default();
    if !volume.spec.image_metadata.contains_key(key) {
        return Err(Fault::not_found("Metadata for this key is not found."));
    }
    change(tx, volume, false, |volume| drop(volume.spec.image_metadata.remove(key)))?;
    Ok(Value::Null)
}

pub fn show(_: &mut Tx, _: &Cx, volume: &Arc<Volume>, _: &Value) -> Result<Value, Fault> {
    Ok(json!({ "metadata": volume.spec.image_metadata }))
}

pub fn reimage_schema() -> Schema {
    object().required("image_id", Schema::uuid()).optional("reimage_reserved", Schema::Boolean).into()
}

/// Its content is to become that of an image.
pub fn reimage(tx: &mut Tx, cx: &Cx, volume: &Arc<Volume>, body: &Value) -> Result<Value, Fault> {
    let image = the_image(&tx.view(), cx, body["image_id"].as_str().unwrap_or_default())?;
    let reserved = as_bool(&body["reimage_reserved"]);
    let now = state(&tx.view(), volume);
    let legal = match now {
        State::Available | State::Error => true,
        State::Reserved | State::Attaching => reserved,
        _ => false,
    };
    if !legal {
        let id = &volume.meta.id;
        return Err(Fault::bad_request(format!(
            "Invalid volume: Volume {id} status must be available or error to reimage, but is {}.",
            now.as_str()
        )));
    }
    verbs::reimage(tx, &volume.meta.id, &image)?;
    Ok(Value::Null)
}
