//! The promises of the protocol, against a model of a collector that loses answers, is restored from a backup and gives
//! ids away again, with a handler that is killed anywhere: the real [`Ledger`], everything around it pure.

mod world;

use proptest::prelude::*;

use self::world::World;
use crate::action::Queue;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// The collector gets an action; if the id is in use, it is given away again.
    Enqueue(i64),
    Redo(i64),
    CancelThere(i64),
    CancelHere(i64),
    Backup,
    Restore,
    Fetch {
        answered: bool,
        acknowledged: bool,
        posted: Post,
    },
    Run(End),
    Post(Post),
    Crash,
    Later(u8),
}

/// How an attempt to post ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Post {
    Accepted,
    /// Accepted, and the handler does not hear of it.
    AnswerLost,
    /// Accepted, and the handler is killed before it is recorded.
    Killed,
    /// The first result is refused for what is in it, the others are accepted.
    FirstRefused,
}

/// How a command ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Seen,
    /// The handler is killed; the supervisor leaves a record.
    Recorded,
    /// Handler and supervisor are killed.
    Unknown,
    /// Handler and supervisor are killed before the command began, which is known.
    NeverBegan,
    /// It goes on for now.
    Later,
}

fn step() -> impl Strategy<Value = Step> {
    let id = || 1..4_i64;
    let post = || {
        prop_oneof![
            4 => Just(Post::Accepted), 1 => Just(Post::AnswerLost), 1 => Just(Post::Killed), 1 => Just(Post::FirstRefused)
        ]
    };
    let end = prop_oneof![
        4 => Just(End::Seen), 1 => Just(End::Recorded), 1 => Just(End::Unknown), 1 => Just(End::NeverBegan),
        2 => Just(End::Later)
    ];
    prop_oneof![
        4 => id().prop_map(Step::Enqueue),
        3 => id().prop_map(Step::Redo),
        1 => id().prop_map(Step::CancelThere),
        1 => id().prop_map(Step::CancelHere),
        1 => Just(Step::Backup),
        1 => Just(Step::Restore),
        8 => (prop::bool::weighted(0.8), prop::bool::weighted(0.8), post())
            .prop_map(|(answered, acknowledged, posted)| Step::Fetch { answered, acknowledged, posted }),
        8 => end.prop_map(Step::Run),
        5 => post().prop_map(Step::Post),
        2 => Just(Step::Crash),
        2 => (1..30_u8).prop_map(Step::Later),
    ]
}

fn holds(queue: Queue, steps: Vec<Step>) {
    let mut world = World::new(queue);
    for step in steps {
        world.step(step);
    }
    world.settle();
    world.check();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_and_nothing_runs_twice_rpc(steps in prop::collection::vec(step(), 1..60)) {
        holds(Queue::Rpc, steps);
    }

    #[test]
    fn nothing_is_lost_and_nothing_runs_twice_oc3(steps in prop::collection::vec(step(), 1..60)) {
        holds(Queue::Oc3, steps);
    }
}
