//! The same for real: as many handler processes as there are nodes, started as fast as the machine takes them, against a
//! collector that is down and comes back meanwhile. Whoever has given up is started again, as its timer would a minute
//! later. One node in ten has an action queued.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use opensvc_actions::action::Queue;
use rustix::process::{WaitOptions, wait};

use crate::Failure;
use crate::programs::Programs;
use crate::site::{Node, Site, is_request};

/// So many handlers live at once at most: it is this machine's memory that all of them have.
const AT_ONCE: usize = 400;
/// Every so many nodes one has something to do.
const ONE_IN: usize = 10;
/// How often the collector is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// After so many rounds somebody is lost.
const ROUNDS: usize = 10;
/// The collector cannot be reached.
const TRY_AGAIN: i32 = 75;

/// Runs the sample and prints what came of it.
pub(crate) fn run(programs: &Programs, count: usize) -> Result<(), Failure> {
    let mut site = Site::new(programs)?;
    let nodes = make_nodes(&site, count)?;
    site.stop()?;
    println!("\nherd, real: {count} handlers, at most {AT_ONCE} at once; the collector is down when they begin");
    let sampler = Sampler::start(&site);
    let begin = Instant::now();
    let (mut waiting, mut round, mut back, mut runs) = ((0..count).collect::<Vec<_>>(), 0, None, 0);
    while !waiting.is_empty() {
        round += 1;
        if round > ROUNDS {
            return Err(format!("after {ROUNDS} rounds {} nodes were never served", waiting.len()).into());
        }
        let started = waiting.len();
        runs += started;
        let round_begin = Instant::now();
        // It comes back when a third of them have begun: some have given up, some are about to try again.
        let back_at = if round == 1 { started / 3 } else { usize::MAX };
        let ended = start_all(programs, &mut site, &nodes, &waiting, |site, begun| {
            if begun == back_at && back.is_none() {
                site.start()?;
                back = Some(Instant::now());
            }
            Ok(())
        })?;
        let how_many = |wanted: i32| ended.values().filter(|status| **status == wanted).count();
        let (served, again) = (how_many(0), how_many(TRY_AGAIN));
        println!(
            "round {round}: {started} started in {:.1} s: {served} served, {again} found nobody and try again a minute later",
            round_begin.elapsed().as_secs_f64()
        );
        if let Some((index, status)) = ended.iter().find(|(_, status)| ![0, TRY_AGAIN].contains(status)) {
            return Err(format!("{} ended with status {status}", nodes[*index].name).into());
        }
        waiting.retain(|index| ended.get(index) != Some(&0));
        if waiting.len() != again {
            return Err("a handler did not come back".into());
        }
    }
    let seconds = back.unwrap_or(begin).elapsed().as_secs_f64();
    let seen = sampler.end()?;
    for node in nodes.iter().step_by(ONE_IN) {
        site.all_came_back(node, 1)?;
    }
    let busy = count.div_ceil(ONE_IN);
    // An idle node asks once; one with an action acknowledges, reports, and asks once more.
    let needed = count + 3 * busy;
    println!("all {count} served, all {busy} actions run and reported, {seconds:.1} s after the collector came back");
    println!(
        "the collector has answered {} requests in {runs} runs, {needed} were needed: {:.3} × ; {} of them with an error",
        seen.requests,
        seen.requests as f64 / needed as f64,
        seen.errors
    );
    println!(
        "{:.0} requests a second in the mean, {} in the busiest; at most {} connections at once",
        seen.requests as f64 / seconds,
        seen.peak,
        seen.connections
    );
    if seen.requests > needed + needed / 20 {
        return Err("that is a storm of retries".into());
    }
    Ok(())
}

fn make_nodes(site: &Site<'_>, count: usize) -> Result<Vec<Node>, Failure> {
    let mut store = site.store()?;
    let queue = |number: usize| if number % 2 == 0 { Queue::Oc3 } else { Queue::Rpc };
    let nodes: Vec<_> = (0..count)
        .map(|number| site.node(&mut store, &format!("n{number}"), queue(number / ONE_IN)))
        .collect::<Result<_, _>>()?;
    for node in nodes.iter().step_by(ONE_IN) {
        site.enqueue(node, 1)?;
    }
    Ok(nodes)
}

