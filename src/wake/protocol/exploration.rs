//! Every interleaving of three starters and three notifications, each step of each process being one move, with what
//! can go wrong at every step: SIGKILL, SIGTERM, steps that fail, collectors that are out of reach.
//!
//! The processes do what [`Process`] says, the production code's own step function. What is modelled here is the world:
//! the two files and the lock, the kernel's listen queue, and systemd, which starts the service again as long as
//! somebody waits in the queue. A process is one thread: it accepts only while it waits. The number of seconds that
//! pass is not modelled: a wait may end at any moment.
//!
//! That the test can fail is shown by worlds in which one thing is done wrongly: each must be caught.

#![allow(clippy::struct_excessive_bools, clippy::match_same_arms, reason = "a model: each line is one case")]

use std::collections::HashMap;
use std::fmt;

use super::{Process, Seen, Start, Step};

const STARTERS: usize = 3;

/// How a process is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    /// The socket's service: by its timer once, and by systemd whenever somebody waits and it does not run.
    Service,
    /// With the same listening socket, once.
    Listener,
    /// With one connection.
    Connection,
    /// A timer, or a person who does not wait.
    Plain,
    /// A person who waits for the running handler.
    Follower,
}

/// What may go wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Faults {
    /// So many signals, SIGKILL or SIGTERM, each at any step of any process.
    signals: u8,
    /// Any step may fail, and any fetch, as often as they like.
    failures: bool,
}

/// What is done wrongly, to see that it is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Mistake {
    None,
    /// No look at the mark after the lock is given back.
    NoFinalLook,
    /// The lock is tried first, and then the mark is set.
    LockBeforeMark,
    /// The mark is taken when the fetch has ended.
    TakeAfterFetch,
    /// Nothing is owed once the mark is taken.
    NothingOwed,
    /// A notification is accepted, and sets no mark.
    AcceptWithoutMark,
    /// A process that is told to stop takes the mark, and then does not fetch.
    TakeAndStop,
    /// A process that has failed looks at the mark, which it has not taken, and tries again.
    RetryAfterFailure,
    /// The lock keeps nobody out.
    NoLock,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Running {
    process: Process,
    listening: bool,
    stop: bool,
    /// A notification since it last looked.
    rung: bool,
    /// It has heard a notification at all.
    heard: bool,
    /// A trigger that only this process knows of: it has not set its mark yet, or not for what it has just accepted.
    own: bool,
    /// It has just accepted; the mark comes next.
    accepted: bool,
    /// Its fetch has begun.
    fetching: bool,
    /// For [`Mistake::LockBeforeMark`].
    tried: Option<Seen>,
}

/// Everything at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    mistake: Mistake,
    faults: Faults,
    kinds: [Kind; STARTERS],
    started: [bool; STARTERS],
    running: [Option<Running>; STARTERS],
    knocks: u8,
    /// The kernel's listen queue.
    queue: u8,
    mark: bool,
    owed: bool,
    lock: Option<usize>,
    /// The mark was set, and no fetch has begun since.
    due: bool,
    /// It was set before the fetch in hand.
    served: bool,
    /// It was set when nothing could go wrong any more.
    firm: bool,
    /// Something can go wrong at first, and later not any more.
    watched: bool,
    /// How often a fetch may still bring something.
    news: u8,
    /// Since the last fetch began, the lock was taken, a mark was taken, a notification was heard, or news came: so
    /// there are never more fetches than of those together.
    reason: bool,
    /// What must not be.
    wrong: Option<&'static str>,
}

impl World {
    fn new(kinds: [Kind; STARTERS], knocks: u8, faults: Faults, mistake: Mistake) -> Self {
        let listened = kinds.contains(&Kind::Service);
        Self {
            mistake,
            faults,
            kinds,
            started: [false; STARTERS],
            running: [None; STARTERS],
            knocks: if listened { knocks } else { 0 },
            queue: 0,
            mark: false,
            owed: false,
            lock: None,
            due: false,
            served: false,
            firm: false,
            watched: faults.signals > 0,
            news: u8::from(faults == Faults::default()),
            reason: false,
            wrong: None,
        }
    }

    fn with(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut world = self.clone();
        change(&mut world);
        world
    }

