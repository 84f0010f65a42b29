//! Three actions on one node, something that goes wrong in the middle, and what must be true in the end.

use std::collections::BTreeSet;
use std::fs;
use std::hash::{BuildHasher as _, RandomState};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use rustix::process::Pid;

use crate::points;
use crate::support::Dialect;
use crate::support::collector::Collector;
use crate::support::collector::state::Row;
use crate::support::history::Allowed;
use crate::support::node::is_stopped;
use crate::support::process::{Ended, Launch};
use crate::support::world::World;

/// How often a handler may have to start until everything is well again.
const STARTS: usize = 10;

/// What the three commands do, and what they come to.
pub(crate) const COMMANDS: [(&str, i64, &str); 3] =
    [("echo one", 0, "one\n"), ("echo two err oh exit 3", 3, "two\n"), ("echo three", 0, "three\n")];

pub(crate) struct Story {
    pub(crate) world: World,
    pub(crate) ids: Vec<i64>,
}

impl Story {
    pub(crate) fn new(dialect: Dialect) -> Self {
        Self::at(Collector::plain(), dialect)
    }

    pub(crate) fn at(collector: Collector, dialect: Dialect) -> Self {
        let world = World::at(collector, dialect);
        world.node.make_dir("counts");
        // Old: what was handed out and not acknowledged is handed out again at once.
        let ids = COMMANDS.map(|(command, ..)| world.collector.add(Row::new(dialect, command).old())).to_vec();
        Self { world, ids }
    }

    /// A handler that dies, or whose supervisor dies, where `list` says.
    pub(crate) fn doomed(&self, list: &str) -> Launch {
        let name = "bin/opensvc-actions-doomed";
        if !self.world.node.path(name).exists() {
            fs::hard_link(points::executable(), self.world.node.path(name)).unwrap();
        }
        let launch = self.world.node.program(self.world.node.path(name)).arg("--root").arg(self.world.node.root());
        launch.env("OPENSVC_ACTIONS_CRASH", list).env("OPENSVC_ACTIONS_CRASH_COUNTS", self.counts())
    }

    fn counts(&self) -> PathBuf {
        self.world.node.path("counts")
    }

    /// Runs it until it dies, or until it ends although its supervisor died.
    pub(crate) fn crash(&self, list: &str) -> Ended {
        self.doomed(list).run()
    }

    /// How often a point was passed.
    pub(crate) fn passes(&self, point: &str) -> usize {
        fs::read(self.counts().join(point)).map_or(0, |passes| passes.len())
    }

    /// The passes are counted from here.
    pub(crate) fn recount(&self) {
        fs::remove_dir_all(self.counts()).unwrap();
        self.world.node.make_dir("counts");
    }

    /// Waits for a supervisor to sleep, where it was told to.
    pub(crate) fn sleeper(&self) -> Pid {
        loop {
            for pid in self.world.node.processes() {
                let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                if command.ends_with(b"\0supervise\0") && is_stopped(pid) {
                    return Pid::from_raw(pid).unwrap();
                }
            }
            std::thread::yield_now();
        }
    }

    /// Starts the shipped handler, as the timer would, until it has nothing left to do.
    pub(crate) fn recover(&self) {
        let mut last = None;
        for _ in 0..STARTS {
            let ended = self.world.run();
            if ended.code() == 0 {
                return;
            }
            assert!(matches!(ended.code(), 69 | 75), "{ended:?}");
            last = Some(ended);
        }
        panic!("it does not recover within {STARTS} starts: {last:?}");
    }

    /// Insists on everything that must be true of every history, and on each command's own result, but for those whose
    /// end is `unknown`.
    pub(crate) fn check(&self, allowed: &Allowed, unknown: &[i64]) {
        self.check_but(allowed, &unknown.iter().copied().collect());
        for id in unknown {
            self.world.reason(*id, 254);
            assert!(self.world.node.runs_of(*id) <= 1);
        }
    }

    /// The same, with nothing but what is true of every history said about these.
    pub(crate) fn check_but(&self, allowed: &Allowed, but: &BTreeSet<i64>) {
        self.world.check_but(allowed);
        for (id, (_, ret, stdout)) in self.ids.iter().zip(COMMANDS).filter(|(id, _)| !but.contains(id)) {
            let result = self.world.result(*id);
            assert_eq!((result.0, self.world.node.runs_of(*id)), (ret, 1), "{id}: {result:?}");
            // A collector that refused the output of this result has got it without.
            let refused = result.2.contains("opensvc-actions: the collector refused this output");
            assert!(result.1 == stdout || refused, "{id}: {result:?}");
        }
    }
}

/// Whether every step is taken, and not a sample.
pub(crate) fn is_full() -> bool {
    std::env::var_os("CRASH_FULL").is_some()
}

/// A variable of the environment, if it is there and means something.
pub(crate) fn from_environment<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

/// Where a sample or a chance begins: `CRASH_SEED`, or another one each time. To be printed.
pub(crate) fn seed() -> u64 {
    from_environment("CRASH_SEED").unwrap_or_else(|| RandomState::new().hash_one("seed"))
}

/// How many faults are tried at once.
pub(crate) const AT_ONCE: usize = 3;

/// Does something for each item, a few at a time: most of it is waiting. Gives what it came to.
pub(crate) fn for_each<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    for_each_of(AT_ONCE, items, work)
}

/// The same, so many at a time.
pub(crate) fn for_each_of<T: Sync, R: Send>(at_once: usize, items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let worker =
        || -> Vec<R> { std::iter::from_fn(|| items.get(next.fetch_add(1, Ordering::SeqCst)).map(&work)).collect() };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..at_once).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    })
}

/// The same, and tells after each thousand how far it is with `what`.
pub(crate) fn for_each_told<T: Sync, R: Send>(
    what: &str,
    at_once: usize,
    items: &[T],
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let (begun, seconds) = (AtomicUsize::new(0), Instant::now());
    for_each_of(at_once, items, |item| {
        let nth = begun.fetch_add(1, Ordering::SeqCst);
        if nth > 0 && nth % 1000 == 0 {
            println!("{what}: {nth} of {} points after {:.0} s", items.len(), seconds.elapsed().as_secs_f64());
        }
        work(item)
    })
}

/// Numbers without a pattern (splitmix64), the same for the same seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).unwrap()).unwrap()
    }
}
