//! The volumes of a new server and their attachments.

use unkai_model::Id;
use unkai_model::compute::Server;
use unkai_model::volume::{Source, Volume, VolumeType};
use unkai_store::Tx;
use unkai_volume::verbs::{self, New};

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
    let project = server.meta.project.clone().ok_or_else(|| Fault::forbidden("The token is not scoped to a project."))?;
    let name = if *source == Source::Blank { format!("{}-blank-vol", server.meta.id) } else { String::new() };
    let new = New {
        name,
        size_gib: Some(size_gib),
        source: source.clone(),
        volume_type: volume_type.cloned(),
        ..New::blank(project, cx.caller.user.clone())
    };
    let made = verbs::create(tx, new)?;
    Ok(made.meta.id.clone())
}
