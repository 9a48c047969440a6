//! The command line.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{agent, doctor, down, local, sim, storage, up, why};

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
    /// Start a controller: APIs, store and control loops. Any number of them may share one PostgreSQL.
    Controller(ControllerOnly),
    /// Start the agent of a host: it joins a cloud, and runs servers for it.
    Agent(AgentArgs),
    /// End servers that must not run without a lease. Started by the agent.
    #[command(hide = true)]
    AgentGuard { dir: PathBuf },
    /// The hosts of the cloud.
    #[command(subcommand)]
    Host(HostCommand),
    /// Stop the control plane; servers keep running unless --servers is given. Those with `unkai:availability=ha` do so until their lease ends.
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
    /// Places that hold volumes and their backups.
    #[command(subcommand)]
    Pool(PoolCommand),
    /// Which highly available servers could not be started elsewhere if these hosts died now, and why.
    Survive {
        /// Ids or names, which die together; without any, each host by itself.
        hosts: Vec<String>,
        #[command(flatten)]
        state: StateArg,
    },
    /// Show, or set, how the loss of a host is found out.
    Availability {
        /// After this much silence a host is fenced.
        #[arg(long, value_parser = duration)]
        silence: Option<Duration>,
        /// For so long a host may run highly available servers without being heard; when every controller stays away longer, it ends them.
        #[arg(long, value_parser = duration)]
        lease: Option<Duration>,
        /// Keep room for starting highly available servers elsewhere when one of these is lost; only preemptible servers use it meanwhile.
        #[arg(long, value_enum)]
        reserve: Option<local::ReserveFor>,
        /// Whether a highly available server that no room can be kept for is placed.
        #[arg(long, value_enum)]
        admission: Option<Admission>,
        #[command(flatten)]
        state: StateArg,
    },
    /// Show, or set, what holds for the cloud as a whole.
    Settings {
        /// Servers made from an image, with nothing said about their disks, start from a volume made of it, which ends with them.
        #[arg(long, value_enum)]
        boot_from_volume: Option<Switch>,
        #[command(flatten)]
        state: StateArg,
    },
    /// Look after the store.
    #[command(subcommand)]
    Store(StoreCommand),
    /// Guest images.
    #[command(subcommand)]
    Image(ImageCommand),
    /// Real controllers with simulated hosts, in this process, while everything fails: says which invariant a seed breaks, if any.
    Sim(sim::SimArgs),
}

#[derive(Subcommand)]
enum HostCommand {
    /// Make a token with which machines join the cloud. It is shown once.
    Token {
        /// For how long it is good: 30s, 15m, 1h, 2d.
        #[arg(long, default_value = "1h", value_parser = duration)]
        ttl: Duration,
        /// How many machines may join with it.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        uses: u32,
        /// Only to admit this host again, by id or name; its earlier certificates are then void.
        #[arg(long)]
        host: Option<String>,
        #[command(flatten)]
        state: StateArg,
    },
    /// All hosts: id, name, state, since when, what they run.
    List {
        #[command(flatten)]
        state: StateArg,
    },
    /// Take no new servers, and let those that are there leave, a few at a time. Says what is left and why; asked again, what is left then.
    Drain {
        /// Id or name.
        host: String,
        #[command(flatten)]
        state: StateArg,
    },
    /// Take servers again.
    Undrain {
        /// Id or name.
        host: String,
        #[command(flatten)]
        state: StateArg,
    },
    /// Cut a host off, at once and for good. Its servers are not touched.
    Revoke {
        /// Id or name.
        host: String,
        #[command(flatten)]
        state: StateArg,
    },
}

#[derive(Subcommand)]
enum PoolCommand {
    /// Make a pool of storage that is there: a directory, an NFS export, a Ceph pool, an iSCSI target.
    Create {
        #[command(flatten)]
        pool: Box<storage::NewPool>,
        #[command(flatten)]
        state: StateArg,
    },
    /// All pools: id, name, driver, hosts, GiB there, free and promised, state.
    List {
        #[command(flatten)]
        state: StateArg,
    },
    /// Forget a pool that holds no volumes and no backups.
    Delete {
        /// Id or name.
        pool: String,
        #[command(flatten)]
        state: StateArg,
    },
    /// Place no new volumes in a pool; those that are there stay and work.
    Disable {
        /// Id or name.
        pool: String,
        /// Why; shown to those who ask where their volume could go.
        #[arg(long, default_value = "")]
        reason: String,
        #[command(flatten)]
        state: StateArg,
    },
    /// Place new volumes in it again.
    Enable {
        /// Id or name.
        pool: String,
        #[command(flatten)]
        state: StateArg,
    },
}

