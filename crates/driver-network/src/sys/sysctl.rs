//! Network settings of the namespace the calling thread is in.

use std::{fs, io};

/// Writes `value` to `net.<path>` (path with slashes). A setting this kernel does not have is not an error when
/// `optional`: then the feature behind it is not there either.
pub fn set(path: &str, value: &str, optional: bool) -> io::Result<()> {
    match fs::write(format!("/proc/sys/net/{path}"), value) {
        Err(e) if e.kind() == io::ErrorKind::NotFound && optional => Ok(()),
        Err(e) => Err(io::Error::new(e.kind(), format!("set net/{path} to {value}: {e}"))),
        Ok(()) => Ok(()),
    }
}
