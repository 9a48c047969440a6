//! The dial of availability, as clients turn it: entries of a server's metadata, with extra specs of its flavor as the defaults.
//!
//! | key | values |
//! | --- | --- |
//! | `unkai:availability` | `none`; `ha`: started elsewhere when its host is lost |
//! | `unkai:priority` | an integer; after the loss of a host higher ones are started first. 0 by default |
//! | `unkai:preemptible` | `true`: it may use room that is kept for the loss of a host, and is stopped when that is needed. At creation only |
//! | `unkai:local_disks` | `keep`; `discard`: they may begin anew from the image when the server is started elsewhere |
//!
//! Turned at creation and at any time after it, while the server runs. A server whose disks are on its host alone can be started elsewhere
//! only without them, so `ha` is refused for it unless its owner says `discard`.

use unkai_model::compute::{Availability, Server};

use crate::Fault;

const AVAILABILITY: &str = "unkai:availability";
const PRIORITY: &str = "unkai:priority";
const PREEMPTIBLE: &str = "unkai:preemptible";
const LOCAL_DISKS: &str = "unkai:local_disks";

/// What metadata and flavor say.
#[derive(Debug, PartialEq)]
struct Dial {
    availability: Availability,
    priority: i32,
    discards_local: bool,
    preemptible: bool,
}

impl Dial {
    fn read(server: &Server) -> Result<Self, Fault> {
        let said = |key: &str| server.spec.metadata.get(key).or_else(|| server.spec.launch.flavor.extra_specs.get(key)).map(String::as_str);
        let refuse = |key: &str, value: &str, instead: &str| Fault::bad_request(format!("Invalid value '{value}' for {key}: {instead}"));
        let availability = match said(AVAILABILITY) {
            None | Some("none") => Availability::None,
            Some("ha") => Availability::Ha,
            Some(value) => return Err(refuse(AVAILABILITY, value, "it must be none or ha")),
        };
        let priority = match said(PRIORITY) {
            None => 0,
            Some(value) => value.parse().map_err(|_| refuse(PRIORITY, value, "it must be an integer"))?,
        };
        let discards_local = match said(LOCAL_DISKS) {
            None | Some("keep") => false,
            Some("discard") => true,
            Some(value) => return Err(refuse(LOCAL_DISKS, value, "it must be keep or discard")),
        };
        let preemptible = match said(PREEMPTIBLE) {
            None | Some("false") => false,
            Some("true") => true,
            Some(value) => return Err(refuse(PREEMPTIBLE, value, "it must be true or false")),
        };
        if preemptible && availability != Availability::None {
            return Err(refuse(PREEMPTIBLE, "true", "a highly available server gives its room to none"));
        }
        Ok(Dial { availability, priority, discards_local, preemptible })
    }
}

/// Sets a server's dial as its metadata and flavor say. To be called whenever either has changed.
pub fn turn(server: &mut Server) -> Result<(), Fault> {
    let dial = Dial::read(server)?;
    // It would keep room that it was only lent.
    if dial.preemptible != server.spec.preemptible && server.status.timeline.placed.is_some() {
        return Err(Fault::bad_request(format!("{PREEMPTIBLE} cannot change after the server was created.")));
    }
    server.spec.preemptible = dial.preemptible;
    server.spec.priority = dial.priority;
    server.turn(dial.availability, dial.discards_local);
    match server.bound_to_host() {
        Some(why) if dial.availability != Availability::None => Err(Fault::bad_request(format!(
            "The server cannot be made highly available: {why}. With {LOCAL_DISKS}=discard it is started elsewhere without what it has written \
             to them."
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::servers::fixture;

    fn server(metadata: &[(&str, &str)], extra: &[(&str, &str)]) -> Server {
        let mut server = fixture::server("s", "p");
        server.spec.launch.flavor.disk_gib = 1;
        server.spec.metadata = metadata.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        server.spec.launch.flavor.extra_specs = extra.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        server
    }

    #[test]
    fn metadata_goes_before_the_flavor() {
        let mut one = server(&[(PRIORITY, "7")], &[(AVAILABILITY, "ha"), (LOCAL_DISKS, "discard"), (PRIORITY, "1")]);
        turn(&mut one).unwrap();
        assert_eq!((one.spec.availability, one.spec.priority, one.is_leased()), (Availability::Ha, 7, true));
        let generation = one.meta.generation;
        turn(&mut one).unwrap();
        assert_eq!(one.meta.generation, generation, "nothing changed, so the host is not bothered");
        one.spec.metadata.insert(AVAILABILITY.into(), "none".into());
        turn(&mut one).unwrap();
        assert_eq!((one.spec.availability, one.meta.generation), (Availability::None, generation + 1));
    }

    #[test]
    fn whether_it_can_be_preempted_is_said_once() {
        let mut one = server(&[(PREEMPTIBLE, "true")], &[]);
        turn(&mut one).unwrap();
        assert!(one.spec.preemptible);
        one.status.timeline.placed = Some(unkai_model::Timestamp::UNIX_EPOCH);
        turn(&mut one).unwrap();
        one.spec.metadata.clear();
        assert!(turn(&mut one).is_err());
        let both = [(PREEMPTIBLE, "true"), (AVAILABILITY, "ha"), (LOCAL_DISKS, "discard")];
        assert!(turn(&mut server(&both, &[])).is_err() && turn(&mut server(&[(PREEMPTIBLE, "maybe")], &[])).is_err());
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_reason() {
        let refused = |metadata: &[(&str, &str)]| turn(&mut server(metadata, &[])).is_err();
        assert!(refused(&[(AVAILABILITY, "ha")]), "its disk is on its host alone");
        assert!(refused(&[(AVAILABILITY, "ha"), (LOCAL_DISKS, "keep")]));
        assert!(!refused(&[(AVAILABILITY, "ha"), (LOCAL_DISKS, "discard")]));
        assert!(refused(&[(AVAILABILITY, "ft")]) && refused(&[(PRIORITY, "high")]) && refused(&[(LOCAL_DISKS, "perhaps")]));
        assert!(!refused(&[]));
    }
}
