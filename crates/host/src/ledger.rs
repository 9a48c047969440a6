//! Small facts that survive the agent: one JSON file each, replaced whole.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use unkai_crashpoint::point;
use unkai_model::Error;

/// A directory of JSON files.
#[derive(Clone, Debug)]
pub struct Ledger {
    dir: PathBuf,
}

impl Ledger {
    pub fn open(dir: PathBuf) -> Result<Self, Error> {
        fs::create_dir_all(&dir).map_err(|e| Error::caused(format!("creating `{}`", dir.display()), e))?;
        Ok(Ledger { dir })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{}.json", name.replace('/', "~")))
    }

    /// Writes a fact; when this returns it is on the disk.
    pub fn write(&self, name: &str, value: &impl Serialize) -> Result<(), Error> {
        let path = self.path(name);
        let context = || format!("writing the ledger `{}`", path.display());
        let bytes = serde_json::to_vec(value).map_err(|e| Error::caused(context(), e))?;
        point("agent: before a note is written");
        replace(&path, &bytes).map_err(|e| Error::caused(context(), e))?;
        point("agent: a note is written");
        Ok(())
    }

    pub fn remove(&self, name: &str) -> Result<(), Error> {
        let path = self.path(name);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::caused(format!("removing `{}`", path.display()), e)),
            _ => {
                point("agent: a note is removed");
                Ok(())
            }
        }
    }

    pub fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Error> {
        read(&self.path(name))
    }

    /// Everything in the directory. A file that cannot be read is left where it is and reported.
    pub fn all<T: DeserializeOwned>(&self) -> Result<Vec<T>, Error> {
        let entries = fs::read_dir(&self.dir).map_err(|e| Error::caused(format!("reading `{}`", self.dir.display()), e))?;
        let mut values = Vec::new();
        for entry in entries.flatten() {
            if entry.path().extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            match read(&entry.path()) {
                Ok(value) => values.extend(value),
                Err(error) => tracing::error!(path = %entry.path().display(), %error, "a ledger file is unreadable"),
            }
        }
        Ok(values)
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let context = || format!("reading the ledger `{}`", path.display());
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| Error::caused(context(), e)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::caused(context(), e)),
    }
}

/// The old content stays when the new one cannot be written, and nothing half written takes room.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    // Nothing to do needs no room: an agent starts on a full disk.
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let new = path.with_extension("new");
    let write = || {
        let mut file = fs::File::create(&new)?;
        file.write_all(bytes)?;
        file.sync_data()?;
        fs::rename(&new, path)
    };
    write().inspect_err(|_| drop(fs::remove_file(&new)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_half_written_fact_is_no_fact() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(dir.path().to_path_buf()).unwrap();
        ledger.write("server/a", &1).unwrap();
        fs::write(dir.path().join("server~b.new"), "half").unwrap();
        fs::write(dir.path().join("server~c.json"), "broken").unwrap();
        assert_eq!(ledger.all::<u32>().unwrap(), [1]);
        ledger.remove("server/a").unwrap();
        ledger.remove("server/a").unwrap();
        assert_eq!(ledger.read::<u32>("server/a").unwrap(), None);
        assert!(ledger.read::<u32>("server/c").is_err());
    }
}
