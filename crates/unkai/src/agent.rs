//! `unkai agent`: a host of a cloud whose controllers are elsewhere.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use unkai_host::{Agent, AgentConfig, Dial, External, Member};

use crate::cli::AgentArgs;
use crate::process::{Running, detach};
use crate::state::StateDir;
use crate::up;

/// Where a controller answers when the URL does not say.
const DEFAULT_PORT: u16 = 8443;

pub fn run(args: AgentArgs) -> Result<()> {
    let state = StateDir::create(&args.state)?;
    state.require_searchable()?;
    if let Some(running) = Running::read(&state.pid()) {
        bail!("`{}` is in use already, by process {}", state.path().display(), running.pid);
    }
    if args.detach {
        return detach(&state.log());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the async runtime")?;
    runtime.block_on(serve(state, args))
}

/// `unkai agent-guard`: a session of its own, so that what ends the agent does not end it.
pub fn guard(dir: &Path) -> Result<()> {
    // It fails only for the leader of a group, which has what it gives.
    let _ = nix::unistd::setsid();
    Ok(unkai_host::guard(dir)?)
}

/// This program, as a file to start.
pub fn own_program() -> Result<PathBuf> {
    std::env::current_exe().context("finding this program")
}

async fn serve(state: StateDir, args: AgentArgs) -> Result<()> {
    Running::me()?.write(&state.pid())?;
    let member = Arc::new(member(&state, &args).await?);
    let externals = args.external.iter().map(|text| external(text)).collect::<Result<_>>()?;
    let guard = own_program()?;
    let config =
        AgentConfig { dir: state.agent(), name: Some(member.name()), netns: args.netns, underlay: args.underlay, externals, guard };
    let host = member.host();
    let agent = Agent::open(host.clone(), config).await?;
    println!("ready {host}");
    std::io::stdout().flush().context("printing")?;
    let dial = Dial::new(member.controllers(), member);
    tokio::select! {
        () = agent.run(dial) => {}
        ended = up::asked_to_end() => ended?,
    }
    tracing::info!("stopping; servers keep running");
    let _ = std::fs::remove_file(state.pid());
    Ok(())
}

/// A token is spent when there is one; without, this machine must have joined before.
async fn member(state: &StateDir, args: &AgentArgs) -> Result<Member> {
    let dir = state.agent();
    let known = Member::open(&dir)?;
    match (&args.join, &args.token) {
        // The same command again: it has joined, and the token is spent.
        (Some(_), Some(_)) if known.is_some() && !args.again => Ok(known.context("it is known")?),
        (Some(url), Some(token)) => {
            let name = match &args.name {
                Some(name) => name.clone(),
                None => nix::unistd::gethostname()
                    .ok()
                    .and_then(|name| name.into_string().ok())
                    .context("this machine has no name: use --name")?,
            };
            Ok(Member::join(&dir, &address(url)?, &name, token).await?)
        }
        (Some(_), None) | (None, Some(_)) => bail!("to join a cloud takes both --join and --token"),
        (None, None) => {
            known.context("this machine is in no cloud yet: use --join and --token (`unkai host token` on a controller makes one)")
        }
    }
}

/// Host and port of a controller's URL, or of what is one without the scheme.
fn address(url: &str) -> Result<String> {
    let bare = url.strip_prefix("https://").unwrap_or(url);
    let bare = bare.split('/').next().unwrap_or_default();
    if bare.is_empty() || bare.contains("://") || url.starts_with("http:") {
        bail!("`{url}` is not the https URL of a controller");
    }
    let has_port =
        bare.rsplit_once(':').is_some_and(|(host, port)| port.parse::<u16>().is_ok() && (!host.contains(':') || host.ends_with(']')));
    Ok(if has_port { bare.to_owned() } else { format!("{bare}:{DEFAULT_PORT}") })
}

/// `NAME=DEVICE`, `NAME=DEVICE,ADDRESS/LENGTH,...` or `NAME=,ADDRESS/LENGTH`: a way out of the cloud on this host.
fn external(text: &str) -> Result<External> {
    let (physical, rest) = text.split_once('=').with_context(|| format!("`{text}` is not NAME=DEVICE"))?;
    let mut parts = rest.split(',');
    let device = parts.next().filter(|device| !device.is_empty()).map(str::to_owned);
    if physical.is_empty() {
        bail!("`{text}` has no name");
    }
    Ok(External { physical: physical.to_owned(), device, addresses: parts.map(str::to_owned).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_bare_addresses_are_understood() {
        let same = |url: &str, address_is: &str| assert_eq!(address(url).unwrap(), address_is);
        same("https://cloud.example", "cloud.example:8443");
        same("https://10.0.0.1:9000/", "10.0.0.1:9000");
        same("10.0.0.1", "10.0.0.1:8443");
        same("https://[fd00::1]", "[fd00::1]:8443");
        same("https://[fd00::1]:9000", "[fd00::1]:9000");
        assert!(address("http://10.0.0.1").is_err());
        assert!(address("").is_err());
    }

    #[test]
    fn ways_out_are_read() {
        let way = external("public=eth1,203.0.113.1/24").unwrap();
        assert_eq!((way.physical.as_str(), way.device.as_deref(), way.addresses.len()), ("public", Some("eth1"), 1));
        assert!(external("public").is_err());
        assert!(external("=eth1").is_err());
    }
}
