//! Shelving: when the image of a shelved server's disk is safe, the server leaves its host; when it runs again, the image has done
//! its work.

use unkai_model::compute::{BootDisk, Phase, Run, Server};
use unkai_model::image::Image;
use unkai_model::{Error, Id};
use unkai_store::{Tx, View};

/// Servers that have a shelving image and may be due for a step.
pub fn due(view: &View) -> Vec<Id<Server>> {
    let shelved = view.by_index::<Server>("shelved", "yes");
    shelved.filter(|server| may_leave(view, server) || is_back(server)).map(|server| server.meta.id.clone()).collect()
}

/// Its disk is an image now, or a volume.
fn may_leave(view: &View, server: &Server) -> bool {
    let safe = || server.spec.launch.shelved_image.as_ref().and_then(|id| view.get(id)).is_some_and(|image| image.bootable().is_some());
    server.spec.run == Run::Shelved && server.is_settled() && (server.spec.launch.boot == BootDisk::Volume || safe())
}

/// It runs from a disk of its own again.
fn is_back(server: &Server) -> bool {
    let on_host = !matches!(server.spec.run, Run::Shelved | Run::Offloaded | Run::Deleted) && server.status.host.is_some();
    on_host && server.is_settled() && matches!(server.status.observed.phase, Phase::Running | Phase::Stopped(_) | Phase::Paused)
}

pub fn act(tx: &mut Tx, servers: &[Id<Server>]) -> Result<(), Error> {
    for id in servers {
        let view = tx.view();
        let Some(server) = view.get(id) else { continue };
        if may_leave(&view, &server) {
            tx.update(id, |server: &mut Server| {
                server.spec.run = Run::Offloaded;
                server.meta.generation += 1;
                Ok::<_, Error>(())
            })?;
        } else if is_back(&server) {
            let image: Option<Id<Image>> = server.spec.launch.shelved_image.clone();
            tx.update(id, |server: &mut Server| {
                server.spec.launch.shelved_image = None;
                Ok::<_, Error>(())
            })?;
            if let Some(image) = image.filter(|image| view.get(image).is_some()) {
                tx.delete(&image)?;
            }
        }
    }
    Ok(())
}
