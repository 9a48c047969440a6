//! A PostgreSQL server of the tests' own: started at the first need, gone with the process however that ends, because a shell that
//! watches a pipe from here stops it and removes its files.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

struct Server {
    socket: PathBuf,
    /// Its standard input is the pipe.
    _shell: Child,
}

/// One database of the server.
#[derive(Clone)]
pub struct Database {
    pub url: String,
    name: String,
}

static SERVER: OnceLock<Result<Server, String>> = OnceLock::new();
static DATABASES: AtomicU32 = AtomicU32::new(0);

impl Database {
    /// None, with a line that says why, where PostgreSQL is not installed.
    pub fn create() -> Option<Self> {
        let server = match SERVER.get_or_init(start) {
            Ok(server) => server,
            Err(reason) => {
                eprintln!("skipped: {reason}");
                return None;
            }
        };
        let name = format!("test{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        let database = Database { url: format!("postgres:///{name}?host={}&user=postgres", server.socket.display()), name };
        database.admin(&format!("CREATE DATABASE {}", database.name));
        Some(database)
    }

    /// Runs SQL as the server's owner, in its own database.
    pub fn admin(&self, sql: &str) -> Vec<String> {
        query(&self.url.replace(&format!("/{}?", self.name), "/postgres?"), sql)
    }

    pub fn query(&self, sql: &str) -> Vec<String> {
        query(&self.url, sql)
    }

    /// Ends the sessions that have this database open; the number ended.
    pub fn terminate_sessions(&self, like: &str) -> usize {
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity";
        self.admin(&format!("{sql} WHERE datname = '{}' AND application_name LIKE '{like}'", self.name)).len()
    }
}

/// The first column of every row.
fn query(url: &str, sql: &str) -> Vec<String> {
    let work = async {
        let (client, connection) =
            tokio_postgres::connect(url, tokio_postgres::NoTls).await.expect("the test's server accepts connections");
        tokio::spawn(connection);
        let messages = client.simple_query(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        let row = |message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or("").to_owned()),
            _ => None,
        };
        messages.into_iter().filter_map(row).collect()
    };
    // On a thread of its own: tests call this inside and outside of runtimes.
    std::thread::scope(|scope| {
        let run = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
        scope.spawn(run).join().expect("the query runs")
    })
}

fn binaries() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut found: Vec<PathBuf> =
        versions.flatten().map(|version| version.path().join("bin")).filter(|bin| bin.join("postgres").exists()).collect();
    found.sort();
    found.pop()
}

/// PostgreSQL refuses to run as root.
fn unprivileged() -> Option<(u32, u32)> {
    if !nix::unistd::geteuid().is_root() {
        return None;
    }
    let user = ["postgres", "nobody"].iter().find_map(|name| nix::unistd::User::from_name(name).ok().flatten());
    user.map(|user| (user.uid.as_raw(), user.gid.as_raw()))
}

fn command(program: &Path, user: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(program);
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
    command.current_dir("/").env("LC_ALL", "C");
    command
}

fn start() -> Result<Server, String> {
    let bin = binaries().ok_or("PostgreSQL is not installed (apt-get install postgresql)")?;
    let user = unprivileged();
    let dir = tempfile::Builder::new().prefix("unkai-pg").tempdir().unwrap().keep();
    if let Some((uid, gid)) = user {
        std::os::unix::fs::chown(&dir, Some(uid), Some(gid)).unwrap();
    }
    let data = dir.join("data");
    let output = command(&bin.join("initdb"), user)
        .args(["-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8", "--no-locale", "-D"])
        .arg(&data)
        .output()
        .expect("initdb starts");
    assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
    let script = r#""$1/postgres" -D "$2/data" -k "$2" -c listen_addresses= -c fsync=off -c max_connections=200 >"$2/log" 2>&1 &
        server=$!; read line; kill -QUIT $server; wait $server; rm -rf "$2""#;
    let shell = command(Path::new("/bin/sh"), user)
        .args(["-c", script, "sh"])
        .args([&bin, &dir])
        .stdin(Stdio::piped())
        .process_group(0)
        .spawn()
        .expect("sh starts");
    let deadline = Instant::now() + Duration::from_secs(30);
    while !std::fs::read_to_string(data.join("postmaster.pid")).is_ok_and(|status| status.contains("ready")) {
        assert!(Instant::now() < deadline, "PostgreSQL does not start: {:?}", std::fs::read_to_string(dir.join("log")));
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(Server { socket: dir, _shell: shell })
}
