//! A cloud of its own: a process, a state directory, a namespace for its data plane, and a client.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// Far more than anything here takes; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Cloud {
    dir: tempfile::TempDir,
    netns: String,
    port: u16,
    options: Vec<String>,
    http: reqwest::Client,
    token: String,
}

/// Status and body of an answer; an error when the connection broke.
pub type Answer = Result<(u16, Value), reqwest::Error>;

impl Cloud {
    /// Starts a new cloud and logs in as its administrator.
    pub async fn new() -> Self {
        Self::with(&[]).await
    }

    /// One with more options for `unkai up`.
    pub async fn with(options: &[&str]) -> Self {
        Self::prepared(options, |_| ()).await
    }

    /// One whose state directory is prepared before it starts.
    pub async fn prepared(options: &[&str], prepare: impl FnOnce(&Path)) -> Self {
        // Users of QEMU must be able to pass through the directories above.
        let dir = tempfile::Builder::new().prefix("unkai-real-").tempdir_in("/var/tmp").expect("a directory in /var/tmp");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port of the loopback");
        let port = listener.local_addr().expect("a bound address").port();
        drop(listener);
        let netns = format!("unkai-real-{port}");
        let mut cloud = Cloud {
            dir,
            netns,
            port,
            options: options.iter().map(|&option| option.to_owned()).collect(),
            http: reqwest::Client::new(),
            token: String::new(),
        };
        std::fs::create_dir_all(cloud.state()).expect("the state directory");
        prepare(&cloud.state());
        cloud.up();
        let ca = std::fs::read(cloud.state().join("ca.pem")).expect("the CA's certificate");
        let ca = reqwest::Certificate::from_pem(&ca).expect("a certificate");
        let client = reqwest::Client::builder().tls_certs_only([ca]).timeout(Duration::from_secs(10)).no_proxy();
        cloud.http = client.build().expect("an HTTP client");
        cloud.token = cloud.login().await;
        cloud
    }

    pub fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn crash_file(&self) -> PathBuf {
        self.dir.path().join("crash")
    }

    fn unkai(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_unkai"));
        command.env("UNKAI_CRASH_FILE", self.crash_file());
        command
    }

    /// Starts the process, which adopts what an earlier one left. Returns when it serves.
    pub fn up(&self) {
        let listen = format!("127.0.0.1:{}", self.port);
        let state = self.state();
        std::fs::create_dir_all(&state).expect("the state directory");
        let output = self
            .unkai()
            .args(["up", "--detach", "--listen", &listen, "--netns", &self.netns, "--state"])
            .arg(&state)
            .args(&self.options)
            .output();
        let output = output.expect("the binary starts");
        assert!(output.status.success(), "up: {}\n{}", String::from_utf8_lossy(&output.stderr), self.log());
    }

    pub fn whole_log(&self) -> String {
        std::fs::read_to_string(self.state().join("unkai.log")).unwrap_or_default()
    }

    pub fn log(&self) -> String {
        let log = self.whole_log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// Runs a local command and gives its output.
    pub fn command(&self, args: &[&str]) -> String {
        let output = self.unkai().args(args).arg("--state").arg(self.state()).output().expect("the binary starts");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{args:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
        said
    }

    /// The process dies at the `number`th crash point from now.
    pub fn arm(&self, number: u64) {
        let file = self.crash_file();
        let new = file.with_extension("new");
        std::fs::write(&new, number.to_string()).and_then(|()| std::fs::rename(new, file)).expect("the crash file");
    }

    /// Takes the wish to die back; the name of the point where it happened.
    pub fn disarm(&self) -> Option<String> {
        let text = std::fs::read_to_string(self.crash_file()).ok();
        let _ = std::fs::remove_file(self.crash_file());
        text.map(|text| text.trim().to_owned()).filter(|text| text.parse::<u64>().is_err())
    }

    fn pid(&self) -> Option<Pid> {
        let text = std::fs::read_to_string(self.state().join("unkai.pid")).ok()?;
        text.split_whitespace().next()?.parse().ok().map(Pid::from_raw)
    }

    pub fn is_alive(&self) -> bool {
        self.pid().is_some_and(|pid| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with('Z'))
        })
    }

    pub async fn wait_for_death(&self) {
        self.until("the process is dead", || async { !self.is_alive() }).await;
    }

