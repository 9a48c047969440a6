//! Places where a test may end the process, as `kill -9` would.
//!
//! A write that others rely on has a point before it and a point after it: [`point`]. A test sets the environment variable
//! [`VARIABLE`] to the path of a file and, when it is ready, writes a number into that file: the process dies at the point that many
//! points later and leaves its name in the file. In release builds, and without the variable, a point does nothing.

/// Path of the file that a test arms the process with.
pub const VARIABLE: &str = "UNKAI_CRASH_FILE";

/// Ends the process here if a test wants that.
#[inline]
pub fn point(name: &str) {
    #[cfg(debug_assertions)]
    armed::pass(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}

#[cfg(debug_assertions)]
mod armed {
    use std::fs::OpenOptions;
    use std::os::unix::fs::FileExt;
    use std::path::{Path, PathBuf};
    use std::sync::{Mutex, OnceLock};

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    pub fn pass(name: &str) {
        static FILE: OnceLock<Option<PathBuf>> = OnceLock::new();
        /// One thread at a time counts.
        static COUNTING: Mutex<()> = Mutex::new(());
        let Some(file) = FILE.get_or_init(|| std::env::var_os(super::VARIABLE).map(PathBuf::from)) else { return };
        let counting = COUNTING.lock();
        if is_last(file, name) {
            let _ = kill(Pid::this(), Signal::SIGKILL);
            // Nothing more of this process may happen, on any thread that passes a point.
            loop {
                std::thread::park();
            }
        }
        drop(counting);
    }

    /// Counts down in the file; at the end the file holds the point's name instead. It is written over in one piece and not made anew, so
    /// that a test that reads it meanwhile sees one or the other, and one that has removed it is rid of it.
    pub fn is_last(file: &Path, name: &str) -> bool {
        let Some(text) = std::fs::read_to_string(file).ok() else { return false };
        let Some(left) = text.trim().parse::<u64>().ok() else { return false };
        let last = left <= 1;
        let now = if last { name.to_owned() } else { (left - 1).to_string() };
        let whole = format!("{now:<width$}", width = text.len());
        let written = OpenOptions::new().write(true).open(file).and_then(|file| file.write_all_at(whole.as_bytes(), 0));
        last && written.is_ok()
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    #[test]
    fn the_file_is_counted_down_and_then_names_the_point() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("crash");
        assert!(!super::armed::is_last(&file, "a"), "without a file nothing is armed");
        assert!(!file.exists(), "nor armed by that");
        std::fs::write(&file, "10").unwrap();
        for left in (1..10).rev() {
            assert!(!super::armed::is_last(&file, "b"));
            assert_eq!(std::fs::read_to_string(&file).unwrap().trim(), left.to_string());
        }
        assert!(super::armed::is_last(&file, "c"));
        assert_eq!(std::fs::read_to_string(&file).unwrap().trim(), "c");
        assert!(!super::armed::is_last(&file, "d"), "a name is no number");
    }
}
