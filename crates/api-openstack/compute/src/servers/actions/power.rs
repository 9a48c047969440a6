//! On, off and in between.

use axum::response::Response;
use unkai_model::compute::{Run, Verb, VmState};

use super::super::perform::{Rule, Tasks, perform};
use super::super::schemas;
use super::{Action, accepted};
use crate::Fault;

static START: Rule = Rule::verb("start", "os_compute_api:servers:start", &[VmState::Stopped], "compute_start_instance");
static STOP: Rule = Rule::verb("stop", "os_compute_api:servers:stop", &[VmState::Active, VmState::Error], "compute_stop_instance");
static PAUSE: Rule = Rule::verb("pause", "os_compute_api:os-pause-server:pause", &[VmState::Active], "compute_pause_instance");
static UNPAUSE: Rule = Rule::verb("unpause", "os_compute_api:os-pause-server:unpause", &[VmState::Paused], "compute_unpause_instance");
static SUSPEND: Rule = Rule::verb("suspend", "os_compute_api:os-suspend-server:suspend", &[VmState::Active], "compute_suspend_instance");
static RESUME: Rule = Rule::verb("resume", "os_compute_api:os-suspend-server:resume", &[VmState::Suspended], "compute_resume_instance");
static SOFT_REBOOT: Rule = Rule::verb("reboot", "os_compute_api:servers:reboot", &[VmState::Active], "compute_reboot_instance");
static HARD_REBOOT: Rule = Rule {
    tasks: Tasks::Or(&["rebooting", "rebooting_hard", "resuming", "unpausing", "pausing", "suspending"]),
    ..Rule::verb(
        "reboot",
        "os_compute_api:servers:reboot",
        &[VmState::Active, VmState::Stopped, VmState::Paused, VmState::Suspended, VmState::Error],
        "compute_reboot_instance",
    )
};

/// Asks for another state to be in.
async fn run(request: Action, rule: &'static Rule, verb: Verb, run: Run) -> Result<Response, Fault> {
    perform(&request.cx, &request.id, rule, move |_, server, state| {
        server.ask(verb, state.vm);
        server.spec.run = run;
        Ok(())
    })
    .await?;
    Ok(accepted())
}

pub async fn start(request: Action) -> Result<Response, Fault> {
    request.check_bare("os-start")?;
    run(request, &START, Verb::Start, Run::Running).await
}

pub async fn stop(request: Action) -> Result<Response, Fault> {
    request.check_bare("os-stop")?;
    run(request, &STOP, Verb::Stop, Run::Stopped).await
}

pub async fn pause(request: Action) -> Result<Response, Fault> {
    request.check_bare("pause")?;
    run(request, &PAUSE, Verb::Pause, Run::Paused).await
}

pub async fn unpause(request: Action) -> Result<Response, Fault> {
    request.check_bare("unpause")?;
    run(request, &UNPAUSE, Verb::Unpause, Run::Running).await
}

pub async fn suspend(request: Action) -> Result<Response, Fault> {
    request.check_bare("suspend")?;
    run(request, &SUSPEND, Verb::Suspend, Run::Suspended).await
}

pub async fn resume(request: Action) -> Result<Response, Fault> {
    request.check_bare("resume")?;
    run(request, &RESUME, Verb::Resume, Run::Running).await
}

pub async fn reboot(request: Action) -> Result<Response, Fault> {
    request.check(&schemas::REBOOT)?;
    let hard = request.body["reboot"]["type"].as_str().is_some_and(|kind| kind.eq_ignore_ascii_case("hard"));
    let (rule, verb) = if hard { (&HARD_REBOOT, Verb::HardReboot) } else { (&SOFT_REBOOT, Verb::SoftReboot) };
    perform(&request.cx, &request.id, rule, move |_, server, state| {
        server.ask(verb, state.vm);
        server.spec.run = Run::Running;
        match verb {
            Verb::HardReboot => server.spec.hard_reboots += 1,
            _ => server.spec.soft_reboots += 1,
        }
        Ok(())
    })
    .await?;
    Ok(accepted())
}