    /// Everything that can happen next.
    fn moves(&self) -> Vec<Self> {
        let mut moves = self.triggers();
        for index in 0..STARTERS {
            let Some(running) = self.running[index] else { continue };
            if running.accepted {
                moves.push(self.with(|world| world.mark_accepted(index)));
                continue;
            }
            moves.extend(self.steps(index));
            let waits =
                matches!(running.process.step, Step::Listen | Step::Pace | Step::Linger | Step::Hush | Step::Follow);
            if running.listening && self.queue != 0 && (waits || running.fetching) {
                moves.push(self.with(|world| world.accept(index)));
            }
        }
        moves
    }

    /// Signals that can come now.
    fn signals(&self) -> Vec<Self> {
        let mut moves = Vec::new();
        if self.faults.signals > 0 {
            for index in 0..STARTERS {
                let Some(running) = self.running[index] else { continue };
                moves.push(self.with(|world| {
                    world.faults.signals -= 1;
                    world.end(index);
                }));
                if !running.stop {
                    moves.push(self.with(|world| {
                        world.faults.signals -= 1;
                        world.running_mut(index).stop = true;
                    }));
                }
            }
        }
        moves
    }

    fn running_mut(&mut self, index: usize) -> &mut Running {
        self.running[index].as_mut().unwrap()
    }

    /// A notification arrives, a process is started.
    fn triggers(&self) -> Vec<Self> {
        let mut moves = Vec::new();
        if self.knocks > 0 {
            moves.push(self.with(|world| {
                world.knocks -= 1;
                world.queue += 1;
            }));
        }
        for index in 0..STARTERS {
            if self.running[index].is_some() {
                continue;
            }
            if !self.started[index] {
                moves.push(self.with(|world| {
                    world.started[index] = true;
                    world.start(index, true);
                }));
            }
            if self.kinds[index] == Kind::Service && self.queue != 0 {
                moves.push(self.with(|world| world.start(index, false)));
            }
        }
        moves
    }

    fn set_mark(&mut self) {
        (self.mark, self.due) = (true, true);
        let unharmed = |running: &Running| !running.stop && !running.process.failed;
        self.firm |= self.watched && self.faults == Faults::default() && self.running.iter().flatten().all(unharmed);
    }

    fn start(&mut self, index: usize, own: bool) {
        let kind = self.kinds[index];
        let listening = matches!(kind, Kind::Service | Kind::Listener);
        let connected = kind == Kind::Connection;
        let knocked = connected || (listening && self.queue != 0);
        let process = Process::new(Start { listening, knocked, follow: kind == Kind::Follower });
        self.running[index] = Some(Running {
            process,
            listening,
            stop: false,
            rung: false,
            heard: false,
            own,
            accepted: connected,
            fetching: false,
            tried: None,
        });
    }

    fn accept(&mut self, index: usize) {
        self.queue -= 1;
        let running = self.running_mut(index);
        (running.own, running.accepted) = (true, true);
    }

    fn mark_accepted(&mut self, index: usize) {
        let marked = self.mark;
        self.set_mark();
        self.mark = marked || self.mistake != Mistake::AcceptWithoutMark;
        let running = self.running_mut(index);
        (running.accepted, running.rung, running.own) = (false, true, false);
        running.heard = running.process.step == Step::Listen;
    }

    /// The process is gone.
    fn end(&mut self, index: usize) {
        if self.running[index].take().is_some_and(|running| running.fetching) {
            self.due |= std::mem::take(&mut self.served);
        }
        if self.lock == Some(index) {
            self.lock = None;
        }
    }