/// Starts the handlers of these nodes, one after the other, and waits for all of them. Returns how each has ended.
fn start_all<'a>(
    programs: &Programs,
    site: &mut Site<'a>,
    nodes: &[Node],
    which: &[usize],
    mut begun: impl FnMut(&mut Site<'a>, usize) -> Result<(), Failure>,
) -> Result<HashMap<usize, i32>, Failure> {
    let (mut running, mut ended) = (HashMap::new(), HashMap::new());
    let mut next = which.iter().enumerate();
    loop {
        let more = if running.len() < AT_ONCE { next.next() } else { None };
        if let Some((number, index)) = more {
            begun(site, number)?;
            let mut handler = Command::new(&programs.handler);
            handler.args(nodes[*index].arguments(&["dequeue"])).stdin(Stdio::null()).stdout(Stdio::null());
            // Two thousand times that the collector cannot be reached.
            let handler = handler.stderr(Stdio::null()).spawn()?;
            running.insert(handler.id(), *index);
        } else if running.is_empty() {
            return Ok(ended);
        }
        let options = if more.is_some() { WaitOptions::NOHANG } else { WaitOptions::empty() };
        while let Some((pid, status)) = wait(options)? {
            let pid = pid.as_raw_nonzero().get().unsigned_abs();
            match running.remove(&pid) {
                Some(index) => drop(ended.insert(index, status.exit_status().unwrap_or(-1))),
                None if site.server() == Some(pid) => return Err("the collector has ended".into()),
                None => {}
            }
            if !options.contains(WaitOptions::NOHANG) || running.is_empty() {
                break;
            }
        }
    }
}

/// What was seen of the collector.
#[derive(Default)]
struct Seen {
    requests: usize,
    errors: usize,
    /// In the busiest second.
    peak: usize,
    connections: usize,
}

/// Looks at the collector while handlers run.
struct Sampler {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Seen, std::io::Error>>,
}

impl Sampler {
    /// Counts from now on.
    fn start(site: &Site<'_>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (port, log, asked) = (site.port, site.log(), Arc::clone(&stop));
        let thread = thread::spawn(move || watch(port, &log, &asked));
        Self { stop, thread }
    }

    fn end(self) -> Result<Seen, Failure> {
        self.stop.store(true, Ordering::Relaxed);
        Ok(self.thread.join().map_err(|_| "the sampler has panicked")??)
    }
}

fn watch(port: u16, log: &PathBuf, stop: &AtomicBool) -> Result<Seen, std::io::Error> {
    let file = fs::File::open(log)?;
    let mut at = file.metadata()?.len();
    let (mut seen, mut rest, begin) = (Seen::default(), String::new(), Instant::now());
    let mut seconds: HashMap<u64, usize> = HashMap::new();
    let mut bytes = vec![0; 65_536];
    loop {
        let is_last = stop.load(Ordering::Relaxed);
        while let length @ 1.. = file.read_at(&mut bytes, at)? {
            at += length as u64;
            rest.push_str(&String::from_utf8_lossy(&bytes[..length]));
            while let Some((line, behind)) = rest.split_once('\n') {
                if is_request(line) {
                    seen.requests += 1;
                    seen.errors += usize::from(!line.ends_with(": 200") && !line.ends_with(": 202"));
                    *seconds.entry(begin.elapsed().as_secs()).or_default() += 1;
                }
                rest = behind.to_owned();
            }
        }
        seen.connections = seen.connections.max(connections(port)?);
        if is_last {
            seen.peak = seconds.into_values().max().unwrap_or_default();
            return Ok(seen);
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// How many connections the kernel holds for a port: established, whether the server has taken them or not.
fn connections(port: u16) -> Result<usize, std::io::Error> {
    let table = fs::read_to_string("/proc/net/tcp")?;
    let local = format!(":{port:04X}");
    let is_ours = |line: &&str| {
        let mut fields = line.split_whitespace().skip(1);
        fields.next().is_some_and(|address| address.ends_with(&local)) && fields.nth(1) == Some("01")
    };
    Ok(table.lines().filter(is_ours).count())
}
