//! `unkai status` and `unkai why`: what is, and why, in words. Pure functions of a view.

use std::collections::BTreeSet;
use std::fmt::Write;

use unkai_control::availability::survive::{Lost, Redundancy};
use unkai_control::migration::drain::{Remains, remaining};
use unkai_control::volume::attachments::{self, Readiness};
use unkai_control::{availability, placement};
use unkai_model::compute::{Failover, Host, Method, Migration, Server, ServerAction, Unmanaged};
use unkai_model::image::Image;
use unkai_model::network::{FloatingIp, Network, Port, Router};
use unkai_model::volume::Attachment;
use unkai_model::{Id, Kind, Timestamp};
use unkai_store::View;

use crate::storage;

/// The path on the local socket.
pub fn path(id: &str) -> String {
    format!("/why/{}", escaped(id))
}

/// As a part of a URL.
pub fn escaped(text: &str) -> String {
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes().map(|b| if safe(b) { (b as char).to_string() } else { format!("%{b:02X}") }).collect()
}

pub fn status(view: &View, url: &str, now: Timestamp) -> String {
    let mut out = format!("cloud     {url}  (revision {})\n", view.revision());
    for host in view.all::<Host>() {
        let id = host.meta.id.as_str();
        let used = |class: &'static str| format!("{} of {}", view.tally(class, id), host.usable(class));
        let _ = writeln!(
            out,
            "host      {}  {:?}  {}  processors {}  memory {} MiB  disk {} GiB",
            host.meta.name,
            host.status.reachability,
            host.status.hypervisor,
            used("VCPU"),
            used("MEMORY_MB"),
            used("DISK_GB")
        );
        if host.drain.is_some() {
            out.push_str(&indented(&drain(view, &host.meta.id, now)));
        }
        for machine in unmanaged(view, &host) {
            let (by, name, state) = (&machine.by, &machine.name, &machine.state);
            let _ = writeln!(out, "  unmanaged  {name}  {by}  {state}  processors {}  memory {} MiB", machine.vcpus, machine.memory_mib);
        }
    }
    let live: Vec<_> = view.all::<Server>().filter(|server| server.is_live()).collect();
    let _ = writeln!(out, "servers   {}", live.len());
    for server in live.iter().take(20) {
        let _ = writeln!(out, "  {}  {}  {:?}", server.meta.id, server.meta.name, server.status.observed.phase);
    }
    let counts = [("networks", view.count::<Network>()), ("ports", view.count::<Port>()), ("routers", view.count::<Router>())];
    for (name, count) in counts {
        let _ = writeln!(out, "{name:<9} {count}");
    }
    let _ = writeln!(out, "images    {}", view.count::<Image>());
    out.push_str(&storage::status(view));
    out
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

/// What a host that is drained still has, and why.
pub fn drain(view: &View, host: &Id<Host>, now: Timestamp) -> String {
    let left = remaining(view, host, now);
    let mut out = match left.len() {
        0 => "drained: nothing is left here\n".to_owned(),
        1 => "draining: 1 server is left\n".to_owned(),
        many => format!("draining: {many} servers are left\n"),
    };
    for (server, remains) in left {
        let why = match remains {
            Remains::Moves(to) => format!("moves to {to}"),
            Remains::Next(_) => "moves when it is its turn".into(),
            Remains::Waits(reason) => format!("waits: {reason}"),
        };
        let _ = writeln!(out, "  {}  {}  {why}", server.meta.id, server.meta.name);
    }
    out
}

/// What runs on a host and is not of this cloud. Two hosts may share a machine, and then see each other's servers.
fn unmanaged<'a>(view: &'a View, host: &'a Host) -> impl Iterator<Item = &'a Unmanaged> {
    host.status.unmanaged.iter().filter(|machine| view.get(&Id::<Server>::new(machine.id.as_str())).is_none())
}

/// `unkai host list`.
pub fn hosts(view: &View) -> String {
    let mut out = String::new();
    for host in view.all::<Host>() {
        let (id, status) = (&host.meta.id, &host.status);
        let state = match &status.admission.revoked {
            Some(_) => "Revoked".to_owned(),
            None => format!("{:?}", status.reachability),
        };
        let since = status.admission.revoked.or(status.since).map(|at| at.to_string()).unwrap_or_default();
        let servers = view.by_index::<Server>("host", id.as_str()).count();
        let drain = match host.drain {
            Some(_) if servers == 0 => "  drained",
            Some(_) => "  draining",
            None => "",
        };
        let address = status.address.map(|address| address.to_string()).unwrap_or_default();
        let _ = writeln!(out, "{id}  {}  {state}  {since}  {address}  servers {servers}{drain}", host.meta.name);
    }
    out
}

/// `unkai survive`.
pub fn survive(view: &View, dead: &BTreeSet<Id<Host>>) -> String {
    let name = |host: &Id<Host>| view.get(host).map_or_else(|| host.to_string(), |host| host.meta.name.clone());
    let mut out = String::new();
    let mut tell = |hosts: &str, lost: &[Lost]| {
        for one in lost {
            let _ =
                writeln!(out, "if {hosts} died now: server {} ({}) could not be started elsewhere: {}", one.name, one.server, one.reason);
        }
    };
    if dead.is_empty() {
        let redundancy = Redundancy::of(view);
        redundancy.exposed.iter().for_each(|(host, lost)| tell(&name(host), lost));
        let _ = writeln!(out, "missing {}, of which {} are being started elsewhere now", redundancy.missing(), redundancy.failing_over);
    } else {
        let lost = availability::survive::survive(view, dead);
        tell(&dead.iter().map(name).collect::<Vec<_>>().join(", "), &lost);
        let _ = writeln!(out, "missing {}", lost.len());
    }
    out
}

/// Everything known about the resource with this id or, for servers, name.
pub fn explain(view: &View, id: &str) -> String {
    let named = |server: &std::sync::Arc<Server>| server.meta.id.as_str() == id || server.meta.name == id;
    // Of several with this name the newest that lives, else the newest.
    let server = view.all::<Server>().filter(named).max_by_key(|server| (server.is_live(), server.meta.created));
    if let Some(server) = server {
        return explain_server(view, &server);
    }
    let mut out = String::new();
    storage::explain(view, id, &mut out);
    show::<Host>(view, id, &mut out);
    show::<Image>(view, id, &mut out);
    show::<Network>(view, id, &mut out);
    show::<Port>(view, id, &mut out);
    show::<Router>(view, id, &mut out);
    show::<FloatingIp>(view, id, &mut out);
    if out.is_empty() {
        out = format!("nothing here has the id or name {id}\n");
    }
    out
}

pub fn show<K: Kind>(view: &View, id: &str, out: &mut String) {
    let Some(document) = view.get(&Id::<K>::new(id)) else { return };
    let meta = document.meta();
    let _ = writeln!(out, "{} {} ({})", K::NOUN, meta.id, meta.name);
    let _ = writeln!(out, "  created {}, changed {} ({} writes)", meta.created, meta.updated, meta.version);
    let text = serde_json::to_string_pretty(&*document).unwrap_or_else(|e| e.to_string());
    let _ = writeln!(out, "{text}");
}

fn explain_server(view: &View, server: &Server) -> String {
    let (meta, status) = (&server.meta, &server.status);
    let mut out = format!("server {} ({})\n", meta.id, meta.name);
    let _ = writeln!(out, "  wanted    {:?}, generation {}", server.spec.run, meta.generation);
    let _ = writeln!(out, "  observed  {:?}, generation {}", status.observed.phase, status.observed.generation);
    match &status.host {
        Some(host) => {
            let name =
                view.get(host).map_or_else(|| host.to_string(), |host| format!("{} ({:?})", host.meta.name, host.status.reachability));
            let _ = writeln!(out, "  host      {name}");
        }
        None if server.is_live() => {
            let why = match attachments::readiness(view, &meta.id) {
                Readiness::Waits => "none yet; its volumes are being made".into(),
                Readiness::Broken(why) => format!("none: {why}"),
                Readiness::Ready => match placement::explain(view, server) {
                    Ok(host) => format!("none yet; it fits on {host}"),
                    Err(none) => format!("none: {none}"),
                },
            };
            let _ = writeln!(out, "  host      {why}");
        }
        None => drop(writeln!(out, "  host      none: deleted")),
    }
    if let Some(preempted) = &status.preempted {
        let _ = writeln!(
            out,
            "  preempted since {}: its room is used by servers of a lost host; it goes on when there is room",
            preempted.since
        );
    }
    match &status.spare {
        Some(spare) if server.is_leased() => {
            let name = view.get(spare).map_or_else(|| spare.to_string(), |spare| spare.meta.name.clone());
            let _ = writeln!(out, "  spare     room is kept on {name}");
        }
        _ => {
            if let Some(why) = availability::reserve::explain(view, server) {
                let _ = writeln!(out, "  spare     no room is kept: {why}");
            }
        }
    }
    if let Some(fault) = &status.fault {
        let _ = writeln!(out, "  fault     {} (at {})", fault.message, fault.at);
    }
    for attachment in view.by_index::<Attachment>("server", meta.id.as_str()) {
        let device = attachment.device.as_deref().unwrap_or("no device");
        let _ = writeln!(out, "  volume    {}  {device}  {:?}  fence {}", attachment.volume, attachment.state, attachment.fence);
    }
    let line = &status.timeline;
    let accepted = Some(meta.created);
    for (what, at) in [
        ("accepted", accepted),
        ("placed", line.placed),
        ("network", line.network_ready),
        ("started", line.started),
        ("running", line.launched),
        ("deleted", status.deleted),
    ] {
        if let Some(at) = at {
            let _ = writeln!(out, "  {what:<9} {at}  {}", since(meta.created, at));
        }
    }
    let mut actions: Vec<_> = view.by_index::<ServerAction>("server", meta.id.as_str()).collect();
    actions.sort_by_key(|action| action.started);
    for action in actions {
        let result = match (&action.message, action.is_open()) {
            (Some(message), _) => message.clone(),
            (None, true) => "under way".into(),
            (None, false) => "done".into(),
        };
        let _ = writeln!(out, "  asked     {} at {} by {}: {result}", action.meta.name, action.started, action.user);
    }
    let mut migrations: Vec<_> = view.by_index::<Migration>("server", meta.id.as_str()).collect();
    migrations.sort_by_key(|migration| migration.number);
    for migration in migrations {
        let _ = writeln!(out, "  migration {}", explain_migration(view, &migration));
    }
    let mut receipts: Vec<_> = view.by_index::<Failover>("server", meta.id.as_str()).collect();
    receipts.sort_by_key(|receipt| receipt.detected);
    for receipt in receipts {
        let _ = writeln!(out, "  failover  {}", explain_failover(view, &receipt));
    }
    out
}

/// From where to where, how, how far, and why not.
fn explain_migration(view: &View, migration: &Migration) -> String {
    let name = |host: &Id<Host>| view.get(host).map_or_else(|| host.to_string(), |host| host.meta.name.clone());
    let to = migration.destination.as_ref().map_or_else(|| "no host yet".to_owned(), name);
    let (progress, source) = (&migration.progress, name(&migration.source));
    let mut out = format!("{:?} from {source} to {to}: {:?}", migration.kind, migration.state);
    if migration.method == Method::StopAndCopy {
        out.push_str(", standing still: QEMU before 8.2.2 would damage the memory of an emulated guest that runs meanwhile");
    }
    if progress.memory_total > 0 {
        let mib = |bytes: u64| bytes >> 20;
        let (sent, left, disk) = (mib(progress.memory_sent), mib(progress.memory_left), mib(progress.disk_sent));
        let _ = write!(out, ", memory {sent} MiB sent and {left} left in {} rounds, disks {disk} MiB", progress.rounds);
    }
    if let Some(downtime) = progress.downtime_millis {
        let _ = write!(out, ", stood still for {downtime} ms");
    }
    if let Some(ended) = migration.ended {
        let _ = write!(out, ", took {} ms", ended.duration_since(migration.meta.created).as_millis());
    }
    for reason in [&migration.abort, &migration.failure].into_iter().flatten().take(1) {
        let _ = write!(out, "; {reason}");
    }
    out
}

/// Where from and where to, and how long each part took since the loss of the host was noticed.
fn explain_failover(view: &View, receipt: &Failover) -> String {
    let name = |host: &Id<Host>| view.get(host).map_or_else(|| host.to_string(), |host| host.meta.name.clone());
    let to = receipt.to.as_ref().map_or_else(|| "nowhere yet".to_owned(), name);
    let mut out = format!("from {} to {to}: detected {}", name(&receipt.from), receipt.detected);
    for (what, at) in [("fenced", Some(receipt.fenced)), ("decided", receipt.decided), ("booted", receipt.booted)] {
        if let Some(at) = at {
            let _ = write!(out, ", {what} {}", since(receipt.detected, at));
        }
    }
    if let Some(reason) = &receipt.reason {
        let _ = write!(out, "; {reason}");
    }
    out
}

pub fn since(from: Timestamp, to: Timestamp) -> String {
    format!("+{} ms", to.duration_since(from).as_millis())
}
