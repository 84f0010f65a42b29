//! Points at which a test can make this program die: the named steps between two effects. Without the feature
//! `crash-points` nothing of them is in the program.
//!
//! `OPENSVC_ACTIONS_CRASH` is a list of `NAME[:N]`, separated by commas: a process that passes the point NAME as the Nth
//! (without N: the first) kills itself there. `stop@NAME[:N]` stops it there, until somebody sends it SIGCONT.
//! `OPENSVC_ACTIONS_CRASH_COUNTS` names a directory with a file for each point that grows by a byte with each pass, by
//! whichever process: without it nobody dies.

#[cfg(not(feature = "crash-points"))]
mod points {
    use std::ffi::OsString;

    /// Does nothing.
    #[inline]
    pub(crate) fn point(_: &str) {}

    /// Nothing.
    #[inline]
    pub(crate) fn environment() -> [(&'static str, OsString); 0] {
        []
    }
}

#[cfg(feature = "crash-points")]
mod points {
    use std::env;
    use std::ffi::OsString;
    use std::fs::OpenOptions;
    use std::io::{self, Write as _};
    use std::path::Path;

    use rustix::process::{Signal, getpid, kill_process};

    const CRASH: &str = "OPENSVC_ACTIONS_CRASH";
    const COUNTS: &str = "OPENSVC_ACTIONS_CRASH_COUNTS";

    /// Passes the point `name`, or does not.
    pub(crate) fn point(name: &str) {
        let Some(pass) = env::var_os(COUNTS).and_then(|counts| count(Path::new(&counts), name).ok()) else { return };
        let list = env::var(CRASH).unwrap_or_default();
        for entry in list.split(',') {
            let (wanted, nth) = entry.split_once(':').unwrap_or((entry, "1"));
            let (signal, wanted) = match wanted.strip_prefix("stop@") {
                Some(wanted) => (Signal::STOP, wanted),
                None => (Signal::KILL, wanted),
            };
            if wanted == name && nth.parse() == Ok(pass) {
                let _ = kill_process(getpid(), signal);
            }
        }
    }

    /// Notes a pass and tells which one it is.
    fn count(counts: &Path, name: &str) -> io::Result<u64> {
        let mut file = OpenOptions::new().append(true).create(true).open(counts.join(name))?;
        file.write_all(b".")?;
        Ok(file.metadata()?.len())
    }

    /// What the supervisor, whose environment is empty, has to know of this.
    pub(crate) fn environment() -> impl Iterator<Item = (&'static str, OsString)> {
        [CRASH, COUNTS].into_iter().filter_map(|name| Some((name, env::var_os(name)?)))
    }
}

pub(crate) use points::{environment, point};
