//! The named points, and the executable that knows them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// One named point.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Point {
    pub(crate) name: &'static str,
    /// It is passed for each action, and not once in a run.
    pub(crate) each: bool,
    pub(crate) then: Then,
}

/// What becomes of the action whose run ends at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// Its command runs, and its result is the command's.
    Runs,
    /// Nobody can know: 254.
    Unknown,
}

const fn once(name: &'static str) -> Point {
    Point { name, each: false, then: Then::Runs }
}

const fn each(name: &'static str) -> Point {
    Point { name, each: true, then: Then::Runs }
}

const fn unknown(name: &'static str) -> Point {
    Point { name, each: true, then: Then::Unknown }
}

/// Where a run can die that is not a recovery: points, and pairs of them.
pub(crate) const POINTS: [Point; 38] = [
    once("locked"),
    once("ledger-opened"),
    once("recovered"),
    once("fetched"),
    once("received"),
    once("synced"),
    once("acknowledged"),
    each("claimed"),
    each("started"),
    each("launched"),
    each("record-read"),
    each("finished"),
    each("told"),
    once("posted"), // several results may go in one call
    each("reported"),
    each("forgotten"),
    once("supervisor-waiting"),
    each("supervisor-begun"),
    each("supervisor-unmarked"),
    unknown("supervisor-marked"),
    unknown("supervisor-spawned"),
    unknown("supervisor-noted"),
    unknown("supervisor-ended"),
    each("supervisor-offered"),
    each("supervisor-told"),
    // Twice: with its handler, which cannot say what it saw.
    each("launched,supervisor-begun"),
    each("launched,supervisor-unmarked"),
    unknown("launched,supervisor-marked"),
    unknown("launched,supervisor-noted"),
    unknown("launched,supervisor-refused"),
    unknown("launched,supervisor-drafted"),
    unknown("launched,supervisor-synced"),
    each("launched,supervisor-recorded"),
    each("launched,supervisor-kept"),
    unknown("record-read,supervisor-refused"),
    each("record-read,supervisor-recorded"),
    each("finished,supervisor-refused"),
    each("finished,supervisor-recorded"),
];

/// What only a supervisor passes that has lost its handler.
const ALONE: [&str; 5] =
    ["supervisor-refused", "supervisor-drafted", "supervisor-synced", "supervisor-recorded", "supervisor-kept"];

impl Point {
    /// Whether it is the supervisor that dies, and nobody else.
    pub(crate) fn is_supervisors(self) -> bool {
        self.name.starts_with("supervisor")
    }

    /// Where to die, when the nth action is to be hit: each name and which pass of it.
    pub(crate) fn passes(self, nth: usize) -> impl Iterator<Item = (&'static str, usize)> {
        self.name.split(',').map(move |name| (name, if ALONE.contains(&name) { 1 } else { nth }))
    }

    /// The same as a list for the executable.
    pub(crate) fn at(self, nth: usize) -> String {
        self.passes(nth).map(|(name, pass)| format!("{name}:{pass}")).collect::<Vec<_>>().join(",")
    }
}

/// The executable with the feature `crash-points`.
pub(crate) fn executable() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("crash-points");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        // Cargo itself keeps two of these apart.
        let built = Command::new(cargo)
            .args(["build", "--quiet", "--locked", "--package", "opensvc-actions", "--bin", "opensvc-actions"])
            .args(["--features", "crash-points", "--target-dir"])
            .arg(&target)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status();
        assert!(built.unwrap().success(), "the executable with crash points cannot be built");
        target.join("debug/opensvc-actions")
    })
}