#[derive(Subcommand)]
enum StoreCommand {
    /// Copy the whole store, with the controllers stopped, from one engine to another that is empty. Servers run on meanwhile.
    Migrate {
        /// sqlite:PATH or postgres://USER:PASSWORD@HOST/DATABASE
        #[arg(long)]
        from: String,
        #[arg(long)]
        to: String,
    },
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Admission {
    /// It is, without room kept for it.
    Lenient,
    /// It is not, and says why.
    Strict,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

#[derive(Args)]
pub struct StateArg {
    /// Where the cloud keeps its state.
    #[arg(long = "state", env = "UNKAI_STATE", default_value = DEFAULT_STATE)]
    pub dir: PathBuf,
}

/// What every controller needs to know.
#[derive(Args, Clone)]
pub struct ControllerArgs {
    /// Where the cloud keeps its state.
    #[arg(long, env = "UNKAI_STATE", default_value = DEFAULT_STATE)]
    pub state: PathBuf,
    /// Where the APIs answer.
    #[arg(long, default_value = "127.0.0.1:8443")]
    pub listen: SocketAddr,
    /// sqlite:PATH, or postgres://USER:PASSWORD@HOST/DATABASE for several controllers; a file in the state directory by default.
    #[arg(long, env = "UNKAI_STORE", hide_env_values = true)]
    pub store: Option<String>,
    /// What clients are told: the balancer's URL when there is one before the controllers, the same on all of them.
    #[arg(long)]
    pub public_url: Option<String>,
    /// Where agents and other controllers reach this one; the address listened on by default.
    #[arg(long)]
    pub advertise: Option<String>,
    /// Directory of the image files; of several controllers all must see the same one.
    #[arg(long)]
    pub images: Option<PathBuf>,
    /// Name of the region in the service catalog.
    #[arg(long, default_value = "RegionOne")]
    pub region: String,
    /// For how long certificates of hosts are good; they are renewed after two thirds of it.
    #[arg(long, default_value = "30d", value_parser = duration)]
    pub host_certificates: Duration,
    /// Let tenants import images from this place: scheme, host and port, as in https://images.example.org. May be given several times;
    /// without it, nothing is downloaded.
    #[arg(long, value_name = "ORIGIN")]
    pub web_download_from: Vec<unkai_image::Origin>,
    /// Go to the background once ready.
    #[arg(long)]
    pub detach: bool,
}

impl ControllerArgs {
    pub fn images_settings(&self) -> unkai_image::Settings {
        let choices = unkai_image::Choices { download_from: self.web_download_from.clone(), ..unkai_image::Choices::default() };
        unkai_image::Settings::new(choices)
    }
}

#[derive(Args, Clone)]
pub struct ControllerOnly {
    #[command(flatten)]
    pub controller: ControllerArgs,
    /// Addresses of the external network `public`, made the first time; none: operators make theirs.
    #[arg(long)]
    pub external: Option<String>,
}

#[derive(Args, Clone)]
pub struct AgentArgs {
    /// Where the agent keeps its state.
    #[arg(long, env = "UNKAI_STATE", default_value = DEFAULT_STATE)]
    pub state: PathBuf,
    /// URL of a controller, to join its cloud; afterwards the agent knows all of them.
    #[arg(long)]
    pub join: Option<String>,
    /// From `unkai host token`.
    #[arg(long, env = "UNKAI_HOST_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Spend the token although this machine has joined already: after a revocation, or when its certificate has run out.
    #[arg(long)]
    pub again: bool,
    /// What the host is called; the machine's name by default.
    #[arg(long)]
    pub name: Option<String>,
    /// Keep all devices of the data plane in this network namespace; it is made when missing.
    #[arg(long)]
    pub netns: Option<String>,
    /// Address of this host on the network between the hosts; without one no network leaves this host.
    #[arg(long)]
    pub underlay: Option<IpAddr>,
    /// A way out of the cloud: NAME=DEVICE, and addresses of this machine on it after commas. May be repeated.
    #[arg(long)]
    pub external: Vec<String>,
    /// Go to the background once ready.
    #[arg(long)]
    pub detach: bool,
}

#[derive(Args, Clone)]
pub struct UpArgs {
    #[command(flatten)]
    pub controller: ControllerArgs,
    /// Keep all devices of the data plane in this network namespace; it is made when missing.
    #[arg(long)]
    pub netns: Option<String>,
    /// Address of this host on the network between the hosts; without one no network leaves this host.
    #[arg(long)]
    pub underlay: Option<IpAddr>,
    /// Only the controller: no servers run here.
    #[arg(long)]
    pub no_agent: bool,
    /// This many simulated hosts instead of this machine: everything answers, nothing runs. For measuring and trying.
    #[arg(long, default_value_t = 0, conflicts_with_all = ["netns", "underlay", "external_device"])]
    pub simulated_hosts: usize,
    /// Addresses of the external network `public`, made the first time; the first address is this machine's.
    #[arg(long, default_value = "203.0.113.0/24")]
    pub external: String,
    /// Physical device of the external network; without one it ends at this machine.
    #[arg(long)]
    pub external_device: Option<String>,
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
            Command::Up(mut args) => {
                if args.no_agent {
                    args.external.clear();
                }
                up::run(args)
            }
            Command::Controller(args) => up::run_controller(args),
            Command::Agent(args) => agent::run(args),
            Command::AgentGuard { dir } => agent::guard(&dir),
            Command::Host(HostCommand::Token { ttl, uses, host, state }) => {
                let host = host.map(|host| format!("&host={}", why::escaped(&host))).unwrap_or_default();
                local::act(&state.dir, &format!("/host/token?seconds={}&uses={uses}{host}", ttl.as_secs()))
            }
            Command::Host(HostCommand::List { state }) => local::print(&state.dir, "/hosts"),
            Command::Host(HostCommand::Drain { host, state }) => {
                local::act(&state.dir, &format!("/host/drain?host={}", why::escaped(&host)))
            }
            Command::Host(HostCommand::Undrain { host, state }) => {
                local::act(&state.dir, &format!("/host/undrain?host={}", why::escaped(&host)))
            }
            Command::Host(HostCommand::Revoke { host, state }) => {
                local::act(&state.dir, &format!("/host/revoke?host={}", why::escaped(&host)))
            }
            Command::Pool(PoolCommand::Create { pool, state }) => local::send(&state.dir, "/pools", &pool.request()?),
            Command::Pool(PoolCommand::List { state }) => local::print(&state.dir, "/pools"),
            Command::Pool(PoolCommand::Delete { pool, state }) => {
                local::act(&state.dir, &format!("/pool/delete?pool={}", why::escaped(&pool)))
            }
            Command::Pool(PoolCommand::Disable { pool, reason, state }) => {
                local::act(&state.dir, &format!("/pool/disable?pool={}&reason={}", why::escaped(&pool), why::escaped(&reason)))
            }
            Command::Pool(PoolCommand::Enable { pool, state }) => {
                local::act(&state.dir, &format!("/pool/enable?pool={}", why::escaped(&pool)))
            }
            Command::Down { state, servers } => down::run(&state.dir, servers),
            Command::Status { state } => local::print(&state.dir, "/status"),
            Command::Doctor => doctor::run(),
            Command::Why { id, state } => local::print(&state.dir, &why::path(&id)),
            Command::Survive { hosts, state } => {
                let hosts: Vec<_> = hosts.iter().map(|host| why::escaped(host)).collect();
                local::print(&state.dir, &format!("/survive?hosts={}", hosts.join(",")))
            }
            Command::Availability { silence, lease, reserve, admission, state } => {
                let one = |name: &str, time: Option<Duration>| time.map(|time| format!("{name}={}", time.as_millis()));
                let reserve = reserve.map(|what| format!("reserve={}", what.word()));
                let strict = admission.map(|admission| format!("strict={}", admission == Admission::Strict));
                let wishes: Vec<_> = [one("silence_ms", silence), one("lease_ms", lease), reserve, strict].into_iter().flatten().collect();
                local::act(&state.dir, &format!("/availability?{}", wishes.join("&")))
            }
            Command::Settings { boot_from_volume, state } => {
                let wish = boot_from_volume.map_or_else(String::new, |on| format!("boot_from_volume={}", on == Switch::On));
                local::act(&state.dir, &format!("/settings?{wish}"))
            }
            Command::Store(StoreCommand::Check { state }) => up::check_store(&state.dir),
            Command::Store(StoreCommand::Migrate { from, to }) => up::migrate_store(&from, &to),
            Command::Image(ImageCommand::Build { name, out }) => up::build_image(&name, &out),
            Command::Sim(args) => sim::run(&args),
        }
    }

    /// What is logged when nothing is said. Simulated clouds would say much.
    pub fn log_filter(&self) -> &'static str {
        if matches!(self.command, Command::Sim(_)) { "off" } else { "info,h2=warn,hyper=warn" }
    }
}

/// `90s`, `15m`, `1h`, `2d`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let refuse = || format!("`{text}` is not a time such as 90s, 15m, 1h or 2d");
    let unit = text.chars().last().ok_or_else(refuse)?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 24 * 3600,
        _ => return Err(refuse()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| refuse())?;
    // Ten years: longer than the cloud's CA is good.
    match number.checked_mul(seconds).filter(|total| (1..=3650 * 24 * 3600).contains(total)) {
        Some(total) => Ok(Duration::from_secs(total)),
        None => Err(refuse()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("2d"), Ok(Duration::from_secs(172_800)));
        for bad in ["", "5", "h", "-1h", "0s", "1w", "99999999999999999999d", "1µ"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
