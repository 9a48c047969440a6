//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use crate::{doctor, down, local, up, why};

const DEFAULT_STATE: &str = "/var/lib/unkai";

/// Unkai: a private cloud in one binary.
#[derive(Parser)]
#[command(version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start controller and agent on this machine, and adopt what already runs.
    Up(UpArgs),
    /// Stop the control plane; servers keep running unless --servers is given.
    Down {
        #[command(flatten)]
        state: StateArg,
        /// Stop the servers too, and remove what they have on this machine's network.
        #[arg(long)]
        servers: bool,
    },
    /// What runs here, in a few lines.
    Status {
        #[command(flatten)]
        state: StateArg,
    },
    /// What this machine offers, what is missing, and the command that mends it.
    Doctor,
    /// What happened to a resource, and why.
    Why {
        /// Id or name of a server, port, network, router, image, ...
        id: String,
        #[command(flatten)]
        state: StateArg,
    },
    /// Look after the store.
    #[command(subcommand)]
    Store(StoreCommand),
    /// Guest images.
    #[command(subcommand)]
    Image(ImageCommand),
}

#[derive(Subcommand)]
enum StoreCommand {
    /// Read the whole store (with the controller stopped) and report broken invariants.
    Check {
        #[command(flatten)]
        state: StateArg,
    },
}

#[derive(Subcommand)]
enum ImageCommand {
    /// Build a guest image from Debian packages: `mini` (seconds to boot) or `debian` (with cloud-init).
    Build {
        name: String,
        /// Where the files go.
        #[arg(long, default_value = "target/images")]
        out: PathBuf,
    },
}

#[derive(Args)]
pub struct StateArg {
    /// Where the cloud keeps its state.
    #[arg(long = "state", env = "UNKAI_STATE", default_value = DEFAULT_STATE)]
    pub dir: PathBuf,
}

#[derive(Args, Clone)]
pub struct UpArgs {
    /// Where the cloud keeps its state.
    #[arg(long, env = "UNKAI_STATE", default_value = DEFAULT_STATE)]
    pub state: PathBuf,
    /// Where the APIs answer.
    #[arg(long, default_value = "127.0.0.1:8443")]
    pub listen: SocketAddr,
    /// Keep all devices of the data plane in this network namespace; it is made when missing.
    #[arg(long)]
    pub netns: Option<String>,
    /// Go to the background once the cloud is ready.
    #[arg(long)]
    pub detach: bool,
    /// Only the controller: no servers run here.
    #[arg(long)]
    pub no_agent: bool,
    /// This many simulated hosts instead of this machine: everything answers, nothing runs. For measuring and trying.
    #[arg(long, default_value_t = 0, conflicts_with_all = ["netns", "external_device"])]
    pub simulated_hosts: usize,
    /// Name of the region in the service catalog.
    #[arg(long, default_value = "RegionOne")]
    pub region: String,
    /// Addresses of the external network `public`, made the first time; the first address is this machine's.
    #[arg(long, default_value = "203.0.113.0/24")]
    pub external: String,
    /// Physical device of the external network; without one it ends at this machine.
    #[arg(long)]
    pub external_device: Option<String>,
    /// Let tenants import images from this place: scheme, host and port, as in https://images.example.org. May be given several times;
    /// without it, nothing is downloaded.
    #[arg(long, value_name = "ORIGIN")]
    pub web_download_from: Vec<unkai_image::Origin>,
}

impl UpArgs {
    /// Does this machine itself run servers?
    pub fn runs_servers(&self) -> bool {
        !self.no_agent && self.simulated_hosts == 0
    }
}

impl Cli {
    pub fn run(self) -> Result<()> {
        match self.command {
            Command::Up(args) => up::run(args),
            Command::Down { state, servers } => down::run(&state.dir, servers),
            Command::Status { state } => local::print(&state.dir, "/status"),
            Command::Doctor => doctor::run(),
            Command::Why { id, state } => local::print(&state.dir, &why::path(&id)),
            Command::Store(StoreCommand::Check { state }) => up::check_store(&state.dir),
            Command::Image(ImageCommand::Build { name, out }) => up::build_image(&name, &out),
        }
    }
}
