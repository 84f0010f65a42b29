//! The supervisor: a small process around one command, which outlives the handler and leaves a durable record of how the
//! command ended. It is this same executable, on a path of its own before anything else is set up: no runtime, no TLS,
//! no database.
//!
//! It makes itself ready, and takes its order (`order.rs`): a run directory, in which it stands from then on, and the
//! claim in it. Then
//!
//! 1. it writes an `X` and its own number into the claim, in one piece: if it is killed from here on, everything in its
//!    session is what it has left ([`super::remains`]);
//! 2. it starts the command, with nothing that it got itself without having asked for it (`inherited.rs`), as the user
//!    that a rule names ([`super::run_as`]);
//! 3. it takes what the command prints, in constant memory, leaves what a report does not hold in files beside the claim
//!    ([`super::kept`]), and enforces timeout and cancellation on everything that the command has started
//!    ([`super::tree`]);
//! 4. when the *command* has ended, it hands the end record to the handler that listens, which says when its ledger holds
//!    it. If none listens, the record becomes a file, synced to the disk. A disk that is full loses no result: the
//!    supervisor stays, with the claim held, until one of the two has worked;
//! 5. if a daemon still holds the command's output, it becomes a bare drain of it ([`super::drain`]). If nothing at all is
//!    left of the command, it waits for the handler's next order instead, and ends with that handler.

mod conclude;
mod watch;

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{MemfdFlags, Mode, inotify, memfd_create};
use rustix::io::Errno;
use rustix::process::{getpid, getsid, set_child_subreaper, setsid, umask};
use serde::{Deserialize, Serialize};
use signal_hook::consts::{SIGCHLD, SIGTERM};

use crate::action::outcome::Ended;
use crate::action::output::Clamp;
use crate::action::time::Timestamp;
use crate::action::usage::Usage;
use crate::crash;
use crate::executor::order::Order;
use crate::executor::output::Output;
use crate::executor::record::Record;
use crate::executor::remains::ThisSupervisor;
use crate::executor::run_as::{Back, Failure, Identity, NotFound};
use crate::executor::tree::{Group, Tree};
use crate::executor::{drain, inherited, remains, run};

use conclude::conclude;
use watch::{Seen, Watched, watch};

/// The argument that makes this executable a supervisor of the run directory it stands in.
pub const ARGUMENT: &str = "supervise";

/// What a supervisor says behind the record that it hands to the handler that gave the order: it would see to another
/// command, or it would not.
pub const GOES_ON: u8 = b'N';
const IS_LAST: u8 = b'L';

/// The file that says what to run.
const SPEC: &str = "spec";

/// What to run, and within which bounds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// The program, absolute.
    pub program: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its whole environment, as bytes that need not be UTF-8.
    pub environment: Vec<(Vec<u8>, Vec<u8>)>,
    /// It is killed when it runs longer.
    pub timeout: Option<Duration>,
    /// Between SIGTERM and SIGKILL.
    pub kill_grace: Duration,
    /// How many bytes of each stream stay on this node.
    pub kept_output: u64,
    /// The user that it runs as; `None`: root.
    #[serde(default)]
    pub user: Option<String>,
    /// What it reads on its standard input; `None`: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
}

impl Spec {
    /// Leaves it in a run directory.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, run: &std::path::Path) -> io::Result<()> {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(run.join(SPEC))?;
        file.write_all(&serde_json::to_vec(self)?)
    }
}

/// The whole life of a supervisor. Tells whether it could do its work.
#[must_use]
pub fn run() -> bool {
    // First what needs no action, as an order may not have come yet; an error of that is told where the action is.
    let mut ready = Ready::make();
    let mut order = Order::wait(stop_of(&ready));
    let done = loop {
        match order.map(|order| order.map(|order| see_to(ready.as_mut(), order))) {
            Ok(Some(Ok(Some(handler)))) => {
                // While nobody waits.
                if let Ok(ready) = &mut ready {
                    ready.this.renew();
                }
                order = Order::next(handler, stop_of(&ready));
            }
            Ok(Some(Ok(None)) | None) => break Ok(()),
            Ok(Some(Err(err))) | Err(err) => break Err(err),
        }
    };
    if let Err(err) = &done {
        // For a person who typed its name; the handler has it go nowhere.
        let _ = writeln!(io::stderr(), "opensvc-actions: {ARGUMENT} is for the handler alone (see --help): {err}");
    }
    done.is_ok()
}

