//! Running `rbd`, `rados` and `ceph` against one pool, and what their complaints mean.
//!
//! How the cluster is reached, and the key, are in a configuration in memory without a name: no command line and no file shows them.

use std::io::Write;
use std::path::Path;

use base64::Engine;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::image::{Format, Image, Secret, Storage};
use crate::job::Job;
use crate::tool::{Run, Tools, memory};

const ENOENT: i32 = 2;
const EBUSY: i32 = 16;
const EEXIST: i32 = 17;
const ENOTEMPTY: i32 = 39;
/// A cluster that does not answer is not waited for without end; data that is copied or a server's is.
const PATIENCE_S: u32 = 15;
const PORT: &str = "3300";

pub struct Cluster {
    pub pool: String,
    monitors: Vec<(String, String)>,
    user: String,
    key: String,
    tools: Tools,
}

/// Which program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    Rbd,
    Rados,
    Ceph,
}

impl Program {
    fn path(self) -> &'static Path {
        Path::new(match self {
            Program::Rbd => "/usr/bin/rbd",
            Program::Rados => "/usr/bin/rados",
            Program::Ceph => "/usr/bin/ceph",
        })
    }
}

/// A program's answer where it is no failure.
#[derive(Debug)]
pub enum Answer {
    Done(Vec<u8>),
    /// What it was about is not there.
    Absent,
    /// What it was to make is there.
    Present,
    /// Somebody has it.
    Busy,
    /// Others depend on it.
    Needed,
}

impl Cluster {
    pub fn new(monitors: &[String], pool: &str, user: &str, key: &str, tools: Tools) -> Result<Cluster> {
        let plain = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic() && !"\"'#;,\\".contains(c));
        if let Some(odd) = monitors.iter().map(String::as_str).chain([pool, user, key]).find(|text| !plain(text)) {
            let shown = if odd == key { "the key" } else { odd };
            return Err(Error::Invalid(format!("{shown:?} cannot be part of how a Ceph pool is reached")));
        }
        let monitors = monitors.iter().map(|monitor| address(monitor)).collect();
        Ok(Cluster { monitors, pool: pool.into(), user: user.into(), key: key.into(), tools })
    }

    fn configuration(&self) -> String {
        let monitors: Vec<String> = self.monitors.iter().map(|(host, port)| format!("{}:{port}", bracketed(host))).collect();
        format!(
            "[global]\nmon_host = {}\nclient_mount_timeout = {PATIENCE_S}\nrados_mon_op_timeout = {PATIENCE_S}\n\
             rados_osd_op_timeout = {PATIENCE_S}\n[client.{}]\nkey = {}\n",
            monitors.join(","),
            self.user,
            self.key
        )
    }

    fn program(&self, program: Program) -> Result<Run<'_>> {
        if !program.path().exists() {
            return Err(Error::Pool(format!("`{}` is not installed", program.path().display())));
        }
        let mut run = Run::program(&self.tools, program.path());
        let path = self.in_memory(&mut run, self.configuration().as_bytes())?;
        run.args(["--conf", &path, "--id", &self.user]);
        if program != Program::Ceph {
            run.args(["--pool", &self.pool]);
        }
        Ok(run)
    }

    fn in_memory(&self, run: &mut Run<'_>, bytes: &[u8]) -> Result<String> {
        let failed = || Error::io("make in memory", Path::new("what a program of Ceph reads"));
        let mut file = memory(c"ceph").map_err(failed())?;
        file.write_all(bytes).map_err(failed())?;
        self.tools.give(&file, Path::new("a configuration"))?;
        Ok(format!("/proc/self/fd/{}", run.hand(&file)?))
    }

    fn go(&self, run: Run<'_>, program: Program) -> Result<Answer> {
        let ended = run.end(&Job::default())?;
        if ended.status.success() {
            return Ok(Answer::Done(ended.output));
        }
        let name = program.path().file_name().unwrap_or_default().to_string_lossy();
        judge(&name, ended.status.code(), &ended.words, &self.pool)
    }

    /// What else than success is an answer is the caller's to say.
    pub fn ask<const N: usize>(&self, program: Program, args: [&str; N]) -> Result<Answer> {
        let mut run = self.program(program)?;
        run.args(args);
        self.go(run, program)
    }

    /// Nothing but success will do.
    pub fn go_on<const N: usize>(&self, program: Program, args: [&str; N]) -> Result<Vec<u8>> {
        match self.ask(program, args)? {
            Answer::Done(output) => Ok(output),
            Answer::Busy => Err(Error::Busy(format!("what `{program:?}` works on ({})", args.join(" ")))),
            Answer::Absent => Err(Error::Missing(format!("what `{program:?}` was to work on ({})", args.join(" ")))),
            other => Err(Error::tool(&format!("{program:?}"), format!("{}: {other:?}", args.join(" ")))),
        }
    }

    /// What a program says in JSON; none when what it is about is not there.
    pub fn json<T: DeserializeOwned, const N: usize>(&self, program: Program, args: [&str; N]) -> Result<Option<T>> {
        let mut run = self.program(program)?;
        run.args(args).args(["--format", "json"]);
        match self.go(run, program)? {
            Answer::Done(output) => serde_json::from_slice(&output)
                .map(Some)
                .map_err(|e| Error::tool(&format!("{program:?}"), format!("{}: an answer that is not understood: {e}", args.join(" ")))),
            Answer::Absent => Ok(None),
            other => Err(Error::tool(&format!("{program:?}"), format!("{}: {other:?}", args.join(" ")))),
        }
    }

    /// The content of an object.
    pub fn get(&self, object: &str) -> Result<Option<Vec<u8>>> {
        match self.ask(Program::Rados, ["get", object, "-"])? {
            Answer::Done(content) => Ok(Some(content)),
            Answer::Absent => Ok(None),
            other => Err(Error::tool("rados", format!("get {object}: {other:?}"))),
        }
    }

    /// The whole content of an object, at once.
    pub fn put(&self, object: &str, content: &[u8]) -> Result<()> {
        let mut run = self.program(Program::Rados)?;
        let path = self.in_memory(&mut run, content)?;
        run.args(["put", object, &path]);
        match self.go(run, Program::Rados)? {
            Answer::Done(_) => Ok(()),
            other => Err(Error::tool("rados", format!("put {object}: {other:?}"))),
        }
    }

    /// How QEMU opens an image of the pool. It caches nothing: another host may be the next to write, and a guest has a cache of its own.
    pub fn image(&self, volume: &str, image: &str, snapshot: Option<&str>) -> Image {
        // QEMU encodes what it is given as the key.
        let key = base64::engine::general_purpose::STANDARD.decode(&self.key).unwrap_or_default();
        let secret = Secret::new(volume, "rbd", &key);
        let servers: Vec<Value> = self.monitors.iter().map(|(host, port)| json!({"host": host, "port": port})).collect();
        let mut node = json!({
            "driver": "rbd", "pool": self.pool, "image": image, "user": self.user, "key-secret": secret.id, "server": servers,
            "cache": {"direct": true},
        });
        if let Some(snapshot) = snapshot {
            node["snapshot"] = snapshot.into();
        }
        Image { storage: Storage::Node { node, secrets: vec![secret] }, format: Format::Raw }
    }
}

