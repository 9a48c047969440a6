use unkai_model::compute::{FlavorCopy, Launch, ServerSpec, ServerStatus};
use unkai_model::volume::{VolumePhase, VolumeSpec, VolumeStatus, VolumeType};
use unkai_store::{Store, System};

use super::*;

fn in_store<T: Send + 'static>(body: impl FnMut(&mut Tx) -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(Store::in_memory(Arc::new(System)).transact(body))
}

/// A volume that is whole.
fn volume(tx: &mut Tx, id: &str, change: impl FnOnce(&mut Volume)) -> Id<Volume> {
    let kind = Id::<VolumeType>::new("t");
    if tx.get(&kind).is_none() {
        let (access, extra_specs) = Default::default();
        let meta = Meta::new("t").named("t");
        let one = VolumeType { meta, description: None, public: true, access, extra_specs, encryption: None, encryption_id: None };
        tx.insert(one).unwrap();
    }
    let status = VolumeStatus { made: true, generation: 1, size_gib: 1, phase: VolumePhase::Ready { size_gib: 1 }, ..Default::default() };
    let mut volume = Volume { meta: Meta::new(id).owned_by("p"), spec: VolumeSpec::new("u", kind, 1), status };
    change(&mut volume);
    tx.insert(volume).unwrap().meta.id.clone()
}

fn server(id: &str, host: Option<&str>) -> Server {
    let mut server = Server {
        meta: Meta::new(id).owned_by("p"),
        spec: ServerSpec::new("u", Launch::new(FlavorCopy { disk_gib: 1, ..Default::default() }, id)),
        status: ServerStatus::default(),
    };
    server.status.host = host.map(Id::new);
    server
}

fn refusal<T>(result: Result<T, Error>) -> String {
    result.err().map_or_else(|| "done".into(), |error| error.to_string())
}

#[test]
fn a_host_hears_of_a_new_volume_in_a_new_generation_with_a_new_fence() {
    in_store(|tx| {
        let id = volume(tx, "v", |volume| volume.spec.fence = 4);
        let mut server = server("s", Some("h"));
        let made = attach(tx, &id, &mut server, How { tag: Some("data".into()), ..How::default() })?;
        assert_eq!((made.state, made.generation, server.meta.generation, made.fence), (AttachState::Attaching, 2, 2, 5));
        assert_eq!((made.device.as_deref(), made.mode, made.tag.as_deref()), (Some("/dev/vdb"), Mode::ReadWrite, Some("data")));
        assert_eq!(made.meta.project, Some(Id::new("p")));
        assert_eq!((tx.require(&id)?.spec.fence, state(&tx.view(), &*tx.require(&id)?)), (5, State::Attaching));
        Ok(())
    })
    .unwrap();
}

#[test]
fn only_what_is_free_is_attached() {
    in_store(|tx| {
        let mut server = server("s", Some("h"));
        let busy = volume(tx, "busy", |volume| volume.status.made = false);
        assert_eq!(refusal(attach(tx, &busy, &mut server, How::default())), "Invalid volume: Volume busy status must be available");
        let id = volume(tx, "v", |_| {});
        attach(tx, &id, &mut server, How::default())?;
        let again = "Invalid volume: volume v is already attached to instances: s";
        assert_eq!(refusal(attach(tx, &id, &mut server, How::default())), again);
        let generation = server.meta.generation;
        assert_eq!(refusal(attach(tx, &id, &mut server, How::default())), again);
        assert_eq!((server.meta.generation, tx.require(&id)?.spec.fence), (generation, 1), "a refusal changes nothing");
        assert_eq!(refusal(attach(tx, &Id::new("none"), &mut server, How::default())), "volume none could not be found");
        Ok(())
    })
    .unwrap();
}

