//! A day on which nothing is queued: a run each minute, as the timer starts them. Nothing is said, nothing is left, and
//! the last run costs what the first one does.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::support::collector::fault::{Call, Fault, When};
use crate::support::world::World;
use crate::support::{Dialect, both};

/// A day has 1,440 minutes. `IDLE_RUNS=1440` makes all of them; by itself it is a part of them, for each dialect.
fn runs() -> usize {
    std::env::var("IDLE_RUNS").map_or(100, |runs| runs.parse().unwrap())
}

/// The sizes of all files below a directory, by name.
fn files(directory: &Path) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            found.extend(files(&path));
        }
        found.insert(path.display().to_string(), metadata.size());
    }
    found
}

/// What a process has while it waits for the answer to its fetch.
#[derive(Debug)]
struct Cost {
    /// The most memory that it ever had, in KiB.
    peak_rss: u64,
    descriptors: usize,
}

/// One run that is looked at in its middle.
fn measured_run(world: &World) -> Cost {
    let fetches = world.collector.count(Call::Fetch);
    world.collector.fail(Call::Fetch, When::Always, Fault::StallBefore);
    let handler = world.node.handler().start();
    world.collector.wait_for_count(Call::Fetch, fetches + 1);
    let status = fs::read_to_string(format!("/proc/{}/status", handler.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let cost = Cost {
        peak_rss: peak.trim().trim_end_matches(" kB").parse().unwrap(),
        descriptors: fs::read_dir(format!("/proc/{}/fd", handler.pid())).unwrap().count(),
    };
    world.collector.heal();
    world.collector.release();
    assert_eq!(handler.wait().exits(0).stderr, "");
    cost
}

both!(an_idle_day_says_nothing_leaves_nothing_and_costs_the_same_at_its_end);
fn an_idle_day_says_nothing_leaves_nothing_and_costs_the_same_at_its_end(dialect: Dialect) {
    let world = World::new(dialect);
    world.node.make_dir("textfile");
    world.node.configure(&format!("[metrics]\ntextfile = \"{}\"\n", world.node.path("textfile/n1.prom").display()));
    // A node that has a history.
    world.enqueue("echo done");
    world.run().exits(0);
    let first = measured_run(&world);
    let state = world.node.path("var/actions");
    let before = files(&state);
    let mut lines = 0;
    for _ in 0..runs() {
        // The file is what the journal would get at priority notice and above.
        let ended = world.run();
        lines += ended.exits(0).stderr.lines().count() + ended.stdout.lines().count();
    }
    let last = measured_run(&world);
    let after = files(&state);
    eprintln!(
        "{} idle runs over {}: {lines} lines; state {} files, {} bytes before, {} bytes after; {first:?} at first, {last:?} at last",
        runs(),
        dialect.name(),
        after.len(),
        before.values().sum::<u64>(),
        after.values().sum::<u64>(),
    );
    assert_eq!(lines, 0);
    // The counters of the metrics grow by a digit now and then, and so do process numbers.
    let without_counters = |files: &BTreeMap<String, u64>| {
        files
            .iter()
            .filter(|(name, _)| !name.ends_with("/metrics") && !name.ends_with("/lock"))
            .map(|(name, size)| (name.clone(), *size))
            .collect::<Vec<_>>()
    };
    assert_eq!(without_counters(&after), without_counters(&before));
    assert_eq!(after.len(), before.len());
    assert_eq!(last.descriptors, first.descriptors);
    assert!(last.peak_rss < first.peak_rss + first.peak_rss / 10, "{first:?} {last:?}");
    world.node.wait_until_alone(&[]);
    world.check();
}
