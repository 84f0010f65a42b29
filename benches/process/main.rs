//! What a whole run costs, as a ratio to the floor.
//!
//! ```text
//! cargo bench -p opensvc-actions-benches --bench process -- --rounds 300 --rtt 0,1,20 --json FILE
//! ```
//!
//! The contenders take turns in random order within each round, so that whatever disturbs the machine disturbs all of
//! them, and each round gives one ratio; shown are their median and its 95 % confidence interval. The collector answers with
//! bytes that were made beforehand, unless the small one is asked for, which does not count. Each run begins with a notification and is timed by a process of its own
//! (`stopwatch.rs`), which plays systemd.
//!
//! | measure | from … to |
//! | --- | --- |
//! | first fetch arrived | before the connect of the notification … the collector has the whole request |
//! | first command started | before the connect of the notification … in the first command's `main` |
//! | last result accepted | … the answer to the last report was sent |
//! | exited | … the process was gone. On a listening socket the product stays until nobody has knocked for 250 ms |
//! | processor time to first byte | of the process, until the collector has its first byte; for an empty queue only |
//! | processor time | user and system, of it and all its descendants |
//! | peak memory | of the largest of these processes |
//! | stored | bytes bound for the disk, in whole pages |
//! | written | bytes given to `write` and its like, whatever to: files, pipes, but of connections only what is not sent by `send` |
//! | sent, received | bytes to and from the collector, TLS included |

mod collector;
mod contender;
mod delay;
mod figures;
mod machine;
mod measure;
mod options;
mod server;
mod statistics;
mod trace;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant, UNIX_EPOCH};

use clap::Parser as _;
use rustix::time::{ClockId, clock_gettime};

use collector::Collector;
use contender::{Contender, Dialect};
use figures::Figures;
use measure::Bench;
use options::{Launcher, Options};
use statistics::Random;

const FLOOR: &str = env!("CARGO_BIN_EXE_bench-floor");

/// How the handler is called in tables.
const HANDLER: &str = "handler";

/// One table: what the contenders have to do, and over which way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    pub(crate) dialect: Dialect,
    pub(crate) actions: usize,
    /// In milliseconds.
    pub(crate) rtt: f64,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("process: {err}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let begun = Instant::now();
    let contenders = contenders(options)?;
    if options.launcher == Launcher::Systemd && !options.inside {
        return inside(options, &contenders);
    }
    let seed = options.seed.unwrap_or_else(seed);
    let collector = Collector::start(options.collector, || build("opensvc-actions-collector"))?;
    let mut bench = Bench::new(options, &collector, &contenders, Random::new(seed))?;
    println!(
        "seed {seed}; {} launcher; started with: {}; {} collector",
        options.launcher.name(),
        options.start.name(),
        options.collector.name()
    );
    for contender in &contenders {
        let size = contender.program.metadata()?.len();
        println!("  {:<10} {}, {size} bytes", contender.name, contender.program.display());
    }
    let mut tables = Vec::new();
    for &rtt in &options.rtt {
        let round_trip = Duration::try_from_secs_f64(rtt / 1000.0)?;
        let address =
            if round_trip.is_zero() { collector.address() } else { delay::start(collector.address(), round_trip)? };
        for &dialect in &options.dialect {
            for &actions in &options.actions {
                let scenario = Scenario { dialect, actions, rtt };
                let rounds = bench.rounds(scenario, address)?;
                let counts = if options.no_counts { Vec::new() } else { bench.counts(scenario, address)? };
                let figures = Figures::new(scenario, &contenders, rounds, counts);
                println!("\n{}", figures.table(&mut bench.random));
                tables.push(figures.json(&mut bench.random));
            }
        }
    }
    if let Some(file) = &options.json {
        let document = serde_json::json!({
            "seed": seed, "collector": options.collector.name(), "start": options.start.name(), "launcher": options.launcher.name(), "scenarios": tables,
        });
        std::fs::write(as_typed(file), serde_json::to_vec_pretty(&document)?)?;
    }
    println!("\nafter {:.0} s", begun.elapsed().as_secs_f64());
    Ok(())
}

/// Runs all of this in a machine that has a systemd, where the target directory is seen at its place.
fn inside(options: &Options, contenders: &[Contender]) -> Result<(), Box<dyn Error>> {
    let seen = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().ok_or("where is the target directory?")?;
    if let Some(stranger) = contenders.iter().find(|contender| !contender.program.starts_with(seen)) {
        return Err(format!("{} is not below {}", stranger.program.display(), seen.display()).into());
    }
    let mut arguments = options.arguments();
    arguments.extend(["--inside", "--no-counts"].map(str::to_owned));
    for contender in contenders.iter().filter(|contender| !contender.is_floor) {
        let option = if contender.name == HANDLER { "--handler" } else { "--other" };
        arguments.extend([option.to_owned(), contender.program.display().to_string()]);
    }
    // Its file, like any other, has to be where both see it.
    let result = tempfile::Builder::new().prefix("json-").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let json = result.path().join("json");
    arguments.extend(["--json".to_owned(), json.display().to_string()]);
    if !machine::run_inside(&arguments)? {
        return Err("the bench in the machine failed".into());
    }
    if let Some(file) = &options.json {
        std::fs::copy(json, as_typed(file))?;
    }
    Ok(())
}

/// The handler, others, and at the end what all are compared with.
fn contenders(options: &Options) -> Result<Vec<Contender>, Box<dyn Error>> {
    let absolute = |path: &Path| {
        let path = as_typed(path);
        path.canonicalize().map_err(|err| format!("{}: {err}", path.display()))
    };
    let handler = match &options.handler {
        Some(path) => absolute(path)?,
        None => build("opensvc-actions")?,
    };
    let mut found = vec![Contender { name: HANDLER.to_owned(), program: handler, is_floor: false }];
    for (number, path) in options.other.iter().enumerate() {
        found.push(Contender { name: format!("other {}", number + 1), program: absolute(path)?, is_floor: false });
    }
    found.push(Contender { name: "floor".to_owned(), program: FLOOR.into(), is_floor: true });
    Ok(found)
}

/// A path as whoever typed it meant it: cargo runs benches in the directory of their package.
fn as_typed(path: &Path) -> PathBuf {
    std::env::var_os("PWD").map_or_else(|| path.to_owned(), |typed_in| PathBuf::from(typed_in).join(path))
}

/// An executable as it is released, by itself: together with this package it could have other features.
fn build(name: &str) -> Result<PathBuf, Box<dyn Error>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target = Path::new(FLOOR).ancestors().nth(2).ok_or("where is the floor?")?;
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "--release", "--package", name, "--bin", name]);
    build.arg("--target-dir").arg(target).current_dir(env!("CARGO_MANIFEST_DIR"));
    if !build.status()?.success() {
        return Err(format!("{name} cannot be built").into());
    }
    Ok(target.join("release").join(name))
}

#[expect(clippy::disallowed_methods, reason = "something that is different each time")]
fn seed() -> u64 {
    std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().subsec_nanos().into()
}

/// Nanoseconds of the clock that is the same for every process.
pub(crate) fn now() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}
