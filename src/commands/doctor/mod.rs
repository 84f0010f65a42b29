//! `doctor`: is all well on this node, and what is to be done where it is not?
//!
//! It looks, and changes nothing: no row is fetched or acknowledged, no lock is taken that a handler wants, and nothing is
//! written in the state directory, but for an index that SQLite makes where a log lies without one.

mod collectors;
mod finding;
mod programs;
mod state;
mod unit_file;
mod units;

use self::finding::Finding;
use crate::action::time::Timestamp;
use crate::cli::Global;
use crate::commands::{load, now, paths, print, require_root};
use crate::config::{Paths, Settings};
use crate::error::{Error, Exit};

/// Checks everything and prints one line for each. A configuration that cannot be used is one of them, and what does not
/// depend on it is checked all the same.
///
/// # Errors
/// When this is not root, or nothing can be printed.
pub async fn run(global: &Global) -> Result<Exit, Error> {
    require_root()?;
    let node = Node { paths: paths(global), settings: load(global).map(|(_, settings)| settings), now: now() };
    let mut findings = node.configuration();
    let (of_state, view) = state::check(&node);
    findings.extend(collectors::check(&node, view.as_ref()).await);
    findings.extend(units::check(&node).await);
    findings.extend(programs::check(&node));
    findings.extend(of_state);
    print(|out| if global.json { finding::document(out, &findings) } else { finding::list(out, &findings) })?;
    Ok(findings.iter().fold(Exit::Ok, |exit, finding| exit.and(finding.exit())))
}

/// The node, as far as it is known before anything is checked.
struct Node {
    paths: Paths,
    /// Or why they cannot be used.
    settings: Result<Settings, Error>,
    now: Timestamp,
}

impl Node {
    fn settings(&self) -> Option<&Settings> {
        self.settings.as_ref().ok()
    }

    /// The settings, and what is to be known about them although it is allowed.
    fn configuration(&self) -> Vec<Finding> {
        const CHECK: &str = "configuration";
        match &self.settings {
            Err(err) => {
                let fix = "correct it; 'opensvc-actions show-config' tells whether all of it can be used";
                vec![Finding::fail(CHECK, err.exit(), err.report(), fix)]
            }
            Ok(settings) => {
                let queues: Vec<_> = settings.queues.iter().map(|queue| queue.queue.as_str()).collect();
                let ok = Finding::ok(CHECK, format!("it can be used; queues: {}", queues.join(", ")));
                let fix = "change it there, or live with it; 'opensvc-actions show-config' shows what is in force";
                let warnings = settings.warnings.iter().map(|warning| Finding::warn(CHECK, warning, fix));
                std::iter::once(ok).chain(warnings).collect()
            }
        }
    }
}

/// Why a check that needs settings was not made.
const NO_SETTINGS: &str = "not checked: the configuration cannot be used";
