//! What follows by itself once a server was shelved or unshelved. Pure; control applies it.
//!
//! ```text
//! shelve ──> Shelved, disk being uploaded ──image active──> Offloaded, on no host ──unshelve──> Running, image still named ──> image removed
//! ```

use super::{Run, Server, Verb, VmState};
use crate::Id;
use crate::image::Image;

/// The next step for a server whose agent has settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShelveStep {
    /// The image is there: the host may forget the server.
    Offload,
    /// The server runs from its own disk again: the image is not needed any more.
    Forget(Id<Image>),
}

impl ShelveStep {
    /// None: nothing to do now. `image` is the document that `launch.shelved_image` names, if it still exists.
    pub fn next(server: &Server, image: Option<&Image>) -> Option<ShelveStep> {
        let named = server.spec.launch.shelved_image.as_ref()?;
        if !server.is_live() || !server.is_settled() || server.status.host.is_none() {
            return None;
        }
        match server.spec.run {
            Run::Shelved => image.is_some_and(|image| image.bootable().is_some()).then_some(ShelveStep::Offload),
            Run::Running => Some(ShelveStep::Forget(named.clone())),
            _ => None,
        }
    }

    /// Changes the server; the image of [`ShelveStep::Forget`] is deleted beside it.
    pub fn apply(&self, server: &mut Server) {
        match self {
            ShelveStep::Offload => {
                server.ask(Verb::Offload, VmState::Shelved);
                server.spec.run = Run::Offloaded;
            }
            ShelveStep::Forget(_) => server.spec.launch.shelved_image = None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Meta;
    use crate::compute::{Phase, StopReason};
    use crate::image::{Content, ImageSpec, ImageState};

    fn server(run: Run, phase: Phase) -> Server {
        let document = serde_json::json!({
            "meta": {"id": "s", "generation": 1},
            "spec": {"user": "u", "run": run, "launch": {
                "flavor": {"id": "1", "name": "f", "vcpus": 1, "ram_mib": 64, "disk_gib": 1},
                "image": "i", "shelved_image": "x", "hostname": "h",
            }},
            "status": {"host": "h", "observed": {"generation": 1, "phase": phase}},
        });
        serde_json::from_value(document).expect("a server")
    }

    fn image(active: bool) -> Image {
        let mut image = Image::new(Meta::new("x"), ImageSpec::default());
        if active {
            let attempt = image.begin(ImageState::Saving).unwrap();
            let content = Content { file: "f".into(), size: 1, virtual_size: None, md5: String::new(), sha512: String::new() };
            image.complete(attempt, content).unwrap();
        }
        image
    }

    #[test]
    fn the_host_forgets_a_server_only_when_its_image_is_there() {
        let shelved = server(Run::Shelved, Phase::Stopped(StopReason::Asked));
        assert_eq!(ShelveStep::next(&shelved, Some(&image(false))), None);
        assert_eq!(ShelveStep::next(&shelved, None), None);
        let step = ShelveStep::next(&shelved, Some(&image(true))).unwrap();
        let mut changed = shelved.clone();
        step.apply(&mut changed);
        assert_eq!((changed.spec.run, changed.meta.generation), (Run::Offloaded, 2));
        assert_eq!(ShelveStep::next(&changed, Some(&image(true))), None);
    }

    #[test]
    fn the_image_goes_when_the_server_runs_again() {
        let mut running = server(Run::Running, Phase::Running);
        running.meta.generation = 2;
        assert_eq!(ShelveStep::next(&running, Some(&image(true))), None, "not there yet");
        running.status.observed.generation = 2;
        let step = ShelveStep::next(&running, None).unwrap();
        assert_eq!(step, ShelveStep::Forget("x".into()));
        step.apply(&mut running);
        assert_eq!(ShelveStep::next(&running, None), None);
    }
}