/// By what a supervisor hears that it is told to end, if it could be made ready.
fn stop_of(ready: &io::Result<Ready>) -> Option<&UnixStream> {
    ready.as_ref().ok().map(|ready| &ready.stop)
}

/// Sees to one run. Gives the handler back for which it would see to another.
fn see_to(ready: Result<&mut Ready, &mut io::Error>, order: Order) -> io::Result<Option<UnixStream>> {
    crash::point("supervisor-begun");
    let done = match ready {
        Ok(ready) => supervise(ready, order),
        Err(err) => Err(io::Error::new(err.kind(), err.to_string())),
    };
    if let Err(err) = &done {
        // For the handler, which reads it where there is no record.
        let _ = fs::write(run::ERROR, err.to_string());
    }
    done
}

/// What a supervisor needs for whichever action.
struct Ready {
    /// Becomes readable with SIGTERM.
    stop: UnixStream,
    /// Becomes readable when a child has ended.
    child: UnixStream,
    /// Watches the run directory, once that is known.
    cancel: OwnedFd,
    this: ThisSupervisor,
    /// The control group of the command, where this process is the main one of a unit: then there is one command.
    group: Option<Group>,
}

impl Ready {
    fn make() -> io::Result<Self> {
        crash::point("supervisor-waiting");
        inherited::close_descriptors()?;
        umask(Mode::from_raw_mode(0o022));
        inherited::heed_signals()?;
        let (stop, child) = (readable_on(SIGTERM)?, readable_on(SIGCHLD)?);
        begin_session()?;
        let cancel = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        set_child_subreaper(Some(getpid()))?;
        Ok(Self { stop, child, cancel, this: ThisSupervisor::here(), group: Group::own() })
    }
}

/// An error before the `X` is in the claim means that the command never ran, and the free claim says so.
///
/// Gives the handler back if this process can see to another command of it: when nothing at all is left of this one, and
/// nothing in this process has come of it either.
fn supervise(ready: &mut Ready, order: Order) -> io::Result<Option<UnixStream>> {
    let (Ready { stop, child: child_signal, cancel, this, group }, Order { mut claim, handler }) = (ready, order);
    let cancel = &*cancel;
    let spec: Spec = serde_json::from_slice(&fs::read(SPEC)?)?;
    let identity = match spec.user.as_deref() {
        Some(name) => inherited::closing_what_opens(|| Identity::find(name).map(Some))?,
        None => Ok(None),
    };
    // Whoever knows the users may keep something in mind.
    let may_go_on = spec.user.is_none();
    // First the watch, then the look: a cancellation between the two is seen by one of them.
    let watched = inotify::add_watch(cancel, ".", inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO)?;
    if let Some(reason) = cancelled() {
        return conclude(&without_output(Ended::Cancelled(reason)), handler, false, stop);
    }
    let identity = match found(&spec, identity) {
        Ok(identity) => identity,
        Err(record) => return conclude(&record, handler, false, stop),
    };
    let mut tree = Tree::new(group.take());
    crash::point("supervisor-unmarked");
    claim.write_all(format!("X{}", this.note(tree.group())).as_bytes())?;
    crash::point("supervisor-marked");
    let started = Instant::now();
    let (stdout, stderr) = match inherited::unspared(|| start(&mut tree, &spec, identity.as_ref())) {
        Ok(pipes) => pipes,
        Err(record) => return conclude(&record, handler, false, stop),
    };
    crash::point("supervisor-spawned");
    note_leader(&mut claim, &tree);
    crash::point("supervisor-noted");
    let mut output = Output::of(stdout, stderr, spec.kept_output);
    let seen = watch(&mut tree, &spec, &mut output, &Watched { child: child_signal, stop, cancel })?;
    crash::point("supervisor-ended");
    let duration = started.elapsed();
    let [(stdout, stdout_pipe), (stderr, stderr_pipe)] = output.finish();
    let is_clean = !seen.was_told && !tree.is_left() && stdout_pipe.is_none() && stderr_pipe.is_none();
    let record = Record::of(seen, duration, stdout, stderr, tree.usage());
    let handler = conclude(&record, handler, may_go_on && is_clean && tree.group().is_none(), stop)?;
    drop(claim); // from here on this run is over
    if handler.is_some() {
        let _ = inotify::remove_watch(cancel, watched);
        return Ok(handler);
    }
    drain::become_one(stdout_pipe, stderr_pipe)?;
    Ok(None)
}

