//! Rounds, and what each of them saw.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io::Read as _;
use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde::Deserialize;
use tempfile::TempDir;

use crate::Scenario;
use crate::collector::Collector;
use crate::contender::{Contender, Node};
use crate::options::Options;
use crate::statistics::Random;
use crate::trace::{self, Counts};

const STOPWATCH: &str = env!("CARGO_BIN_EXE_bench-stopwatch");
const COMMAND: &str = env!("CARGO_BIN_EXE_bench-command");

/// How long a command may take to say something.
const PATIENCE: Duration = Duration::from_secs(10);

/// What one run took: numbers by the keys of [`crate::figures`]; what was not seen is not there.
pub(crate) type Sample = BTreeMap<&'static str, f64>;

/// What is counted apart from the timed rounds.
#[derive(Debug)]
pub(crate) struct Counted {
    pub(crate) calls: Counts,
    /// Of the process around a command: private and resident, in KiB.
    pub(crate) parent: Option<(f64, f64)>,
}

/// What the stopwatch says; nanoseconds, microseconds, KiB, bytes.
#[derive(Deserialize)]
struct Took {
    start: i64,
    exit: i64,
    gone: i64,
    user: i64,
    system: i64,
    peak: i64,
    faults: i64,
    switches: i64,
    written: i64,
    stored: i64,
}

/// Everything that is needed for a run.
pub(crate) struct Bench<'a> {
    options: &'a Options,
    collector: &'a Collector,
    contenders: &'a [Contender],
    pub(crate) random: Random,
    work: TempDir,
    /// Short paths, for a socket's has to be.
    short: TempDir,
    stamps: UnixDatagram,
    next_id: u64,
    nodes: usize,
}

impl<'a> Bench<'a> {
    pub(crate) fn new(
        options: &'a Options,
        collector: &'a Collector,
        contenders: &'a [Contender],
        random: Random,
    ) -> Result<Self, Box<dyn Error>> {
        // On the disk of the build, not in a directory that may be in memory: syncs are to cost what they cost.
        let work = tempfile::Builder::new().prefix("process-").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        fs::set_permissions(work.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let short = tempfile::Builder::new().prefix("oa-").tempdir()?;
        let stamps = UnixDatagram::bind(short.path().join("s"))?;
        stamps.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { options, collector, contenders, random, work, short, stamps, next_id: 1, nodes: 0 })
    }

    /// All rounds of a scenario; in each a sample for each contender, in their order.
    pub(crate) fn rounds(&mut self, scenario: Scenario, to: SocketAddr) -> Result<Vec<Vec<Sample>>, Box<dyn Error>> {
        let nodes = self.nodes(scenario, to)?;
        let (warm_up, rounds) = self.options.rounds(scenario.actions);
        let mut all = Vec::new();
        for round in 0..warm_up + rounds {
            let mut order: Vec<usize> = (0..nodes.len()).collect();
            self.random.shuffle(&mut order);
            let mut samples = vec![Sample::new(); nodes.len()];
            for number in order {
                samples[number] = self.run(scenario, &nodes[number], &self.contenders[number])?;
            }
            if round >= warm_up {
                all.push(samples);
            }
        }
        Ok(all)
    }

    /// What is counted, for each contender.
    pub(crate) fn counts(&mut self, scenario: Scenario, to: SocketAddr) -> Result<Vec<Counted>, Box<dyn Error>> {
        let nodes = self.nodes(scenario, to)?;
        let mut counted = Vec::new();
        for (node, contender) in nodes.iter().zip(self.contenders) {
            self.run(scenario, node, contender)?; // as for the others, the first one does not count
            let file = self.work.path().join("calls");
            self.queue(scenario, "noop")?;
            let took = self.start(node, contender, trace::strace(&file))?;
            self.finish(scenario, contender, took)?;
            let parent = if scenario.actions == 1 { Some(self.parent(scenario, node, contender)?) } else { None };
            counted.push(Counted { calls: trace::read(&file)?, parent });
        }
        Ok(counted)
    }

    fn nodes(&mut self, scenario: Scenario, to: SocketAddr) -> Result<Vec<Node>, Box<dyn Error>> {
        let mut nodes = Vec::new();
        for _ in self.contenders {
            self.nodes += 1;
            let root = self.work.path().join(self.nodes.to_string());
            let execution = (Path::new(COMMAND), self.options.launcher.name());
            nodes.push(Node::new(root, scenario.dialect, (to, self.collector.ca()), execution)?);
        }
        Ok(nodes)
    }

    /// Queues rows that nobody has seen: the first with this command, all others with one that does nothing.
    fn queue(&mut self, scenario: Scenario, first: &str) -> Result<(), Box<dyn Error>> {
        let ids = self.next_id..self.next_id + scenario.actions as u64;
        self.next_id = ids.end;
        let command = |number: usize| if number == 0 { first } else { "noop" };
        let rows: Vec<_> = ids.enumerate().map(|(number, id)| (id, command(number).to_owned())).collect();
        self.collector.expect(scenario.dialect, &rows)
    }

