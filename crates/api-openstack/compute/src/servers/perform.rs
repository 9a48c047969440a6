//! Doing something to a server: found, allowed, in the right state, changed and noted, in one transaction.

use std::sync::Arc;

use unkai_model::Id;
use unkai_model::Meta;
use unkai_model::compute::{Run, Server, ServerAction, VmState};
use unkai_store::{Tx, View};

use super::cx::{Cx, no_server};
use super::renderer::snapshot_of;
use super::state::{State, vm_name};
use crate::Fault;

/// When a verb is legal, and how the original calls it.
#[derive(Debug)]
pub struct Rule {
    /// In messages and in the list of actions.
    pub name: &'static str,
    /// The policy that refuses readers.
    pub policy: &'static str,
    /// Legal vm states; empty: all.
    pub states: &'static [VmState],
    pub tasks: Tasks,
    /// Whether a lock refuses it.
    pub lock: bool,
    /// The event that carries it out; empty: nothing is carried out by a host and the action is over at once.
    pub event: &'static str,
    /// Whether it is noted as an action at all.
    pub noted: bool,
    /// Only for administrators.
    pub admin: bool,
    /// Needs a server that is on a host.
    pub hosted: bool,
    /// The host is at it for a while although the server stays what it is: a snapshot.
    pub lasting: bool,
}

#[derive(Debug, PartialEq)]
pub enum Tasks {
    /// Only between tasks.
    None,
    Any,
    /// Between tasks or during one of these.
    Or(&'static [&'static str]),
}

impl Rule {
    /// A verb that a host carries out.
    pub const fn verb(name: &'static str, policy: &'static str, states: &'static [VmState], event: &'static str) -> Rule {
        Rule { name, policy, states, tasks: Tasks::None, lock: true, event, noted: true, admin: false, hosted: true, lasting: false }
    }
    /// A change of the document alone.
    pub const fn note(name: &'static str, policy: &'static str, states: &'static [VmState]) -> Rule {
        Rule { name, policy, states, tasks: Tasks::Any, lock: true, event: "", noted: false, admin: false, hosted: false, lasting: false }
    }

    pub fn check(&self, cx: &Cx, server: &Server, state: &State) -> Result<(), Fault> {
        if self.admin {
            cx.sees(server.meta.project.as_ref()).then_some(()).ok_or_else(|| no_server(&server.meta.id))?;
            cx.require_admin(self.policy)?;
        }
        cx.may_write(server, self.policy)?;
        if self.lock && server.spec.lock.is_some() && !cx.is_admin() {
            return Err(Fault::conflict(format!("Instance {} is locked", server.meta.id)));
        }
        if !self.states.is_empty() && !self.states.contains(&state.vm) {
            return Err(self.illegal(server, "vm_state", vm_name(state.vm)));
        }
        if self.hosted && server.status.host.is_none() {
            return Err(Fault::conflict(format!("Instance {} is in an invalid state for '{}'", server.meta.id, self.name)));
        }
        match (state.task, &self.tasks) {
            (None, _) | (_, Tasks::Any) => Ok(()),
            (Some(task), Tasks::Or(legal)) if legal.contains(&task) => Ok(()),
            (Some(task), _) => Err(self.illegal(server, "task_state", task)),
        }
    }

    pub fn illegal(&self, server: &Server, attribute: &str, state: &str) -> Fault {
        Fault::conflict(format!("Cannot '{}' instance {} while it is in {attribute} {state}", self.name, server.meta.id))
    }
}

/// The live server of this id, with its state.
pub fn find(view: &View, id: &str) -> Result<(Arc<Server>, State), Fault> {
    let server = view.get(&Id::<Server>::new(id)).filter(|server| server.is_live()).ok_or_else(|| no_server(id))?;
    let state = State::of(&server, snapshot_of(view, &server));
    Ok((server, state))
}

/// The live server, when the caller may look at it.
pub async fn look(cx: &Cx, id: &str) -> Result<(View, Arc<Server>, State), Fault> {
    let view = cx.view().await?;
    let (server, state) = find(&view, id)?;
    cx.may_read(&server)?;
    Ok((view, server, state))
}

/// Changes a server by a verb, if that is legal now, and notes the action.
pub async fn perform<T: Send + 'static>(
    cx: &Cx,
    id: &str,
    rule: &'static Rule,
    mut change: impl FnMut(&mut Tx, &mut Server, &State) -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    let (cx, id) = (cx.clone(), id.to_owned());
    let store = cx.cloud.store.clone();
    store
        .transact(move |tx| {
            let (server, state) = find(&tx.view(), &id)?;
            rule.check(&cx, &server, &state)?;
            let mut changed = Server::clone(&server);
            let answer = change(tx, &mut changed, &state)?;
            would_start_preempted(&changed)?;
            let acted = changed.meta.generation != server.meta.generation;
            if acted && changed.spec.run != Run::Deleted {
                // What was asked before failed; this is asked afresh.
                changed.status.fault = None;
            }
            if changed != *server {
                tx.update(&server.meta.id, |stored: &mut Server| {
                    *stored = changed.clone();
                    Ok::<_, Fault>(())
                })?;
            }
            if rule.noted {
                let generation = acted.then_some(changed.meta.generation);
                note(tx, &cx, &changed, (rule.name, rule.event), generation, acted || rule.lasting)?;
            }
            Ok(answer)
        })
        .await
}

/// What was taken from a server on its host comes back when there is room, not when it is asked for.
fn would_start_preempted(server: &Server) -> Result<(), Fault> {
    let starts = matches!(server.spec.run, Run::Running | Run::Paused) || server.spec.rescue.is_some();
    if server.status.preempted.is_some() && server.status.host.is_some() && starts {
        let id = &server.meta.id;
        return Err(Fault::conflict(format!(
            "Instance {id} was preempted: its room is used by servers of a lost host. It is started again when there is room."
        )));
    }
    Ok(())
}

/// Writes the action of this request, by its name and its event. `open`: the host has something to do, so the event stays open until
/// it is done; `generation` says what it is to reach.
pub fn note(tx: &mut Tx, cx: &Cx, server: &Server, (name, event): (&str, &str), generation: Option<u64>, open: bool) -> Result<(), Fault> {
    let now = tx.now();
    // One that ended in this transaction leaves nothing to wait for.
    let open = open && server.is_live();
    let mut action = ServerAction {
        meta: Meta::new(ServerAction::id(&server.meta.id, &cx.request)).named(name),
        server: server.meta.id.clone(),
        request: cx.request.clone(),
        user: cx.caller.user.clone(),
        project: cx.caller.project.clone(),
        started: now,
        generation,
        message: None,
        events: Vec::new(),
    };
    if !event.is_empty() {
        action.start(event, server.status.host.clone(), now);
        if !open {
            action.settle(unkai_model::compute::Outcome::Success, now);
        }
    }
    // A client that sends the same request id twice gets one action for both.
    if tx.get(&action.meta.id).is_none() {
        tx.insert(action)?;
    }
    Ok(())
}
