//! SIGKILL at random moments, to anybody, again and again.
//!
//! A node lives for some hundred cycles, and several nodes live side by side: most of a cycle is waiting, and the thousandth
//! must not take longer than the first because of what the tests remember.

use std::fs;
use std::ops::Range;
use std::panic::catch_unwind;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getpgid, kill_process, kill_process_group};

use crate::story::{Random, for_each_of, from_environment, seed};
use crate::support::Dialect;
use crate::support::collector::Collector;
use crate::support::collector::state::Row;
use crate::support::history::{self, Allowed};
use crate::support::node::Node;

/// Cycles, unless `CRASH_CYCLES` says another number.
const CYCLES: usize = 150;
/// So many of them one node goes through at most.
const CYCLES_OF_ONE: usize = 250;
/// So many nodes live at the same time.
const AT_ONCE: usize = 6;

/// What short commands do.
const COMMANDS: [&str; 8] = [
    "echo one",
    "err two exit 3",
    "exit 1",
    "",
    "kill KILL",
    "env env env env env env env env env env env env",
    "umask env group env fds env group env fds env exit 9",
    "echo a env echo b env echo c env echo d env echo e",
];

#[derive(Clone, Copy, Debug)]
enum Victim {
    Handler,
    Supervisor,
    Command,
    Group,
    HandlerAndSupervisor,
    Everybody,
    Collector,
    Nobody,
}

const VICTIMS: [Victim; 11] = [
    Victim::Handler,
    Victim::Handler,
    Victim::Handler,
    Victim::Supervisor,
    Victim::Supervisor,
    Victim::Command,
    Victim::Group,
    Victim::HandlerAndSupervisor,
    Victim::Everybody,
    Victim::Collector,
    Victim::Nobody,
];

#[test]
fn whoever_is_killed_whenever_nothing_is_lost_and_nothing_starts_twice() {
    let seed = seed();
    let cycles = from_environment("CRASH_CYCLES").unwrap_or(CYCLES);
    println!("kill loop: CRASH_SEED={seed} CRASH_CYCLES={cycles}");
    let mut random = Random(seed);
    let each = cycles.div_ceil(AT_ONCE).clamp(1, CYCLES_OF_ONE);
    let lives: Vec<_> =
        (0..cycles).step_by(each).map(|first| (first, cycles.min(first + each), random.next())).collect();
    let begun = Instant::now();
    let came = for_each_of(AT_ONCE, &lives, |(first, end, seed)| {
        let life = catch_unwind(|| Life::lead(*first..*end, *seed));
        if *first % (10 * each) == 0 {
            println!("kill loop: cycles {first} to {end}, {:.0} s after the first", begun.elapsed().as_secs_f64());
        }
        life.map_err(|_| format!("cycles {first} to {end} (their seed: {seed})"))
    });
    let (mut ended, mut wrong) = (Vec::new(), Vec::new());
    for life in came {
        match life {
            Ok(life) => ended.push(life),
            Err(what) => wrong.push(what),
        }
    }
    ended.sort_by_key(|life| life.first);
    let sum = |of: fn(&Life) -> usize| ended.iter().map(of).sum::<usize>();
    println!(
        "kill loop: {cycles} cycles on {} nodes, {} kills, {} actions, {} of them interrupted, {} violations",
        lives.len(),
        sum(|life| life.kills),
        sum(|life| life.actions),
        sum(|life| life.interrupted),
        wrong.len()
    );
    let quarter = ended.len().div_ceil(4);
    let took = |some: &[Life]| some.iter().map(|life| life.took).max().unwrap_or_default().as_secs_f64();
    println!(
        "kill loop: {:.0} s in all; at most {:.1} s for a node of the first quarter, {:.1} s for one of the last",
        begun.elapsed().as_secs_f64(),
        took(&ended[..quarter]),
        took(&ended[ended.len() - quarter..]),
    );
    assert!(wrong.is_empty(), "CRASH_SEED={seed}: violations are told above, of {wrong:?}");
    assert!(sum(|life| life.kills) * 5 > cycles, "hardly anybody was killed");
}

/// What the life of a node came to.
struct Life {
    /// Its first cycle.
    first: usize,
    kills: usize,
    actions: usize,
    interrupted: usize,
    took: Duration,
}

impl Life {
    fn lead(cycles: Range<usize>, seed: u64) -> Self {
        let (mut random, born) = (Random(seed), Instant::now());
        let collector = Collector::plain();
        let node = Node::of(&collector, &Dialect::BOTH);
        // So that moments are spread over a whole run.
        let begun = Instant::now();
        enqueue(&collector, &mut random);
        node.run().exits(0);
        let usual = begun.elapsed();
        let (mut kills, first, count) = (0, cycles.start, cycles.len());
        for cycle in cycles {
            enqueue(&collector, &mut random);
            let handlers: Vec<_> = (0..=random.below(8) / 7).map(|_| node.handler().start()).collect();
            let victim = VICTIMS[random.below(VICTIMS.len())];
            // The moment of a fault, not a wait for anything.
            thread::sleep(usual.mul_f64(f64::from(u32::try_from(random.below(1000)).unwrap()) / 800.0));
            kills += strike(victim, &node, &collector);
            for handler in handlers {
                let code = handler.wait().code();
                assert!(matches!(code, 0 | 69 | 75 | 137), "cycle {cycle}: {code} after {victim:?}");
            }
        }
        let settled = (0..20).any(|_| node.run().code() == 0);
        assert!(settled, "there is no end to it");
        let allowed = Allowed { interrupted: true, killed: true, crashes: count, ..Allowed::default() };
        history::check(&node, &[&collector], &allowed);
        let rows = collector.rows();
        assert!(rows.iter().all(|row| row.status == 'T'), "not everything has its result");
        let interrupted = rows.iter().filter(|row| row.ret == Some(254)).count();
        Self { first, kills, actions: rows.len(), interrupted, took: born.elapsed() }
    }
}

/// Queues a few actions, in both queues. What is handed out and not acknowledged is handed out again at once.
fn enqueue(collector: &Collector, random: &mut Random) {
    for _ in 0..=random.below(4) {
        let dialect = Dialect::BOTH[random.below(2)];
        collector.add(Row::new(dialect, COMMANDS[random.below(COMMANDS.len())]).old());
    }
}

/// Kills, and tells how many.
fn strike(victim: Victim, node: &Node, collector: &Collector) -> usize {
    if matches!(victim, Victim::Collector) {
        collector.down();
        collector.up();
        return 1;
    }
    let mut killed = 0;
    for pid in node.processes() {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let is_supervisor = command.ends_with(b"\0supervise\0");
        let is_handler = !is_supervisor && command.windows(7).any(|window| window == b"\0--root");
        let Some(pid) = Pid::from_raw(pid) else { continue };
        let leads = getpgid(Some(pid)).is_ok_and(|group| group == pid);
        let done = match victim {
            Victim::Handler if is_handler => kill_process(pid, Signal::KILL),
            Victim::Supervisor if is_supervisor => kill_process(pid, Signal::KILL),
            Victim::HandlerAndSupervisor if is_handler || is_supervisor => kill_process(pid, Signal::KILL),
            Victim::Command if !is_handler && !is_supervisor && leads => kill_process(pid, Signal::KILL),
            Victim::Group if !is_handler && !is_supervisor && leads => kill_process_group(pid, Signal::KILL),
            Victim::Everybody => kill_process(pid, Signal::KILL),
            _ => continue,
        };
        killed += usize::from(done.is_ok());
    }
    killed
}
