//! The wake protocol, as a pure step function: what a process does next, given what it has just seen.
//!
//! The files and sockets it speaks of:
//!
//! * the **mark** says that a fetch has to begin. Whoever starts sets it *first* and only then tries the lock; a
//!   notification sets it as soon as it is accepted. The holder of the lock takes it before it fetches: it is *owed*
//!   from then on, until every queue has been fetched. So a process that is killed, stopped or fails leaves the mark,
//!   or what is owed, and the next one knows.
//! * the **lock** has one holder, which works. After it has let go of the lock it looks at the mark once more: a starter
//!   that set its mark after the holder's last look, and found the lock busy, has relied on that.
//!
//! The exploration in `protocol/exploration.rs` walks through every interleaving of several processes that do what
//! this function says.

#[cfg(test)]
mod exploration;

/// How a process was started, as far as it matters here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Start {
    /// It has a listening socket: notifications can still arrive.
    pub listening: bool,
    /// Somebody waited at its listening socket, or it is one notification's own process.
    pub knocked: bool,
    /// Somebody sits at a terminal and wants to see the end of it.
    pub follow: bool,
}

/// What a process does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Wait for the notification that started this process to be accepted. Seen: `Rung`, `Ignored`, or `Quiet` if it
    /// has gone away again.
    Listen,
    /// Set the mark. Seen: `Done`.
    SetMark,
    /// Try to become the holder. Seen: `Locked` or `Busy`.
    TryLock,
    /// Wait for the other holder to end, and become the holder. Seen: `Locked`, or `Done` when told to stop.
    Follow,
    /// After a fetch that brought nothing, leave the collector alone for a while. Seen: `Done`.
    Pace,
    /// Take the mark: from now on a fetch is owed. Seen: `Done`.
    TakeMark,
    /// Fetch, settle what is owed if every queue could be fetched, run, report. Seen: `News` or `Nothing`.
    Work,
    /// Wait for a notification until it is quiet. Seen: `Rung` or `Quiet`.
    Linger,
    /// Look whether the mark is set. Seen: `Marked` or `Unmarked`.
    LookAtMark,
    /// Let go of the lock. Seen: `Done`.
    Unlock,
    /// Accept notifications that this process can do nothing about, until it is quiet: a socket that is left with
    /// somebody waiting starts the program again at once. Seen: `Done`.
    Hush,
    /// End.
    Exit,
}

/// What a step has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Seen {
    /// It is done.
    Done,
    /// This process is the holder now.
    Locked,
    /// Another process is the holder.
    Busy,
    /// The mark is set.
    Marked,
    /// The mark is not set.
    Unmarked,
    /// A notification came.
    Rung,
    /// Only senders came that do not count.
    Ignored,
    /// Nobody knocks any more.
    Quiet,
    /// The fetch brought something new.
    News,
    /// The fetch brought nothing new, or failed.
    Nothing,
    /// The step could not be done, for a reason that lies in this process or its files.
    Failed,
}

/// One process between two steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Process {
    start: Start,
    step: Step,
    /// It holds the lock.
    holds: bool,
    /// A notification, not a person or a timer, is the reason for the next fetch.
    notified: bool,
    /// It can do nothing more.
    failed: bool,
}

impl Process {
    /// A process that has just been started.
    #[must_use]
    pub fn new(start: Start) -> Self {
        let step = if start.knocked { Step::Listen } else { Step::SetMark };
        Self { start, step, holds: false, notified: false, failed: false }
    }

    /// What it does now.
    #[must_use]
    pub fn step(&self) -> Step {
        self.step
    }

    /// The process after its step has come to `seen`. `stop` says that it was told to stop: then it begins nothing more.
    #[must_use]
    pub fn next(mut self, seen: Seen, stop: bool) -> Self {
        self.step = self.after(seen, stop);
        self
    }

    fn after(&mut self, seen: Seen, stop: bool) -> Step {
        if seen == Seen::Failed {
            self.failed = true;
            return self.leave();
        }
        match (self.step, seen) {
            (Step::Listen, Seen::Ignored) if self.start.listening => Step::Linger,
            (Step::Listen, Seen::Ignored) => Step::Exit,
            (Step::Listen, _) => {
                self.notified = seen == Seen::Rung;
                Step::SetMark
            }
            // First the mark, then the lock: whoever holds it sees the mark, or we get the lock.
            (Step::SetMark, _) => Step::TryLock,
            (Step::TryLock | Step::Follow, Seen::Locked) => {
                self.holds = true;
                self.fetch(stop)
            }
            (Step::TryLock, _) if stop => Step::Exit,
            (Step::TryLock, _) if self.start.listening => Step::Linger,
            (Step::TryLock, _) if self.start.follow => Step::Follow,
            (Step::Pace, _) | (Step::Work, Seen::News) if !stop => Step::TakeMark,
            (Step::TakeMark, _) => Step::Work,
            (Step::Work, _) if !stop && self.start.listening => Step::Linger,
            (Step::Work, _) if !stop => Step::LookAtMark,
            (Step::Linger, Seen::Rung) if !stop => {
                self.notified = true;
                if self.holds { self.fetch(stop) } else { Step::SetMark }
            }
            (Step::Linger, _) if self.holds && !stop => Step::LookAtMark,
            (Step::LookAtMark, Seen::Marked) if !stop => {
                self.notified = true;
                if self.holds { self.fetch(stop) } else { Step::TryLock }
            }
            // What was marked between the holder's last look and the end of its lock is for the holder to find.
            (Step::Unlock, _) if !self.failed && !stop => {
                self.holds = false;
                Step::LookAtMark
            }
            (Step::Unlock, _) => {
                self.holds = false;
                self.leave()
            }
            (Step::Pace | Step::Work | Step::Linger | Step::LookAtMark, _) => self.leave(),
            (Step::TryLock | Step::Follow | Step::Hush | Step::Exit, _) => Step::Exit,
        }
    }

    /// A person and a timer need not wait for the next fetch.
    fn fetch(self, stop: bool) -> Step {
        match (stop, self.notified) {
            (true, _) => Step::Unlock,
            (false, true) => Step::Pace,
            (false, false) => Step::TakeMark,
        }
    }

    /// What is left to do before the end.
    fn leave(self) -> Step {
        if self.holds {
            Step::Unlock
        } else if self.failed && self.start.listening && self.step != Step::Hush {
            Step::Hush
        } else {
            Step::Exit
        }
    }
}