    /// What the next step of a process can come to.
    fn steps(&self, index: usize) -> Vec<Self> {
        let running = self.running[index].unwrap();
        let step = running.process.step;
        let mut outcomes = Vec::new();
        let mut outcome = |seen: Seen, change: &dyn Fn(&mut Self)| {
            outcomes.push(self.with(|world| {
                change(world);
                world.go_on(index, seen);
            }));
        };
        match step {
            Step::Listen if running.heard => outcome(Seen::Rung, &|_| {}),
            Step::Listen if self.queue == 0 => outcome(Seen::Quiet, &|_| {}),
            Step::Listen => {} // somebody waits, and will be accepted
            Step::SetMark if self.mistake == Mistake::LockBeforeMark => outcome(Seen::Done, &|world| {
                let seen = world.try_lock(index);
                world.running_mut(index).tried = Some(seen);
            }),
            Step::SetMark => outcome(Seen::Done, &|world| world.set_own_mark(index)),
            Step::TryLock => match running.tried {
                Some(seen) => outcome(seen, &|world| {
                    world.set_own_mark(index);
                    world.running_mut(index).tried = None;
                }),
                None => outcome(self.clone().try_lock(index), &|world| {
                    world.try_lock(index);
                }),
            },
            Step::Follow if running.stop => outcome(Seen::Done, &|_| {}),
            Step::Follow if self.lock.is_some() => {} // waits
            Step::Follow => outcome(Seen::Locked, &|world| {
                world.try_lock(index);
            }),
            Step::Pace => outcome(Seen::Done, &|world| {
                world.mark &= !(running.stop && world.mistake == Mistake::TakeAndStop);
            }),
            Step::TakeMark => outcome(Seen::Done, &|world| {
                world.reason |= world.mark;
                if world.mistake != Mistake::TakeAfterFetch {
                    world.take_mark();
                }
                world.running_mut(index).rung = false;
            }),
            Step::Work if !running.fetching => {
                outcomes.push(self.with(|world| world.begin_fetch(index)));
                return outcomes;
            }
            Step::Work => {
                if self.news > 0 {
                    outcome(Seen::News, &|world| {
                        world.end_fetch(index, true);
                        (world.news, world.reason) = (world.news - 1, true);
                    });
                }
                outcome(Seen::Nothing, &|world| world.end_fetch(index, true));
                if self.faults.failures || running.stop {
                    outcome(Seen::Nothing, &|world| world.end_fetch(index, false));
                }
            }
            Step::Linger if running.rung => outcome(Seen::Rung, &|world| world.reason |= running.process.holds),
            Step::Linger => outcome(Seen::Quiet, &|_| {}),
            Step::LookAtMark if !running.process.holds && self.mistake == Mistake::NoFinalLook => {
                outcome(Seen::Unmarked, &|_| {});
            }
            Step::LookAtMark => outcome(if self.mark { Seen::Marked } else { Seen::Unmarked }, &|_| {}),
            Step::Unlock => outcome(Seen::Done, &|world| {
                world.lock = world.lock.filter(|holder| *holder != index);
                if world.mistake == Mistake::RetryAfterFailure {
                    world.running_mut(index).process.failed = false;
                }
            }),
            Step::Hush if running.rung => {
                outcomes.push(self.with(|world| world.running_mut(index).rung = false));
                return outcomes;
            }
            Step::Hush => outcome(Seen::Done, &|_| {}),
            Step::Exit => {} // it is gone already
        }
        if self.faults.failures && matches!(step, Step::SetMark | Step::TryLock | Step::TakeMark | Step::Work) {
            outcomes.push(self.with(|world| {
                world.running_mut(index).tried = None;
                if world.running_mut(index).fetching {
                    world.end_fetch(index, false);
                }
                world.go_on(index, Seen::Failed);
            }));
        }
        outcomes
    }

    fn go_on(&mut self, index: usize, seen: Seen) {
        let running = self.running_mut(index);
        running.process = running.process.next(seen, running.stop);
        if self.running.iter().flatten().filter(|running| running.process.holds).count() > 1 {
            self.wrong = Some("two holders");
        }
        if self.running_mut(index).process.step == Step::Exit {
            self.check_end(index);
            self.end(index);
        }
    }

    fn set_own_mark(&mut self, index: usize) {
        self.set_mark();
        let running = self.running_mut(index);
        (running.own, running.rung) = (false, false);
    }

    fn try_lock(&mut self, index: usize) -> Seen {
        if self.lock.is_some() && self.mistake != Mistake::NoLock {
            return Seen::Busy;
        }
        self.lock = Some(index);
        self.reason = true;
        Seen::Locked
    }

    fn take_mark(&mut self) {
        if self.mark {
            (self.mark, self.reason) = (false, true);
            self.owed = self.mistake != Mistake::NothingOwed;
        }
    }

