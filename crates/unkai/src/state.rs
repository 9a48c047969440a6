//! The state directory: what is where.
//!
//! ```text
//! DIR/cloud.sqlite     the store               DIR/clouds.yaml, openrc   for clients
//! DIR/ca.pem, ca.key   the cloud's CA          DIR/images/               bytes of images
//! DIR/unkai.pid        the running process     DIR/agent/                the host agent's ledger, disks, sockets
//! DIR/control.sock     for `status` and `why`  DIR/unkai.log             log of a detached process
//! DIR/volumes/         pool `local`
//! ```

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

#[derive(Clone)]
pub struct StateDir(PathBuf);

impl StateDir {
    /// Opens or creates it; only its owner may list it, clients read single files by name.
    pub fn create(path: &Path) -> Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(path)
            .with_context(|| format!("creating the state directory `{}`", path.display()))?;
        Ok(StateDir(path.canonicalize().with_context(|| format!("resolving `{}`", path.display()))?))
    }

    /// Servers run as users of their own, which must be able to pass through to their files.
    pub fn require_searchable(&self) -> Result<()> {
        use std::os::unix::fs::PermissionsExt;
        for ancestor in self.0.ancestors() {
            let metadata = std::fs::metadata(ancestor).with_context(|| format!("looking at `{}`", ancestor.display()))?;
            if metadata.permissions().mode() & 0o001 == 0 {
                let (dir, state) = (ancestor.display(), self.0.display());
                bail!("servers cannot reach `{state}`: `{dir}` is closed to others; choose another --state, or `chmod o+x {dir}`");
            }
        }
        Ok(())
    }

    pub fn at(path: &Path) -> Self {
        StateDir(path.to_path_buf())
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
    pub fn store(&self) -> PathBuf {
        self.0.join("cloud.sqlite")
    }
    pub fn pid(&self) -> PathBuf {
        self.0.join("unkai.pid")
    }
    pub fn log(&self) -> PathBuf {
        self.0.join("unkai.log")
    }
    pub fn socket(&self) -> PathBuf {
        self.0.join("control.sock")
    }
    pub fn agent(&self) -> PathBuf {
        self.0.join("agent")
    }
    pub fn volumes(&self) -> PathBuf {
        self.0.join("volumes")
    }
    pub fn ca(&self) -> PathBuf {
        self.0.join("ca.pem")
    }
    pub fn clouds_yaml(&self) -> PathBuf {
        self.0.join("clouds.yaml")
    }
    pub fn openrc(&self) -> PathBuf {
        self.0.join("openrc")
    }
}
