//! The volumes of a new server and their attachments.

use unkai_model::Id;
use unkai_model::compute::Server;
use unkai_model::volume::{Source, Volume, VolumeSpec, VolumeType};
use unkai_model::{Error, Meta};
use unkai_store::Tx;
use unkai_volume::verbs;

use super::super::cx::Cx;
use super::plan::{Origin, Plan};
use crate::Fault;

/// Makes what is to be made and gives the server all of it. It is on no host yet: it waits for its volumes.
pub fn make(tx: &mut Tx, cx: &Cx, server: &mut Server, plan: &Plan) -> Result<(), Fault> {
    for disk in &plan.volumes {
        match &disk.origin {
            Origin::Existing(volume) => drop(verbs::attach(tx, volume, server, disk.how.clone())?),
            Origin::New { source, size_gib, volume_type } => {
                let volume = create(tx, cx, server, source, *size_gib, volume_type.as_ref())?;
                verbs::attach_made(tx, &volume, server, disk.how.clone())?;
            }
        }
    }
    Ok(())
}

fn create(
    tx: &mut Tx,
    cx: &Cx,
    server: &Server,
    source: &Source,
    size_gib: u64,
    volume_type: Option<&Id<VolumeType>>,
) -> Result<Id<Volume>, Fault> {
    let name = if *source == Source::Blank { format!("{}-blank-vol", server.meta.id) } else { String::new() };
    let volume_type = match volume_type {
        Some(id) => id.clone(),
        None => tx.all::<VolumeType>().next().ok_or_else(|| Error::not_found::<VolumeType>("default"))?.meta.id.clone(),
    };
    let mut meta = Meta::new(tx.new_id()).named(name);
    meta.project = server.meta.project.clone();
    let spec = VolumeSpec { source: source.clone(), ..VolumeSpec::new(cx.caller.user.clone(), volume_type, size_gib) };
    Ok(tx.insert(Volume { meta, spec, status: Default::default() })?.meta.id.clone())
}
