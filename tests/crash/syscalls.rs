//! SIGKILL before every system call of a run of three actions: those of the handler from its exec on, with all of its
//! threads; those of the one supervisor of all three from its clone on, so before it has executed itself; those of what it
//! makes until that executes the command. Left out is the command itself, whose end is its own.
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
        assert!(of(Who::Starting(nth)) > 5, "this is no trace: {:?}", whole.calls);
    }
    assert_eq!((of(Who::Supervisor(1)), of(Who::Starting(3)), whole.orders), (0, 0, 3), "{:?}", whole.calls);
    assert!(of(Who::Handler) > 300 && of(Who::Supervisor(0)) > 200, "this is no trace: {:?}", whole.calls);
    assert!(whole.calls.iter().all(|call| call.name != "unknown"), "the table of names has a gap");
    let faults = whole.calls.iter().map(|call| Fault::Kill(call.who, call.nth)).collect();
    sweep("killed at a system call", dialect, faults, SAMPLE, judge);
}

/// What may come of it: the action that the killed supervisor was at has no result that anybody knows, if the command may
/// have begun; those before it and after it have their own. Nothing else.
fn judge(fault: Fault, traced: &Traced) -> Excuse {
    let mut excuse = Excuse::default();
    let Fault::Kill(who, _) = fault else { return excuse };
    match who {
        Who::Handler => assert_eq!(traced.code, 137, "{}", traced.said),
        Who::Supervisor(_) => {
            // One that never began is tried again, by the next handler.
            assert!(matches!(traced.code, 0 | 69), "it ended with {}:\n{}", traced.code, traced.said);
            // One that waited for its first order takes nothing with it.
            traced.orders.checked_sub(1).into_iter().for_each(|at| excuse.unknown[at] = true);
        }
        Who::Starting(nth) => {
            assert_eq!(traced.code, 0, "{}", traced.said);
            excuse.killed[nth] = true;
        }
    }
    excuse
}