/// A session of its own, without a terminal. The main process of a unit has one already.
fn begin_session() -> io::Result<()> {
    match setsid() {
        Err(Errno::PERM) if getsid(None) == Ok(getpid()) => Ok(()),
        begun => Ok(begun.map(drop)?),
    }
}

/// A descriptor that becomes readable with each signal of this kind.
pub(super) fn readable_on(signal: i32) -> io::Result<UnixStream> {
    let (reader, writer) = UnixStream::pair()?;
    reader.set_nonblocking(true)?;
    signal_hook::low_level::pipe::register(signal, writer)?;
    Ok(reader)
}

/// Leaves the command's number and start time in the claim as well. Missing it changes nothing else.
fn note_leader(claim: &mut File, tree: &Tree) {
    if let Some(line) = tree.leader().and_then(remains::leader) {
        let _ = claim.write_all(line.as_bytes());
    }
}

/// Who the command is to run as, if that can be known; else the record that says why it has not run. An unknown user is
/// the action's result; a directory of users that does not answer is this machine's trouble.
fn found(spec: &Spec, identity: Result<Option<Identity>, NotFound>) -> Result<Option<Identity>, Box<Record>> {
    let name = spec.user.as_deref().unwrap_or_default();
    identity.map_err(|not_found| {
        Box::new(match not_found {
            NotFound::Unknown => {
                let why = format!("it is to run as user {name:?}, whom this machine does not know");
                without_output(Ended::Refused(why))
            }
            NotFound::Unanswered(err) => not_yet_started(format!("cannot look user {name:?} up: {err}")),
        })
    })
}

/// The pipes of both output streams of a command.
type Pipes = (Option<OwnedFd>, Option<OwnedFd>);

/// Starts the command; else the record that says why it has not run.
fn start(tree: &mut Tree, spec: &Spec, identity: Option<&Identity>) -> Result<Pipes, Box<Record>> {
    let not_started = |err: &io::Error| Box::new(not_started(spec, err));
    let given = spec.input.as_deref().map(input).transpose().map_err(|err| not_started(&err))?;
    let (mut command, back) = match identity {
        None => (Command::new(&spec.program), None),
        Some(identity) => {
            let (command, back) = identity.command(&spec.program, given.as_ref()).map_err(|err| not_started(&err))?;
            (command, Some(back))
        }
    };
    equip(&mut command, spec, identity);
    if identity.is_none() {
        command.stdin(given.map_or_else(Stdio::null, Stdio::from));
    }
    let child = tree.start(&mut command).map_err(|err| not_started(&err))?;
    drop(command); // and with it our copy of the way back
    let Some(Err(failure)) = back.map(Back::began) else {
        return Ok((child.stdout.take().map(OwnedFd::from), child.stderr.take().map(OwnedFd::from)));
    };
    let _ = child.wait(); // it has nothing left to do
    Err(match failure {
        Failure::Exec(err) => not_started(&err),
        Failure::Become(err) => {
            let name = spec.user.as_deref().unwrap_or_default();
            Box::new(not_yet_started(format!("cannot become user {name:?}: {err}")))
        }
    })
}

/// Sees to it that the command is started with nothing but what is said here: descriptors, directory, environment, and a
/// process group of its own.
fn equip(command: &mut Command, spec: &Spec, identity: Option<&Identity>) {
    use std::os::unix::ffi::OsStrExt as _;
    let environment = spec
        .environment
        .iter()
        .map(|(name, value)| (std::ffi::OsStr::from_bytes(name), std::ffi::OsStr::from_bytes(value)));
    command
        .args(&spec.args)
        .env_clear()
        .envs(environment)
        .current_dir("/")
        .process_group(0)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(identity) = identity {
        command.envs(identity.environment());
    }
}