#[test]
fn some_volumes_have_several_users() {
    in_store(|tx| {
        let id = volume(tx, "v", |volume| volume.spec.multi_attach = true);
        let (mut one, mut two) = (server("one", Some("h")), server("two", Some("h")));
        let first = attach(tx, &id, &mut one, How::default())?;
        let early = refusal(attach(tx, &id, &mut two, How::default()));
        assert_eq!(early, "Invalid volume: Volume v status must be available or in-use", "the first one is still coming");
        settle_off_host(tx, &first.meta.id)?;
        let second = attach(tx, &id, &mut two, How::default())?;
        assert_eq!((first.fence, second.fence), (1, 2));
        assert_eq!(refusal(attach(tx, &id, &mut one, How::default())), "Invalid volume: volume v already attached");
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_reservation_is_for_its_own_server() {
    in_store(|tx| {
        let id = volume(tx, "v", |_| {});
        let (mut one, mut two) = (server("one", Some("h")), server("two", Some("h")));
        let reserved = reserve(tx, &id, Some(&one.meta.id), Mode::ReadWrite)?;
        assert_eq!(reserve(tx, &id, Some(&one.meta.id), Mode::ReadWrite)?.meta.id, reserved.meta.id, "again is the same");
        assert_eq!(refusal(attach(tx, &id, &mut two, How::default())), "Invalid volume: Volume v status must be available");
        let made = attach(tx, &id, &mut one, How::default())?;
        assert_eq!((&made.meta.id, made.state), (&reserved.meta.id, AttachState::Attaching));
        assert_eq!(tx.by_index::<Attachment>("volume", "v").count(), 1);
        let other = volume(tx, "w", |_| {});
        let nobodys = reserve(tx, &other, None, Mode::ReadOnly)?;
        assert_eq!((nobodys.server.as_ref(), nobodys.mode), (None, Mode::ReadOnly));
        assert!(reserve(tx, &other, None, Mode::ReadOnly).is_err());
        Ok(())
    })
    .unwrap();
}

#[test]
fn what_is_read_only_is_attached_so() {
    in_store(|tx| {
        let id = volume(tx, "v", |volume| volume.spec.read_only = true);
        let made = attach(tx, &id, &mut server("s", Some("h")), How::default())?;
        assert_eq!(made.mode, Mode::ReadOnly);
        Ok(())
    })
    .unwrap();
}

#[test]
fn names_of_disks_are_each_used_once_and_again_when_they_are_free() {
    in_store(|tx| {
        let mut server = server("s", Some("h"));
        (server.spec.launch.flavor.ephemeral_gib, server.spec.launch.flavor.swap_mib) = (1, 64);
        let mut names = Vec::new();
        for number in 0..23 {
            let id = volume(tx, &format!("v{number:02}"), |_| {});
            names.push(attach(tx, &id, &mut server, How::default())?.device.clone().unwrap());
        }
        assert_eq!((names[0].as_str(), names[22].as_str()), ("/dev/vdd", "/dev/vdz"), "root, ephemeral and swap come first");
        let id = volume(tx, "more", |_| {});
        let full = "The maximum allowed number of disk devices (26) to attach to a single instance has been exceeded.";
        assert_eq!(refusal(attach(tx, &id, &mut server, How::default())), full);
        let second = of_server(&tx.view(), &Id::new("v01"), &server.meta.id).unwrap();
        tx.delete(&second.meta.id)?;
        assert_eq!(attach(tx, &id, &mut server, How::default())?.device.as_deref(), Some("/dev/vde"));
        let order: Vec<_> = attachments(&tx.view(), &server.meta.id).iter().map(|one| one.device.clone().unwrap()).collect();
        assert!(order.is_sorted());
        Ok(())
    })
    .unwrap();
}

#[test]
fn the_root_volume_is_the_first_disk() {
    in_store(|tx| {
        let mut server = server("s", None);
        server.spec.launch.boot = BootDisk::Volume;
        let (data, root) = (volume(tx, "data", |_| {}), volume(tx, "root", |volume| volume.status.made = false));
        let data = attach(tx, &data, &mut server, How::default())?;
        let root = attach_made(tx, &root, &mut server, How { boot_index: Some(0), ..How::default() })?;
        assert_eq!((data.device.as_deref(), root.device.as_deref()), (Some("/dev/vdb"), Some("/dev/vda")));
        assert_eq!(attachments(&tx.view(), &server.meta.id)[0].meta.id, root.meta.id);
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_host_lets_go_and_where_there_is_none_nobody_has_to() {
    in_store(|tx| {
        let (id, other) = (volume(tx, "v", |_| {}), volume(tx, "w", |_| {}));
        let mut hosted = server("hosted", Some("h"));
        let made = attach(tx, &id, &mut hosted, How::default())?;
        let early = refusal(detach(tx, &made.meta.id, &mut hosted));
        assert!(early.starts_with("Invalid volume: Unable to detach volume."), "{early}");
        settle_off_host(tx, &made.meta.id)?;
        detach(tx, &made.meta.id, &mut hosted)?;
        let leaving = tx.require(&made.meta.id)?;
        assert_eq!((leaving.state, leaving.generation, hosted.meta.generation), (AttachState::Detaching, 3, 3));
        assert!(detach(tx, &made.meta.id, &mut hosted).is_err(), "once is enough");

        let mut shelved = server("shelved", None);
        let made = attach(tx, &other, &mut shelved, How::default())?;
        settle_off_host(tx, &made.meta.id)?;
        detach(tx, &made.meta.id, &mut shelved)?;
        assert!(tx.get(&made.meta.id).is_none());
        assert_eq!(state(&tx.view(), &*tx.require(&other)?), State::Available);
        Ok(())
    })
    .unwrap();
}

#[test]
fn an_ended_server_takes_along_what_was_to_end_with_it() {
    in_store(|tx| {
        let mut server = server("s", None);
        let ends = How { delete_on_termination: true, ..How::default() };
        for (id, how) in [("stays", How::default()), ("goes", ends.clone()), ("kept", ends)] {
            let id = volume(tx, id, |_| {});
            attach(tx, &id, &mut server, how)?;
        }
        let meta = Meta::new("snap").owned_by("p");
        tx.insert(Snapshot::new(meta, "u", "kept", 1))?;
        release(tx, &server.meta.id)?;
        let deleted = |id: &str| tx.require(&Id::<Volume>::new(id)).map(|volume| (volume.spec.deleted, volume.meta.generation));
        assert_eq!((deleted("stays")?, deleted("goes")?, deleted("kept")?), ((false, 1), (true, 2), (false, 1)));
        assert_eq!(tx.all::<Attachment>().count(), 0);
        Ok(())
    })
    .unwrap();
}