    fn start(&self, node: &Node, contender: &Contender, in_front: Vec<String>) -> Result<Child, Box<dyn Error>> {
        let mut stopwatch = Command::new(STOPWATCH);
        node.equip(&mut stopwatch);
        stopwatch.arg(self.options.start.name()).args(in_front);
        stopwatch.args(node.arguments(contender, Path::new(COMMAND)));
        Ok(stopwatch.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?)
    }

    /// Waits for the end of a run and sees whether it has done what it had to.
    fn finish(&self, scenario: Scenario, contender: &Contender, run: Child) -> Result<Sample, Box<dyn Error>> {
        let output = run.wait_with_output()?;
        let failed = |why: &str| format!("{}, {scenario:?}: {why}", contender.name);
        if !output.status.success() {
            return Err(failed("it failed").into());
        }
        let took: Took = serde_json::from_slice(&output.stdout)?;
        let seen = self.collector.seen().map_err(|err| failed(&err.to_string()))?;
        if let Some(problem) = seen.as_ref().and_then(|seen| seen.problem.as_ref()) {
            return Err(failed(&format!("the collector did not understand {problem}")).into());
        }
        if let Some(results) = seen.as_ref().map(|seen| seen.results).filter(|results| *results != scenario.actions) {
            return Err(failed(&format!("{results} of {} results were reported", scenario.actions)).into());
        }
        let milliseconds = |until: i64| number(until - took.start) / 1e6;
        let mut sample = Sample::from([
            ("start", number(took.start)),
            ("exited", milliseconds(took.exit)),
            ("gone", milliseconds(took.gone)),
            ("cpu", number(took.user + took.system) / 1e3),
            ("peak", number(took.peak)),
            ("faults", number(took.faults)),
            ("switches", number(took.switches)),
            ("stored", number(took.stored)),
            ("written", number(took.written)),
        ]);
        let Some(seen) = seen else { return Ok(sample) };
        sample.extend([
            ("connections", count(seen.connections)),
            ("fetches", count(seen.fetches)),
            ("acknowledgements", count(seen.acknowledgements)),
            ("reports", count(seen.reports)),
            ("sent", count(seen.received)),
            ("received", count(seen.sent)),
        ]);
        let times = [("fetch", seen.first_fetch), ("reported", seen.last_report)];
        sample.extend(times.into_iter().filter_map(|(key, time)| Some((key, milliseconds(time?)))));
        sample.extend(seen.cpu_before.map(|milliseconds| ("cpu_before", milliseconds)));
        Ok(sample)
    }

    /// One run, timed.
    fn run(&mut self, scenario: Scenario, node: &Node, contender: &Contender) -> Result<Sample, Box<dyn Error>> {
        self.queue(scenario, &format!("stamp {}", self.path("s").display()))?;
        let run = self.start(node, contender, Vec::new())?;
        if scenario.actions == 0 {
            self.collector.watch(run.id()); // only here: looking takes time
        }
        let mut sample = self.finish(scenario, contender, run)?;
        let start = sample.remove("start").unwrap_or_default();
        if scenario.actions > 0 {
            sample.insert("command", (self.told()? - start) / 1e6);
        }
        Ok(sample)
    }

    /// How much memory the process around a command takes: while one of them waits.
    fn parent(&mut self, scenario: Scenario, node: &Node, contender: &Contender) -> Result<(f64, f64), Box<dyn Error>> {
        let fifo = self.path("f");
        if !fifo.exists() {
            mknodat(CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?;
        }
        self.queue(scenario, &format!("block {} {}", self.path("s").display(), fifo.display()))?;
        let run = self.start(node, contender, Vec::new())?;
        let pid = self.told()?;
        let mut text = String::new();
        File::open(format!("/proc/{pid}/smaps_rollup"))?.read_to_string(&mut text)?;
        let field = |name: &str| -> f64 {
            let lines =
                text.lines().filter_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse::<f64>().ok());
            lines.sum()
        };
        drop(OpenOptions::new().write(true).open(&fifo)?);
        self.finish(scenario, contender, run)?;
        Ok((field("Private_Clean:") + field("Private_Dirty:"), field("Rss:")))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.short.path().join(name)
    }

    /// The number that a command sends.
    fn told(&self) -> Result<f64, Box<dyn Error>> {
        let mut buffer = [0; 64];
        let length = self.stamps.recv(&mut buffer)?;
        Ok(std::str::from_utf8(&buffer[..length])?.parse()?)
    }
}

#[expect(clippy::cast_precision_loss, reason = "nothing that is measured here is that large")]
fn number(value: i64) -> f64 {
    value as f64
}

#[expect(clippy::cast_precision_loss, reason = "nothing that is counted here is that large")]
fn count(value: u64) -> f64 {
    value as f64
}
