//! The watch over a command that runs: what it prints is taken, and it is told to end when it must.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, read};

use super::{Spec, cancelled};
use crate::action::outcome::Ended;
use crate::executor::output::Output;
use crate::executor::tree::Tree;

/// How soon whatever was killed and is still there is killed again: so much later each time, up to a second. Nobody waits
/// for that, as each end is heard of.
const AGAIN: Duration = Duration::from_millis(100);

/// How often it is, before what is left is left: for some 15 seconds.
const KILLS: u32 = 20;

/// How often it is looked whether the command has ended although no signal has told.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// The same when nothing can print any more: most likely it has.
const LOOK_SOON: Duration = Duration::from_secs(1);

/// What is waited for beside the command's output.
pub(super) struct Watched<'a> {
    /// A child has ended.
    pub(super) child: &'a UnixStream,
    /// SIGTERM: the machine goes down.
    pub(super) stop: &'a UnixStream,
    /// A file has appeared in the run directory.
    pub(super) cancel: &'a OwnedFd,
}

/// What the watch has seen.
pub(super) struct Seen {
    pub(super) ended: Ended,
    /// Something of a command that was to end cannot be killed.
    pub(super) survives: bool,
    /// It was told to end.
    pub(super) was_told: bool,
}

/// A command that was told to end.
struct Ending {
    /// The result, if it is ours; at shutdown it is the command's own.
    ended: Option<Ended>,
    /// When it is killed, the next time.
    kill_at: Instant,
    kills: u32,
}

impl Ending {
    /// The time it has to end by itself is over.
    fn kill(&mut self, tree: &mut Tree) {
        // Who cannot be killed now may be the next time.
        let _ = tree.kill();
        self.kills = self.kills.saturating_add(1);
        self.kill_at = Instant::now() + AGAIN * self.kills.min(10);
    }
}

/// Waits for the command's end; if it was told to end, for that of everything that it has started.
pub(super) fn watch(tree: &mut Tree, spec: &Spec, output: &mut Output, watched: &Watched<'_>) -> io::Result<Seen> {
    let term_at = spec.timeout.map(|timeout| Instant::now() + timeout);
    let mut ending: Option<Ending> = None;
    loop {
        let deadline = ending.as_ref().map_or(term_at, |ending| Some(ending.kill_at));
        let deadline = [deadline, output.last_line.due(Instant::now())].into_iter().flatten().min();
        let ready = wait(output, watched, deadline)?;
        output.read(ready.stdout, ready.stderr);
        if ready.cancel {
            output.last_line.look();
        }
        output.last_line.write(Instant::now());
        if ready.child {
            heed(watched.child, || Some(()));
            tree.reap();
        }
        let cancelled = if ready.cancel { heed(watched.cancel, cancelled) } else { None };
        let stopped = if ready.stop { heed(watched.stop, || Some(())) } else { None };
        let now = Instant::now();
        let Some(ending) = &mut ending else {
            if let Some(status) = tree.ended() {
                return Ok(Seen { ended: how_it_ended(status), survives: false, was_told: false });
            }
            let ended = if term_at.is_some_and(|at| at <= now) {
                spec.timeout.map(Ended::TimedOut)
            } else if let Some(reason) = cancelled {
                Some(Ended::Cancelled(reason))
            } else if stopped.is_some() {
                None
            } else {
                continue;
            };
            ending = Some(Ending { ended, kill_at: now + spec.kill_grace, kills: 0 });
            tree.terminate();
            continue;
        };
        if let Some(status) = tree.ended() {
            // A machine that goes down waits for nobody: once the command has ended, its result must reach the disk.
            if ending.ended.is_none() && ending.kills == 0 && tree.is_left() {
                ending.kill(tree);
            }
            if !tree.is_left() || ending.kills >= KILLS {
                let ended = ending.ended.take().unwrap_or_else(|| how_it_ended(status));
                return Ok(Seen { ended, survives: tree.is_left(), was_told: true });
            }
        }
        if ending.kill_at <= now {
            ending.kill(tree);
        }
    }
}

fn how_it_ended(status: ExitStatus) -> Ended {
    match (status.code(), status.signal()) {
        (Some(code), _) => Ended::Exited(code),
        (None, Some(signal)) => Ended::Signaled(signal),
        (None, None) => Ended::Interrupted(format!("its end is not understood: {status:?}")),
    }
}

/// Empties a descriptor that became readable, and then looks at what that means.
fn heed<T>(readable: impl AsFd, look: impl FnOnce() -> Option<T>) -> Option<T> {
    let mut buffer = [0; 4096];
    let _ = read(readable, &mut buffer);
    look()
}

/// Which of the things that are waited for happened.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "one for each descriptor")]
struct Ready {
    child: bool,
    stdout: bool,
    stderr: bool,
    cancel: bool,
    stop: bool,
}

fn wait(output: &Output, watched: &Watched<'_>, deadline: Option<Instant>) -> io::Result<Ready> {
    // A millisecond more, so that the deadline has passed when this returns.
    let left = deadline.map(|at| at.saturating_duration_since(Instant::now()) + Duration::from_millis(1));
    let is_silent = output.stdout.pipe.is_none() && output.stderr.pipe.is_none();
    let look = if is_silent { LOOK_SOON } else { LOOK_EVERY };
    let timeout = Timespec::try_from(left.map_or(look, |left| left.min(look))).ok();
    let sources = [
        Some(watched.child.as_fd()),
        output.stdout.pipe.as_ref().map(AsFd::as_fd),
        output.stderr.pipe.as_ref().map(AsFd::as_fd),
        Some(watched.cancel.as_fd()),
        Some(watched.stop.as_fd()),
    ];
    let mut fds: Vec<_> = sources.iter().flatten().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    // What a signal writes may have found no room: that it came, or that nothing has for long, is reason enough to look.
    let is_untold = match poll(&mut fds, timeout.as_ref()) {
        Ok(ready) => ready == 0,
        Err(Errno::INTR) => true,
        Err(errno) => return Err(errno.into()),
    };
    let mut events = fds.iter().map(|fd| !fd.revents().is_empty());
    let mut next = |source: &Option<_>| source.is_some() && events.next().unwrap_or_default();
    Ok(Ready {
        child: next(&sources[0]) | is_untold,
        stdout: next(&sources[1]),
        stderr: next(&sources[2]),
        cancel: next(&sources[3]),
        stop: next(&sources[4]),
    })
}