/// Something to read that is all there already: nobody has to write while the command reads, or hears that it does not want
/// to.
pub(super) fn input(text: &str) -> io::Result<File> {
    let mut file = File::from(memfd_create("input", MemfdFlags::CLOEXEC)?);
    file.write_all(text.as_bytes())?;
    file.rewind()?;
    Ok(file)
}

/// A program that is not there or cannot be executed is the action's result. Any other failure is this machine's (no
/// memory, no process) and says nothing about the action.
fn not_started(spec: &Spec, err: &io::Error) -> Record {
    let what = format!("{}: {err}", spec.program);
    let ended = match Errno::from_io_error(err) {
        Some(Errno::NOENT | Errno::NOTDIR) => Ended::NotFound(what),
        Some(Errno::ACCESS | Errno::NOEXEC | Errno::PERM | Errno::ISDIR | Errno::LOOP | Errno::TOOBIG) => {
            Ended::NotExecutable(what)
        }
        _ => return not_yet_started(what),
    };
    without_output(ended)
}

/// The record of a command that could not be started, which says nothing about the action: it may be tried again.
fn not_yet_started(why: String) -> Record {
    let record = without_output(Ended::NotExecutable(String::new()));
    Record { ended: None, not_started: Some(why), stderr: String::new(), ..record }
}

/// The record of a command that has not run.
fn without_output(ended: Ended) -> Record {
    let seen = Seen { ended, survives: false, was_told: false };
    Record::of(seen, Duration::ZERO, Clamp::new(), Clamp::new(), None)
}

/// The reason of a cancellation, if there is one.
#[expect(clippy::option_option, reason = "cancelled or not, and if so, with a reason or without")]
fn cancelled() -> Option<Option<String>> {
    let mut text = String::new();
    let file = File::open(run::CANCEL).ok()?;
    // Whoever may write here is root; what is no text cancels without a reason.
    let _ = file.take(1024).read_to_string(&mut text);
    Some(Some(text.trim().to_owned()).filter(|reason| !reason.is_empty()))
}

impl Record {
    fn of(seen: Seen, duration: Duration, stdout: Clamp, stderr: Clamp, usage: Option<Usage>) -> Self {
        let reason = reason(&seen, usage.as_ref());
        Self {
            not_started: None,
            stdout: stdout.finish(None),
            stderr: stderr.finish(reason.as_deref()),
            ended: Some(seen.ended),
            ended_at: now(),
            duration_usec: u64::try_from(duration.as_micros()).unwrap_or(u64::MAX),
            usage,
        }
    }
}

/// The line that ends the reported stderr: why the result is ours, and what of a command's end it cannot tell by itself.
fn reason(seen: &Seen, usage: Option<&Usage>) -> Option<String> {
    let mut reason = seen.ended.reason();
    let mut add = |remark: &str| {
        let before = reason.take().map_or_else(|| "opensvc-actions: ".to_owned(), |reason| format!("{reason}; "));
        reason = Some(before + remark);
    };
    if let Some(remark) = usage.and_then(Usage::lack_of_memory) {
        add(&remark);
    }
    if seen.survives {
        add("not all of its processes can be killed");
    }
    reason
}

#[expect(clippy::disallowed_methods, reason = "the clock is read where the command is seen to end")]
fn now() -> Timestamp {
    Timestamp::from_system_time(SystemTime::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lack_of_memory_and_survivors_are_said_beside_the_reason_or_alone() {
        let said = |ended: Ended, survives: bool, kills: u64| {
            reason(
                &Seen { ended, survives, was_told: false },
                Some(&Usage { oom_kills: Some(kills), ..Usage::default() }),
            )
        };
        assert_eq!(said(Ended::Exited(1), false, 0), None);
        let one = "the kernel killed one of its processes for want of memory";
        assert_eq!(said(Ended::Exited(1), false, 1), Some(format!("opensvc-actions: {one}")));
        let killed = "opensvc-actions: killed by signal 9 (SIGKILL)";
        assert_eq!(said(Ended::Signaled(9), false, 1), Some(format!("{killed}; {one}")));
        let many = "the kernel killed 3 of its processes for want of memory";
        let all = format!("{killed}; {many}; not all of its processes can be killed");
        assert_eq!(said(Ended::Signaled(9), true, 3), Some(all));
    }
}