    async fn login(&self) -> String {
        let openrc = std::fs::read_to_string(self.state().join("openrc")).expect("openrc");
        let password = openrc.lines().find_map(|line| line.strip_prefix("export OS_PASSWORD=")).expect("a password");
        let user = json!({"name": "admin", "domain": {"id": "default"}, "password": password});
        let scope = json!({"project": {"name": "admin", "domain": {"id": "default"}}});
        let body = json!({"auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}});
        let request = self.http.post(self.url("/identity/v3/auth/tokens")).json(&body);
        let response = request.send().await.expect("an answer to the login");
        response.headers()["x-subject-token"].to_str().expect("a token").to_owned()
    }

    fn url(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}{path}", self.port)
    }

    pub async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        self.call_at("2.79", method, path, body).await
    }

    /// A call at this version of the compute API.
    pub async fn call_at(&self, version: &str, method: &str, path: &str, body: Option<Value>) -> Answer {
        let method = method.parse().expect("a method");
        let mut request = self.http.request(method, self.url(path)).header("x-auth-token", &self.token);
        request = request.header("openstack-api-version", format!("compute {version}"));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await?;
        let status = response.status().as_u16();
        Ok((status, response.json().await.unwrap_or(Value::Null)))
    }

    pub async fn get(&self, path: &str) -> Value {
        self.must("GET", path, None).await
    }

    /// A call that has to succeed.
    pub async fn must(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let answer = self.call(method, path, body).await;
        let (status, body) = answer.unwrap_or_else(|error| panic!("{method} {path}: {error}\n{}", self.log()));
        assert!(status < 300, "{method} {path}: {status} {body}");
        body
    }

    /// An image of an empty disk.
    pub async fn upload_blank(&self) -> String {
        let disk = self.state().join("blank.qcow2");
        let made = Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(&disk).arg("1M").status().expect("qemu-img starts");
        assert!(made.success());
        self.upload_image(&disk).await
    }

    pub async fn upload_image(&self, file: &Path) -> String {
        let image = json!({"name": "blank", "disk_format": "qcow2", "container_format": "bare"});
        let image = self.must("POST", "/image/v2/images", Some(image)).await;
        let id = image["id"].as_str().expect("an id").to_owned();
        let bytes = std::fs::read(file).expect("the image's bytes");
        let request = self.http.put(self.url(&format!("/image/v2/images/{id}/file"))).header("x-auth-token", &self.token);
        let response = request.header("content-type", "application/octet-stream").body(bytes).send().await.expect("an answer");
        assert_eq!(response.status().as_u16(), 204, "the upload");
        id
    }

    /// Waits for a condition.
    pub async fn until<F: Future<Output = bool>>(&self, what: &str, condition: impl Fn() -> F) {
        let deadline = Instant::now() + PATIENCE;
        while !condition().await {
            assert!(Instant::now() < deadline, "not reached: {what}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(15)).await;
        }
    }

    /// Processes that work below this cloud's directory, other than its own.
    pub fn processes(&self) -> Vec<String> {
        let own = self.pid();
        let state = self.state();
        let of = |pid: i32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            (Some(Pid::from_raw(pid)) != own && line.contains(&*state.to_string_lossy())).then_some(line)
        };
        let pids = std::fs::read_dir("/proc").expect("/proc").flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter_map(of).collect()
    }

    /// Namespaces of networks and routers on this host.
    pub fn namespaces(&self) -> Vec<String> {
        let facts = std::fs::read_to_string(self.state().join("agent/dataplane.json")).expect("the data plane's facts");
        let facts: Value = serde_json::from_str(&facts).expect("JSON");
        let prefix = format!("{}-", facts["prefix"].as_str().expect("a prefix"));
        let names = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
        names.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| name.starts_with(&prefix)).collect()
    }

    /// Items that the agent is to have, other than the pools of its host.
    pub fn items(&self) -> Vec<String> {
        self.agent_dir("items").into_iter().filter(|name| !name.starts_with("pool~")).collect()
    }

    /// Names of what is in a directory of the agent.
    pub fn agent_dir(&self, name: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.state().join("agent").join(name)).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("last words of the cloud:\n{}", self.log());
        }
        let _ = self.unkai().args(["down", "--servers", "--state"]).arg(self.state()).output();
        if let Some(pid) = self.pid().filter(|_| self.is_alive()) {
            let _ = kill(pid, Signal::SIGKILL);
        }
        let _ = Command::new("ip").args(["netns", "del", &self.netns]).output();
    }
}