/// `HOST`, `HOST:PORT`, `[V6]`, `[V6]:PORT`, `V6`.
fn address(monitor: &str) -> (String, String) {
    let (host, port) = match monitor.rsplit_once(':') {
        Some((host, port)) if (host.ends_with(']') || !host.contains(':')) && port.parse::<u16>().is_ok() => (host, port),
        _ => (monitor, PORT),
    };
    (host.trim_matches(['[', ']']).to_owned(), port.to_owned())
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

/// Why a program failed. Programs say it as `(NUMBER) words`; `rbd` ends with the number too.
fn judge(program: &str, code: Option<i32>, words: &str, pool: &str) -> Result<Answer> {
    let number = number(words).or(code.filter(|_| program == "rbd"));
    const UNREACHED: [&str; 4] = ["couldn't connect", "error connecting", "error opening pool", "failed to fetch mon config"];
    let unreached = UNREACHED.iter().any(|sign| words.contains(sign)) || matches!(number, Some(1 | 13 | 110));
    if unreached {
        return Err(Error::Pool(format!("Ceph pool {pool}: {words}")));
    }
    match number {
        Some(ENOENT) => Ok(Answer::Absent),
        Some(EEXIST) => Ok(Answer::Present),
        Some(EBUSY) => Ok(Answer::Busy),
        Some(ENOTEMPTY) => Ok(Answer::Needed),
        // This process has been shut out by a host with a newer generation.
        Some(108) => Err(Error::Busy(format!("the pool, by somebody newer ({words})"))),
        _ => Err(Error::tool(program, if words.is_empty() { format!("ended with {code:?}") } else { words.to_owned() })),
    }
}

/// The last `(NUMBER)` in a text.
fn number(words: &str) -> Option<i32> {
    words.rsplit('(').find_map(|rest| rest.split_once(')')?.0.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monitors_are_read() {
        for (text, host, port) in [
            ("10.0.0.1", "10.0.0.1", "3300"),
            ("mon.a:6789", "mon.a", "6789"),
            ("[fd00::1]:6789", "fd00::1", "6789"),
            ("[fd00::1]", "fd00::1", "3300"),
            ("fd00::1", "fd00::1", "3300"),
        ] {
            assert_eq!(address(text), (host.to_owned(), port.to_owned()));
        }
        let odd = Cluster::new(&["a\nb".into()], "p", "u", "k", Tools::default()).err().unwrap().to_string();
        assert!(odd.contains("cannot be part"), "{odd}");
        let odd = Cluster::new(&["a".into()], "p", "u", "k k", Tools::default()).err().unwrap().to_string();
        assert!(!odd.contains("k k"), "{odd}");
    }

    #[test]
    fn complaints_are_understood() {
        let judged = |code, words| judge("rbd", Some(code), words, "p");
        assert!(matches!(judged(2, "rbd: error opening image v: (2) No such file or directory"), Ok(Answer::Absent)));
        assert!(matches!(judged(1, "error getting p/v: (2) No such file or directory"), Ok(Answer::Absent)));
        assert!(matches!(judged(17, "rbd: create error: (17) File exists; librbd: rbd image v already exists"), Ok(Answer::Present)));
        assert!(matches!(judged(39, "rbd: image has snapshots with linked clones"), Ok(Answer::Needed)));
        assert!(matches!(judged(1, "ERROR: failed locking: (16) Device or resource busy"), Ok(Answer::Busy)));
        for (code, words) in [
            (2, "rbd: error opening pool 'p': (2) No such file or directory"),
            (1, "rbd: couldn't connect to the cluster!"),
            (1, "couldn't connect to cluster: (13) Permission denied"),
            (110, "rbd: listing images failed: (110) Connection timed out"),
        ] {
            assert!(matches!(judged(code, words), Err(Error::Pool(_))), "{words}");
        }
        assert!(matches!(judged(28, "rbd: create error: (28) No space left on device"), Err(Error::Full(_))));
        assert!(matches!(judged(22, "rbd: bad"), Err(Error::Tool { .. })));
    }
}
