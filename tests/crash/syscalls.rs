//! SIGKILL at the system calls of a handler, one after the other: strace kills it before the nth call of a name.

use std::collections::BTreeMap;
use std::fs;

use crate::story::{Story, is_full};
use crate::support::both;
use crate::support::history::Allowed;
use crate::support::process::Launch;

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
    let text = fs::read_to_string(trace).unwrap();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut found = Vec::new();
    let mut locked = false;
    for line in text.lines() {
        let Some((name, _)) = line.split_once('(') else { continue };
        let nth = counts.entry(name).or_default();
        *nth += 1;
        // Before that it has done nothing that could be undone.
        locked |= line.contains("F_SETLK");
        if locked {
            found.push((name.to_owned(), *nth));
        }
    }
    assert!(found.len() > 100, "this is no trace:\n{text}");
    found
}

both! {
    fn killed_before_any_system_call_nothing_is_lost_and_nothing_starts_twice(dialect) {
        let story = Story::new(dialect);
        let calls = calls(&story);
        story.check(&Allowed::default(), &[]);
        let step = if is_full() { 1 } else { calls.len().div_ceil(SAMPLE) };
        let (mut killed, mut taken) = (0, 0);
        // Another phase in each dialect.
        for (name, nth) in calls.iter().skip(dialect.name().len() + usize::from(dialect.name() == "rpc")).step_by(step) {
            println!("{} {name} {nth}", dialect.name());
            let story = Story::new(dialect);
            let (trace, inject) = (format!("trace={name}"), format!("inject={name}:signal=KILL:when={nth}"));
            let ended = traced(&story, &["-o", "/dev/null", "-e", &trace, "-e", &inject]).run();
            // Some calls are there more or less often: where it waited, and for how long.
            assert!(matches!(ended.code(), 0 | 137), "{ended:?}");
            killed += usize::from(ended.code() == 137);
            taken += 1;
            story.recover();
            story.check(&Allowed { crashes: 1, ..Allowed::default() }, &[]);
        }
        println!("{}: killed at {killed} of {} system calls ({taken} tried)", dialect.name(), calls.len());
        assert!(killed * 10 > taken * 7, "strace does not kill");
    }
}