    /// A fetch serves every mark of before.
    fn begin_fetch(&mut self, index: usize) {
        self.running_mut(index).fetching = true;
        self.served = std::mem::take(&mut self.due);
        if !std::mem::take(&mut self.reason) {
            self.wrong = Some("a fetch for nothing");
        }
        if self.lock != Some(index) {
            self.wrong = Some("a fetch without the lock");
        }
    }

    fn end_fetch(&mut self, index: usize, succeeded: bool) {
        let running = self.running_mut(index);
        running.fetching = false;
        let settles = succeeded && !running.stop;
        if self.mistake == Mistake::TakeAfterFetch {
            self.take_mark();
        }
        let served = std::mem::take(&mut self.served);
        if succeeded {
            self.firm &= self.due;
        } else {
            self.due |= served;
        }
        if settles {
            self.owed = false;
        }
    }

    /// Nobody leaves with a trigger that only it knows of, unless something was wrong with it.
    fn check_end(&mut self, index: usize) {
        let Running { own, stop, process, .. } = self.running[index].unwrap();
        if own && !stop && !process.failed {
            self.wrong = Some("a process has left without having set its mark");
        }
    }

    /// What must hold where nothing can happen any more.
    fn check_rest(&mut self, unharmed: bool) {
        let remembered = self.mark || self.owed;
        self.wrong = if self.running.iter().any(Option::is_some) {
            Some("a process waits for ever")
        } else if self.queue != 0 {
            Some("somebody waits to be accepted")
        } else if unharmed && self.due {
            Some("a trigger is lost")
        } else if unharmed && remembered {
            Some("a mark is left behind")
        } else if self.due && self.firm {
            Some("a trigger after everything was well again is lost")
        } else if self.due && !remembered {
            Some("a trigger is lost and left no mark")
        } else {
            None
        };
    }
}

/// Something that must not be, and how it came to it.
struct Violation {
    wrong: &'static str,
    path: Vec<World>,
}

