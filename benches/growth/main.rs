//! Cost as the work grows, and the load of two thousand nodes on their collector.
//!
//! ```text
//! cargo bench -p opensvc-actions-benches --bench growth -- [actions] [ledger] [herd]
//!     [--most N] [--rounds N] [--nodes N] [--smoke] [--programs DIR]
//! ```
//!
//! | part | question |
//! | --- | --- |
//! | `actions` | what does one run cost that finds 1 to 10,000 queued actions, in each dialect? |
//! | `ledger` | what does a command cost on a node that remembers 0 to 100,000 actions? |
//! | `herd` | what does a collector see of 2,000 idle nodes: all day, after a power cut, after its own? |
//!
//! Without a name all three. `--most` bounds the first two, `--nodes` the third; `--smoke` is a few seconds of each. The
//! curves are fitted, called linear or flat with their figures, and drawn into `target/growth-*.svg`.
//!
//! The executables are those beside this one, and built first; or those in `--programs`, whatever version they are. All is real: processes, TLS, disk. Only the
//! collector's own queue lies in memory, where there is a `/dev/shm`, so that its syncs are not measured.

#![allow(clippy::cast_precision_loss, reason = "what is measured is far below 2^52")]

mod actions;
mod fit;
mod herd;
mod ledger;
mod measure;
mod plot;
mod programs;
mod site;

use std::path::PathBuf;
use std::process::ExitCode;

/// Whatever stops a bench.
type Failure = Box<dyn std::error::Error>;

/// How much is asked for.
struct Extent {
    actions: bool,
    ledger: bool,
    herd: bool,
    /// The largest number of queued actions and of remembered ones; none: all of the series.
    most: Option<u32>,
    rounds: Option<usize>,
    nodes: usize,
    /// Where the executables are; none: to be built.
    programs: Option<PathBuf>,
}

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1).peekable();
    let done = if words.next_if(|word| word == measure::MEASURED).is_some() {
        measure::helper(words)
    } else {
        extent(words).and_then(|extent| run(&extent))
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("growth: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn extent(words: impl Iterator<Item = String>) -> Result<Extent, Failure> {
    let mut extent =
        Extent { actions: false, ledger: false, herd: false, most: None, rounds: None, nodes: 2000, programs: None };
    let mut words = words.filter(|word| word != "--bench"); // cargo's own
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} wants a value"));
        match word.as_str() {
            "actions" => extent.actions = true,
            "ledger" => extent.ledger = true,
            "herd" => extent.herd = true,
            "--most" => extent.most = Some(value()?.parse()?),
            "--rounds" => extent.rounds = Some(value()?.parse()?),
            "--nodes" => extent.nodes = value()?.parse()?,
            "--programs" => extent.programs = Some(value()?.into()),
            "--smoke" => (extent.most, extent.rounds, extent.nodes) = (Some(100), Some(1), 40),
            _ => {
                return Err(format!(
                    "what is {word:?}? actions, ledger, herd, --most, --rounds, --nodes, --smoke, --programs"
                )
                .into());
            }
        }
    }
    if !(extent.actions || extent.ledger || extent.herd) {
        (extent.actions, extent.ledger, extent.herd) = (true, true, true);
    }
    Ok(extent)
}

fn run(extent: &Extent) -> Result<(), Failure> {
    let programs = match &extent.programs {
        Some(directory) => programs::Programs::given(directory)?,
        None => programs::Programs::build()?,
    };
    if extent.actions {
        actions::run(&programs, extent.most.unwrap_or(u32::MAX), extent.rounds.unwrap_or(5))?;
    }
    if extent.ledger {
        ledger::run(&programs, extent.most.unwrap_or(u32::MAX), extent.rounds.unwrap_or(11))?;
    }
    if extent.herd {
        herd::run(&programs, extent.nodes)?;
    }
    Ok(())
}
