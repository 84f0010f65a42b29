//! SIGKILL at the system calls of a handler, or of a supervisor, one after the other: strace kills it before the nth call
//! of a name.

use std::collections::BTreeMap;
use std::fs;

use rustix::process::{Signal, kill_process};

use crate::story::{Story, for_each, is_full};
use crate::support::history::Allowed;
use crate::support::process::{Ended, Launch};
use crate::support::{Dialect, both};

/// How many calls a sample takes.
const SAMPLE: usize = 60;

/// A handler under strace. Its supervisors are not traced.
fn traced(story: &Story, options: &[&str]) -> Launch {
    let node = &story.world.node;
    let handler = node.path("bin/opensvc-actions");
    node.program("strace".into()).args(["-qq", "-o", "trace"]).args(options).arg(handler).arg("--root").arg(node.root())
}

/// Every call of one run, each with how many of its name came before it, from 1.
fn calls(story: &Story) -> Vec<(String, usize)> {
    let trace = story.world.node.path("trace");
    traced(story, &["-o", trace.to_str().unwrap()]).run().exits(0);
    let calls = counted(&fs::read_to_string(trace).unwrap());
    assert!(calls.len() > 100, "this is no trace: {calls:?}");
    calls
}

/// The calls of a trace. Those before a handler's lock have done nothing that could go wrong.
fn counted(trace: &str) -> Vec<(String, usize)> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut found, mut locked) = (Vec::new(), false);
    for line in trace.lines() {
        let Some((name, _)) = line.split_once('(').filter(|(name, _)| !name.contains(' ')) else { continue };
        let nth = counts.entry(name).or_default();
        *nth += 1;
        if line.contains("F_SETLK") && !locked {
            locked = true;
            found.clear();
        }
        found.push((name.to_owned(), *nth));
    }
    found
}

/// Each dialect takes other calls.
fn phase(dialect: Dialect, step: usize) -> usize {
    if dialect == Dialect::Rpc { step / 2 } else { 0 }
}

/// A supervisor under strace, from its first instruction: that of the action in the middle. Returns how its handler
/// ended.
fn supervisor(story: &Story, options: &[&str]) -> Ended {
    let handler = story.doomed("stop@supervisor-begun:2").start();
    let supervisor = story.sleeper();
    let pid = supervisor.as_raw_nonzero().to_string();
    let tracer = story.world.node.program("strace".into()).args(["-p", &pid]).args(options).start();
    while !tracer.said().contains("attached") {
        std::thread::yield_now();
    }
    kill_process(supervisor, Signal::CONT).unwrap();
    let ended = handler.wait();
    tracer.wait();
    ended
}

both!(a_supervisor_killed_before_any_system_call_starts_nothing_twice);
fn a_supervisor_killed_before_any_system_call_starts_nothing_twice(dialect: Dialect) {
    let story = Story::new(dialect);
    let trace = story.world.node.path("trace");
    supervisor(&story, &["-o", trace.to_str().unwrap()]).exits(0);
    story.check(&Allowed::default(), &[]);
    let calls = counted(&fs::read_to_string(trace).unwrap());
    assert!(calls.len() > 50, "this is no trace: {calls:?}");
    let step = if is_full() { 1 } else { calls.len().div_ceil(SAMPLE / 2) };
    let some: Vec<_> = calls.iter().skip(phase(dialect, step)).step_by(step).collect();
    let came_to = for_each(&some, |(name, nth)| {
        println!("{} supervisor {name} {nth}", dialect.name());
        let story = Story::new(dialect);
        let (trace, inject) = (format!("trace={name}"), format!("inject={name}:signal=KILL:when={nth}"));
        let out = story.world.node.path("trace");
        supervisor(&story, &["-o", out.to_str().unwrap(), "-e", &trace, "-e", &inject]);
        let killed = fs::read_to_string(out).unwrap().contains("killed by SIGKILL");
        story.recover();
        // Whether it was marked as begun decides.
        let lost = story.world.collector.row(story.ids[1]).ret == Some(254);
        let allowed = Allowed { interrupted: lost, crashes: 1, ..Allowed::default() };
        story.check(&allowed, if lost { &story.ids[1..2] } else { &[] });
        (killed, lost)
    });
    let (all, taken) = (calls.len(), some.len());
    let killed = came_to.iter().filter(|(killed, _)| *killed).count();
    let unknown = came_to.iter().filter(|(_, lost)| *lost).count();
    println!(
        "{}: supervisor killed at {killed} of {all} system calls ({taken} tried), {unknown} times 254",
        dialect.name()
    );
    assert!(killed * 10 > taken * 7, "strace does not kill");
}

both!(killed_before_any_system_call_nothing_is_lost_and_nothing_starts_twice);
fn killed_before_any_system_call_nothing_is_lost_and_nothing_starts_twice(dialect: Dialect) {
    let story = Story::new(dialect);
    let calls = calls(&story);
    story.check(&Allowed::default(), &[]);
    let step = if is_full() { 1 } else { calls.len().div_ceil(SAMPLE) };
    let some: Vec<_> = calls.iter().skip(phase(dialect, step)).step_by(step).collect();
    let came_to = for_each(&some, |(name, nth)| {
        println!("{} {name} {nth}", dialect.name());
        let story = Story::new(dialect);
        let (trace, inject) = (format!("trace={name}"), format!("inject={name}:signal=KILL:when={nth}"));
        let ended = traced(&story, &["-o", "/dev/null", "-e", &trace, "-e", &inject]).run();
        // Some calls are there more or less often: where it waited, and for how long.
        assert!(matches!(ended.code(), 0 | 137), "{ended:?}");
        story.recover();
        story.check(&Allowed { crashes: 1, ..Allowed::default() }, &[]);
        ended.code() == 137
    });
    let (killed, taken) = (came_to.iter().filter(|killed| **killed).count(), some.len());
    println!("{}: killed at {killed} of {} system calls ({taken} tried)", dialect.name(), calls.len());
    assert!(killed * 10 > taken * 7, "strace does not kill");
}