impl fmt::Debug for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}:", self.wrong)?;
        for world in &self.path {
            let World { queue, mark, owed, lock, due, .. } = world;
            write!(f, "queue {queue} due {due} mark {mark} owed {owed} lock {lock:?}")?;
            for (kind, running) in world.kinds.iter().zip(&world.running) {
                let Some(running) = running else { continue };
                let Running { process, stop, rung, accepted, fetching, .. } = running;
                write!(f, " | {kind:?} {:?}", process.step)?;
                for (word, is) in [("stop", stop), ("rung", rung), ("accepted", accepted), ("fetching", fetching)] {
                    write!(f, "{}{}", if *is { " " } else { "" }, if *is { word } else { "" })?;
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// Walks through every state that can be reached, depth first. Tells how many there are. A state that is reached from
/// itself is a loop that needs nobody's doing: triggers and signals are used up.
fn explore(kinds: [Kind; STARTERS], knocks: u8, faults: Faults, mistake: Mistake) -> Result<usize, Violation> {
    let first = World::new(kinds, knocks, faults, mistake);
    let unharmed = faults == Faults::default();
    let mut path = vec![(first.clone(), vec![first.clone()])];
    let mut finished: HashMap<World, bool> = HashMap::new();
    path[0].1 = successors(&first, unharmed);
    finished.insert(first, false);
    while let Some((world, next)) = path.last_mut() {
        let Some(successor) = next.pop() else {
            finished.insert(world.clone(), true);
            path.pop();
            continue;
        };
        let wrong = match finished.get(&successor) {
            Some(true) => continue,
            Some(false) => Some("a loop without an end"),
            None => successor.wrong,
        };
        if let Some(wrong) = wrong {
            let path = path.into_iter().map(|(world, _)| world).chain([successor]).collect();
            return Err(Violation { wrong, path });
        }
        finished.insert(successor.clone(), false);
        let next = successors(&successor, unharmed);
        path.push((successor, next));
    }
    Ok(finished.len())
}

/// A state of rest is followed by itself with the verdict about it, if it is a bad one.
fn successors(world: &World, unharmed: bool) -> Vec<World> {
    let moves = world.moves();
    if moves.is_empty() {
        let verdict = world.with(|world| world.check_rest(unharmed));
        return if verdict.wrong.is_some() { vec![verdict] } else { Vec::new() };
    }
    moves.into_iter().chain(world.signals()).collect()
}

/// Every choice of three starters, at most one of them the service.
fn choices() -> Vec<[Kind; STARTERS]> {
    use Kind::{Connection, Follower, Listener, Plain, Service};
    let mut choices = Vec::new();
    let others = [Listener, Connection, Plain, Follower];
    for (index, second) in others.iter().enumerate() {
        for (third_index, third) in others.iter().enumerate().skip(index) {
            choices.push([Service, *second, *third]);
            for first in &others[third_index..] {
                choices.push([*second, *third, *first]);
            }
        }
    }
    choices
}

/// Explores these choices of starters. Tells how many states there were.
fn explore_all(choices: &[[Kind; STARTERS]], knocks: u8, faults: Faults, mistake: Mistake) -> Result<usize, Violation> {
    choices.iter().map(|kinds| explore(*kinds, knocks, faults, mistake)).sum()
}

/// Few enough for every test run. All of them: `cargo test --release --lib wake::protocol -- --ignored`.
const SOME: [[Kind; STARTERS]; 3] = [
    [Kind::Service, Kind::Connection, Kind::Plain],
    [Kind::Connection, Kind::Plain, Kind::Follower],
    [Kind::Plain, Kind::Follower, Kind::Follower],
];

const NONE: Faults = Faults { signals: 0, failures: false };
const SIGNAL: Faults = Faults { signals: 1, failures: false };
const FAILURES: Faults = Faults { signals: 0, failures: true };

#[test]
fn no_trigger_is_lost_and_no_fetch_is_for_nothing() {
    let states = explore_all(&SOME, 1, NONE, Mistake::None).unwrap();
    assert!(states > 50_000, "{states} states: not everything was explored");
}

#[test]
fn a_signal_at_any_step_leaves_a_mark() {
    explore_all(&SOME[1..], 1, SIGNAL, Mistake::None).unwrap();
    explore_all(&[[Kind::Service, Kind::Plain, Kind::Plain]], 1, SIGNAL, Mistake::None).unwrap();
}

#[test]
fn a_failure_at_any_step_leaves_a_mark_and_ends() {
    explore_all(&SOME, 1, FAILURES, Mistake::None).unwrap();
}

#[test]
#[ignore = "minutes, and gigabytes: millions of states"]
fn every_choice_of_starters_and_three_notifications() {
    let choices = choices();
    let (with_service, others): (Vec<_>, Vec<_>) = choices.iter().partition(|kinds| kinds.contains(&Kind::Service));
    for faults in [NONE, SIGNAL, FAILURES] {
        let mut states = explore_all(&others, 0, faults, Mistake::None).unwrap();
        for kinds in &with_service {
            // A second process that listens makes far more states: one notification shows what there is to show.
            let knocks = if kinds.contains(&Kind::Listener) { 1 } else { 3 };
            states += explore(*kinds, knocks, faults, Mistake::None).unwrap();
        }
        println!("{faults:?}: {states} states");
    }
}

#[track_caller]
fn assert_caught(mistake: Mistake, faults: Faults, wrong: &[&str]) {
    match explore_all(&choices(), 1, faults, mistake) {
        Ok(states) => panic!("{mistake:?} was not noticed in {states} states"),
        Err(violation) => assert!(wrong.contains(&violation.wrong), "{mistake:?}: {violation:?}"),
    }
}

#[test]
fn mistakes_are_noticed() {
    let lost = &["a trigger is lost", "a mark is left behind"][..];
    let forgotten = &["a trigger is lost and left no mark"][..];
    for (mistake, faults, wrong) in [
        (Mistake::NoFinalLook, NONE, lost),
        (Mistake::LockBeforeMark, NONE, lost),
        (Mistake::TakeAfterFetch, NONE, lost),
        (Mistake::NothingOwed, SIGNAL, forgotten),
        (Mistake::AcceptWithoutMark, SIGNAL, forgotten),
        (Mistake::TakeAndStop, SIGNAL, forgotten),
        (Mistake::RetryAfterFailure, FAILURES, &["a loop without an end"]),
        (Mistake::NoLock, NONE, &["two holders"]),
    ] {
        assert_caught(mistake, faults, wrong);
    }
}
