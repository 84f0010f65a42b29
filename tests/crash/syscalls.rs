//! SIGKILL before every system call of a run of three actions: those of the handler from its exec on, with all of its
//! threads; those of each supervisor from its clone on, so before it has executed itself; those of what a supervisor makes
//! until that executes the command. Left out is the command itself, whose end is its own.
//!
//! `CRASH_FULL=1 cargo test --release --test crash syscalls::` takes every one of them.

use crate::story::Story;
use crate::support::history::Allowed;
use crate::support::{Dialect, both};
use crate::sweep::{Excuse, sweep};
use crate::tracer::{self, Fault, Traced, Who};

/// How many a sample takes, of each dialect.
const SAMPLE: usize = 120;

both!(killed_before_any_system_call_nothing_is_lost_and_nothing_starts_twice);
fn killed_before_any_system_call_nothing_is_lost_and_nothing_starts_twice(dialect: Dialect) {
    let story = Story::new(dialect);
    let whole = tracer::run(&story, None);
    assert_eq!(whole.code, 0, "{}", whole.said);
    story.check(&Allowed::default(), &[]);
    let of = |who: Who| whole.calls.iter().filter(|call| call.who == who).count();
    for nth in 0..3 {
        assert!(of(Who::Supervisor(nth)) > 100 && of(Who::Starting(nth)) > 5, "this is no trace: {:?}", whole.calls);
    }
    assert!(of(Who::Handler) > 300 && of(Who::Supervisor(3)) == 0, "this is no trace: {:?}", whole.calls);
    assert!(whole.calls.iter().all(|call| call.name != "unknown"), "the table of names has a gap");
    let faults = whole.calls.iter().map(|call| Fault::Kill(call.who, call.nth)).collect();
    sweep("killed at a system call", dialect, faults, SAMPLE, judge);
}

/// What may come of it: the killed supervisor's own action has no result that anybody knows, if the command may have
/// begun. Nothing else.
fn judge(fault: Fault, traced: &Traced) -> Excuse {
    let mut excuse = Excuse::default();
    let Fault::Kill(who, _) = fault else { return excuse };
    match who {
        Who::Handler => assert_eq!(traced.code, 137, "{}", traced.said),
        Who::Supervisor(nth) => {
            // One that never began is tried again, by the next handler.
            assert!(matches!(traced.code, 0 | 69), "it ended with {}:\n{}", traced.code, traced.said);
            excuse.unknown[nth] = true;
        }
        Who::Starting(nth) => {
            assert_eq!(traced.code, 0, "{}", traced.said);
            excuse.killed[nth] = true;
        }
    }
    excuse
}
