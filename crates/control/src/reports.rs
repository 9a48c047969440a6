//! What agents' reports mean for documents. One transaction takes a batch of them, in the order they were said.

use unkai_link::item::HostId;
use unkai_link::report::{PortReport, ServerReport, Up};
use unkai_model::compute::{Fault, Observed, Outcome, Phase, ResizeState, Run, Server, StopReason, Timeline};
use unkai_model::image::Image;
use unkai_model::network::{Port, Router};
use unkai_model::{Error, Id, Timestamp};
use unkai_store::Tx;

use crate::availability::failover;
use crate::{actions, hosts, migration, retire, volume};

pub fn take(tx: &mut Tx, host: &HostId, reports: &[Up]) -> Result<(), Error> {
    for report in reports {
        match report {
            Up::Server(report) => server(tx, host, report)?,
            Up::Port(report) => port(tx, host, report)?,
            Up::Router(report) => {
                if let (Some(fault), true) = (&report.fault, tx.get::<Router>(&Id::new(report.router.as_str())).is_some()) {
                    tracing::warn!(%host, router = report.router, fault, "a router is not as wanted");
                }
            }
            Up::SnapshotFailed { image, reason } => snapshot_failed(tx, host, image, reason)?,
            Up::Inventory(inventory) => hosts::inventory(tx, host, inventory)?,
            Up::Migration(report) => migration::reports::take(tx, host, report)?,
            Up::Volume(report) => volume::reports::volume(tx, host, report)?,
            Up::Pool(report) => volume::reports::pool(tx, host, report)?,
            Up::Backup(report) => volume::reports::backup(tx, host, report)?,
            Up::Hello(_) | Up::Renew(_) => {}
        }
    }
    Ok(())
}

fn server(tx: &mut Tx, host: &HostId, report: &ServerReport) -> Result<(), Error> {
    let Some(present) = tx.get(&report.server) else { return Ok(()) };
    let stale = report.generation < present.status.observed.generation || report.generation > present.meta.generation;
    if present.status.host.as_ref() != Some(host) || stale || !present.is_live() {
        return Ok(());
    }
    let now = tx.now();
    let server = tx.update(&report.server, |server: &mut Server| {
        observe(server, report, now);
        Ok::<_, Error>(())
    })?;
    actions::after_report(tx, &server)?;
    failover::after_report(tx, &server)?;
    volume::attachments::after_report(tx, &server)?;
    retire::after_report(tx, &server)
}

/// The pure part: what a report does to the document.
pub(crate) fn observe(server: &mut Server, report: &ServerReport, now: Timestamp) {
    let status = &mut server.status;
    if status.observed.phase != report.phase || status.observed.since.is_none() {
        status.observed.since = Some(now);
    }
    let since = status.observed.since;
    status.observed = Observed {
        generation: report.generation,
        phase: report.phase.clone(),
        since,
        incarnation: report.incarnation,
        leased: report.leased,
    };
    merge(&mut status.timeline, &report.timeline);
    match &report.phase {
        Phase::Failed(reason) => {
            status.fault = Some(Fault { code: 500, message: reason.clone(), details: String::new(), at: now });
        }
        // Its host was told to end it, whatever it is to do where it goes back to.
        Phase::Stopped(_) if server.goes_back() => {}
        Phase::Stopped(reason) if *reason != StopReason::Asked && server.spec.run == Run::Running && server.is_settled() => {
            // The guest went off by itself: that is now what is wanted, until somebody starts it.
            server.spec.run = Run::Stopped;
        }
        Phase::Running | Phase::Paused | Phase::Suspended | Phase::Stopped(_) if server.is_settled() => server.status.fault = None,
        _ => {}
    }
    if server.is_settled() && !matches!(server.status.observed.phase, Phase::Failed(_)) && !server.goes_back() {
        settle_resize(server);
    }
}

fn settle_resize(server: &mut Server) {
    let Some(resize) = &mut server.spec.resize else { return };
    match resize.state {
        ResizeState::Changing => resize.state = ResizeState::WaitsForConfirm,
        ResizeState::Reverting => server.spec.resize = None,
        ResizeState::WaitsForConfirm => {}
    }
}

fn merge(into: &mut Timeline, from: &Timeline) {
    into.network_ready = into.network_ready.or(from.network_ready);
    into.started = into.started.or(from.started);
    into.launched = into.launched.or(from.launched);
}

fn port(tx: &mut Tx, host: &HostId, report: &PortReport) -> Result<(), Error> {
    let Some(present) = tx.get(&report.port) else { return Ok(()) };
    if present.binding_host.as_ref() != Some(host) || present.status.up == report.up {
        return Ok(());
    }
    tx.update(&report.port, |port: &mut Port| {
        port.status.up = report.up;
        port.status.host = report.up.then(|| host.clone());
        Ok::<_, Error>(())
    })?;
    Ok(())
}

/// A snapshot that could not be made leaves an image that will never have bytes: it says why, and is no longer awaited.
fn snapshot_failed(tx: &mut Tx, host: &HostId, image: &Id<Image>, reason: &str) -> Result<(), Error> {
    let Some(present) = tx.get(image) else { return Ok(()) };
    let Some(source) = present.spec.source.as_ref().filter(|source| source.host.as_ref() == Some(host)) else { return Ok(()) };
    actions::settle_snapshot(tx, &source.server, &Outcome::Error(reason.to_owned()))?;
    tx.update(image, |image: &mut Image| {
        image.spec.source = None;
        image.status.refusal = Some(reason.to_owned());
        Ok::<_, Error>(())
    })?;
    Ok(())
}
