//! What was asked of a server, by whom, and what came of it: one document per request that changed it.
//!
//! Written by the API in the transaction of the request itself. Whoever carries the request out (control, the link) appends events;
//! [`ServerAction::settle`] ends what is still open. Actions outlive their server and are purged with it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Host, Server};
use crate::identity::Project;
use crate::{Derived, Id, Kind, Meta};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServerAction {
    /// The name is the action's: `create`, `reboot`. The id is [`ServerAction::id`].
    pub meta: Meta<ServerAction>,
    pub server: Id<Server>,
    /// `req-...`, as the client saw it.
    pub request: String,
    pub user: String,
    /// Whom the request was made for; an administrator's project may differ from the server's.
    #[serde(default)]
    pub project: Option<Id<Project>>,
    pub started: Timestamp,
    /// Which generation of the server is about it; none when the host had nothing to do.
    #[serde(default)]
    pub generation: Option<u64>,
    /// Why it failed.
    #[serde(default)]
    pub message: Option<String>,
    #[serde(default)]
    pub events: Vec<ActionEvent>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ActionEvent {
    /// `compute_reboot_instance`.
    pub name: String,
    pub started: Timestamp,
    #[serde(default)]
    pub finished: Option<Timestamp>,
    #[serde(default)]
    pub outcome: Option<Outcome>,
    #[serde(default)]
    pub host: Option<Id<Host>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Success,
    /// What went wrong, in words for its owner.
    Error(String),
}

impl ServerAction {
    pub fn id(server: &Id<Server>, request: &str) -> Id<ServerAction> {
        Id::new(format!("{server}/{request}"))
    }

    /// Begins an event; one of this name that is still open goes on.
    pub fn start(&mut self, name: &str, host: Option<Id<Host>>, now: Timestamp) {
        if !self.events.iter().any(|e| e.name == name && e.finished.is_none()) {
            self.events.push(ActionEvent { name: name.into(), started: now, finished: None, outcome: None, host });
        }
    }

    /// Ends an event; one that was never begun took no time.
    pub fn finish(&mut self, name: &str, outcome: Outcome, now: Timestamp) {
        self.start(name, None, now);
        let open = self.events.iter_mut().rfind(|e| e.name == name && e.finished.is_none());
        let event = open.expect("start leaves one open");
        event.finished = Some(now);
        self.note(&outcome);
        self.events.iter_mut().rfind(|e| e.name == name).expect("it is there").outcome = Some(outcome);
    }

    /// Ends all that is open.
    pub fn settle(&mut self, outcome: Outcome, now: Timestamp) {
        for event in self.events.iter_mut().filter(|e| e.finished.is_none()) {
            event.finished = Some(now);
            event.outcome = Some(outcome.clone());
        }
        self.note(&outcome);
    }

    pub fn is_open(&self) -> bool {
        self.events.iter().any(|e| e.finished.is_none())
    }

    fn note(&mut self, outcome: &Outcome) {
        if let Outcome::Error(why) = outcome {
            self.message = Some(why.clone());
        }
    }
}

impl Kind for ServerAction {
    const NAME: &'static str = "server_action";
    const NOUN: &'static str = "server action";
    crate::meta_accessors!();

    /// Indexes: `server`; `open` (by server) while an event has not ended.
    fn derive(&self, d: &mut Derived) {
        d.index("server", &self.server);
        if self.is_open() {
            d.index("open", &self.server);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn action() -> ServerAction {
        ServerAction {
            meta: Meta::new("s/req-1").named("reboot"),
            server: Id::new("s"),
            request: "req-1".into(),
            user: "u".into(),
            project: None,
            started: at(1),
            generation: Some(2),
            message: None,
            events: Vec::new(),
        }
    }

    #[test]
    fn events_begin_once_and_end_once() {
        let mut action = action();
        action.start("compute_reboot_instance", None, at(2));
        action.start("compute_reboot_instance", None, at(3));
        assert_eq!(action.events.len(), 1);
        assert!(action.is_open());
        action.finish("compute_reboot_instance", Outcome::Success, at(4));
        assert!(!action.is_open());
        assert_eq!(action.events[0].finished, Some(at(4)));
        assert_eq!(action.message, None);
    }

    #[test]
    fn settling_ends_what_is_open_and_says_why() {
        let mut action = action();
        action.start("a", None, at(2));
        action.start("b", None, at(2));
        action.finish("a", Outcome::Success, at(3));
        action.settle(Outcome::Error("no room".into()), at(4));
        assert_eq!(action.events[0].outcome, Some(Outcome::Success));
        assert_eq!(action.events[1].outcome, Some(Outcome::Error("no room".into())));
        assert_eq!(action.message.as_deref(), Some("no room"));
    }
}
