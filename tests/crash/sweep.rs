//! One fault after the other, each on a node of its own: the fault, the recovery, the history. Everything that is wrong is
//! told in the end, with the fault that shows it again.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirEntry, File};
use std::hash::{BuildHasher as _, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use crate::story::{AT_ONCE, COMMANDS, Random, Story, for_each_told, is_full};
use crate::support::Dialect;
use crate::support::history::Allowed;
use crate::tracer::{self, Fault, Traced, Who};

/// How often a fault is tried that does not come to pass: how often some calls are made depends on who waits for whom.
const TRIES: usize = 3;

/// Results that an action may have in the place of its command's own.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Excuse {
    /// Which actions, of three: 254, since the end was not seen.
    pub(crate) unknown: [bool; 3],
    /// 126, since it could not be started.
    pub(crate) not_started: [bool; 3],
    /// 137, as it was killed before it became its command.
    pub(crate) killed: [bool; 3],
}

/// What became of one fault.
struct Came {
    who: Who,
    fired: bool,
    /// Results of ours.
    excused: Vec<i64>,
    wrong: Option<String>,
}

/// The faults that are tried: all of them, or a sample by a seed, or those that `CRASH_ONLY` names.
fn chosen(all: Vec<Fault>, sample: usize, dialect: Dialect) -> (Vec<Fault>, String) {
    if let Ok(only) = std::env::var("CRASH_ONLY") {
        let named = all.into_iter().filter(|fault| only.split(',').any(|name| fault.to_string().contains(name)));
        return (named.collect(), format!("CRASH_ONLY={only}"));
    }
    if is_full() {
        return (all, "CRASH_FULL".to_owned());
    }
    let seed = std::env::var("CRASH_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| RandomState::new().hash_one("seed"));
    let (mut random, mut rest) = (Random(seed ^ dialect as u64), all);
    let some = (0..sample.min(rest.len())).map(|_| rest.swap_remove(random.below(rest.len()))).collect();
    (some, format!("CRASH_SEED={seed}"))
}

/// Tries faults, and insists that nothing is wrong after any of them. `judge` looks at the run and says what it excuses.
pub(crate) fn sweep(
    what: &str,
    dialect: Dialect,
    all: Vec<Fault>,
    sample: usize,
    judge: impl Fn(Fault, &Traced) -> Excuse + Sync,
) {
    let known = all.len();
    let (faults, how) = chosen(all, sample, dialect);
    println!("{what}, {}: {} of {known} points, {how}", dialect.name(), faults.len());
    let came = for_each_told(&format!("{what}, {}", dialect.name()), AT_ONCE, &faults, |fault| {
        let mut came = try_one(*fault, dialect, &judge);
        for _ in 1..TRIES {
            if came.fired || came.wrong.is_some() {
                break;
            }
            came = try_one(*fault, dialect, &judge);
        }
        if let Some(wrong) = &came.wrong {
            println!("VIOLATION {what}, {}: {fault}: {wrong}", dialect.name());
        } else if !came.fired {
            println!("{what}, {}: not reached: {fault}", dialect.name());
        }
        came
    });
    let violations = came.iter().filter(|came| came.wrong.is_some()).count();
    for (name, is_it) in [("handler", true), ("supervisors", false)] {
        let of: Vec<_> = came.iter().filter(|came| (came.who == Who::Handler) == is_it).collect();
        let (tried, fired) = (of.len(), of.iter().filter(|came| came.fired).count());
        let wrong = of.iter().filter(|came| came.wrong.is_some()).count();
        let mut excused: BTreeMap<i64, usize> = BTreeMap::new();
        of.iter().flat_map(|came| &came.excused).for_each(|ret| *excused.entry(*ret).or_default() += 1);
        println!(
            "{what}, {} {name}: {tried} points tried, {fired} fired, violations {wrong}; results of ours {excused:?} ({how})",
            dialect.name()
        );
    }
    let fired = came.iter().filter(|came| came.fired).count();
    assert_eq!(violations, 0, "see above");
    // The last few calls of a run are there or are not.
    assert!(fired * 20 >= came.len() * 19, "only {fired} of {} faults came to pass", came.len());
}

fn try_one(fault: Fault, dialect: Dialect, judge: &impl Fn(Fault, &Traced) -> Excuse) -> Came {
    let who = match fault {
        Fault::Kill(who, _) | Fault::Fail(who, ..) | Fault::FailOn(who, ..) => who,
    };
    let mut fired = false;
    let tried = catch_unwind(AssertUnwindSafe(|| {
        let story = Story::new(dialect);
        let traced = tracer::run(&story, Some(fault));
        fired = traced.fired > 0;
        assert!(!traced.hung, "it does not end; it said:\n{}", traced.said);
        let excuse = if fired { judge(fault, &traced) } else { Excuse::default() };
        story.recover();
        if is_any_left(&story) {
            // Its supervisor had it still. Handlers come a minute apart, and supervisors have gone by then.
            wait_until_free(&story);
            story.recover();
        }
        check(&story, excuse)
    }));
    match tried {
        Ok(excused) => Came { who, fired, excused, wrong: None },
        Err(panic) => Came { who, fired, excused: Vec::new(), wrong: Some(words(&*panic)) },
    }
}

/// Whether a run directory is there although every result is accepted.
fn is_any_left(story: &Story) -> bool {
    let is_reported = |id: &i64| story.world.collector.row(*id).ret.is_some();
    let runs = fs::read_dir(story.world.node.path("var/actions/runs"));
    story.ids.iter().all(is_reported) && runs.is_ok_and(|mut runs| runs.next().is_some())
}

/// Waits until nobody holds the claim of a run.
fn wait_until_free(story: &Story) {
    let is_held = |run: std::io::Result<DirEntry>| {
        let Ok(claim) = run.and_then(|run| File::open(run.path().join("claim"))) else { return false };
        flock(&claim, FlockOperation::NonBlockingLockShared).is_err()
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    while fs::read_dir(story.world.node.path("var/actions/runs")).is_ok_and(|mut runs| runs.any(is_held)) {
        assert!(Instant::now() < deadline, "a claim is held although every result is accepted");
        std::thread::yield_now();
    }
}

/// Insists on each command's own result, but for what is excused. Tells the results that are ours.
fn check(story: &Story, excuse: Excuse) -> Vec<i64> {
    let row = |id: &i64| story.world.collector.row(*id).ret.unwrap_or(-1);
    let ours: Vec<(usize, i64)> =
        story.ids.iter().map(row).enumerate().filter(|(nth, ret)| *ret != COMMANDS[*nth].1).collect();
    for (nth, ret) in &ours {
        let excused = match ret {
            254 => excuse.unknown[*nth],
            126 => excuse.not_started[*nth],
            137 => excuse.killed[*nth],
            _ => false,
        };
        assert!(excused, "action {nth} has {ret}: {:?}", story.world.result(story.ids[*nth]));
        let limit = usize::from(*ret == 254);
        assert!(story.world.node.runs_of(story.ids[*nth]) <= limit, "action {nth} has {ret}, and was started");
        if *ret != 137 {
            story.world.reason(story.ids[*nth], *ret);
        }
    }
    let but: BTreeSet<_> = ours.iter().map(|(nth, _)| story.ids[*nth]).collect();
    let interrupted = ours.iter().any(|(_, ret)| *ret == 254);
    story.check_but(&Allowed { interrupted, crashes: 1, ..Allowed::default() }, &but);
    ours.into_iter().map(|(_, ret)| ret).collect()
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words").to_owned()
}
