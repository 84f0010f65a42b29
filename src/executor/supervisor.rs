//! The supervisor: a small process around one command, which outlives the handler and leaves a durable record of how the
//! command ended. It is this same executable, on a path of its own before anything else is set up: no runtime, no TLS,
//! no database.
//!
//! It is started in the run directory, with the claim as its standard input:
//!
//! 1. it makes the claim its own, begins a session, and writes an `X` and its own number into the claim, in one piece: if
//!    it is killed from here on, everything in its session is what it has left ([`super::remains`]);
//! 2. it starts the command;
//! 3. it takes what the command prints, in constant memory, leaves what a report does not hold in files beside the claim
//!    ([`super::kept`]), and enforces timeout and cancellation;
//! 4. when the *command* has ended, it hands the end record to the handler that listens, which says when its ledger holds
//!    it. If none listens, the record becomes a file, synced to the disk. A disk that is full loses no result: the
//!    supervisor stays, with the claim held, until one of the two has worked;
//! 5. if a daemon still holds the command's output, it becomes a bare drain of it.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant, SystemTime};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use rustix::io::{Errno, fcntl_dupfd_cloexec, read};
use rustix::process::{Pid, Signal, kill_process_group, setsid};
use serde::{Deserialize, Serialize};
use signal_hook::consts::{SIGCHLD, SIGTERM};

use crate::action::outcome::Ended;
use crate::action::output::Clamp;
use crate::action::time::Timestamp;
use crate::crash;
use crate::executor::output::Output;
use crate::executor::record::{self, Record};
use crate::executor::{drain, remains, run};

/// The argument that makes this executable a supervisor of the run directory it stands in.
pub const ARGUMENT: &str = "supervise";

/// The file that says what to run.
const SPEC: &str = "spec";

/// How long a handler may take to say that its ledger holds the result.
const RECORDED_WITHIN: Duration = Duration::from_secs(5);

/// How often a record that nobody takes and that the disk does not take either is offered again.
const OFFER_EVERY: Duration = Duration::from_secs(1);

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
    let done = supervise();
    if let Err(err) = &done {
        // For the handler, which reads it where there is no record.
        let _ = fs::write(run::ERROR, err.to_string());
        // For a person who typed its name; the handler has it go nowhere.
        eprintln!("opensvc-actions: {ARGUMENT} is for the handler alone (see --help): {err}");
    }
    done.is_ok()
}

/// An error before the `X` is in the claim means that the command never ran, and the free claim says so.
fn supervise() -> io::Result<()> {
    crash::point("supervisor-begun");
    let mut claim = take_claim()?;
    let spec: Spec = serde_json::from_slice(&fs::read(SPEC)?)?;
    let stop = readable_on(SIGTERM)?;
    let child_signal = readable_on(SIGCHLD)?;
    setsid()?;
    // First the watch, then the look: a cancellation between the two is seen by one of them.
    let cancel = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    inotify::add_watch(&cancel, ".", inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO)?;
    if let Some(reason) = cancelled() {
        let record = Record::of(Ended::Cancelled(reason), Duration::ZERO, Clamp::new(), Clamp::new());
        return conclude(&record, &stop);
    }
    crash::point("supervisor-unmarked");
    claim.write_all(format!("X{}", remains::this_supervisor()).as_bytes())?;
    crash::point("supervisor-marked");
    let started = Instant::now();
    let mut child = match spawn(&spec) {
        Ok(child) => child,
        Err(err) => return conclude(&not_started(&spec, &err), &stop),
    };
    crash::point("supervisor-spawned");
    note_leader(&mut claim, &child);
    crash::point("supervisor-noted");
    let mut output = Output::of(&mut child, spec.kept_output);
    let watched = Watched { child: &child_signal, stop: &stop, cancel: &cancel };
    let ended = watch(&mut child, &spec, &mut output, &watched)?;
    crash::point("supervisor-ended");
    let (stdout, stdout_pipe) = output.stdout.finish();
    let (stderr, stderr_pipe) = output.stderr.finish();
    conclude(&Record::of(ended, started.elapsed(), stdout, stderr), &stop)?;
    drop(claim); // from here on this run is over
    drain::become_one(stdout_pipe, stderr_pipe)
}

/// A descriptor that becomes readable with each signal of this kind.
fn readable_on(signal: i32) -> io::Result<UnixStream> {
    let (reader, writer) = UnixStream::pair()?;
    reader.set_nonblocking(true)?;
    signal_hook::low_level::pipe::register(signal, writer)?;
    Ok(reader)
}

/// The claim came as standard input: it moves out of the way of the command, which gets none of it.
fn take_claim() -> io::Result<File> {
    let claim = fcntl_dupfd_cloexec(io::stdin().as_fd(), 3)?;
    let null = File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    Ok(File::from(claim))
}

/// Leaves the command's number and start time in the claim as well. Missing it changes nothing else.
fn note_leader(claim: &mut File, child: &Child) {
    let leader = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if let Some(line) = leader.and_then(remains::leader) {
        let _ = claim.write_all(line.as_bytes());
    }
}

fn spawn(spec: &Spec) -> io::Result<Child> {
    use std::os::unix::ffi::OsStrExt as _;
    let environment = spec
        .environment
        .iter()
        .map(|(name, value)| (std::ffi::OsStr::from_bytes(name), std::ffi::OsStr::from_bytes(value)));
    Command::new(&spec.program)
        .args(&spec.args)
        .env_clear()
        .envs(environment)
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
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
        _ => {
            let mut record = Record::of(Ended::NotExecutable(what.clone()), Duration::ZERO, Clamp::new(), Clamp::new());
            record.ended = None;
            record.not_started = Some(what);
            return record;
        }
    };
    Record::of(ended, Duration::ZERO, Clamp::new(), Clamp::new())
}

/// What is waited for beside the command's output.
struct Watched<'a> {
    /// A child has ended.
    child: &'a UnixStream,
    /// SIGTERM: the machine goes down.
    stop: &'a UnixStream,
    /// A file has appeared in the run directory.
    cancel: &'a OwnedFd,
}

/// A command that was told to end.
struct Ending {
    /// The result, if it is ours; at shutdown it is the command's own.
    ended: Option<Ended>,
    /// When SIGTERM was not enough; `None` once SIGKILL was sent.
    kill_at: Option<Instant>,
}

/// Waits for the command's end.
fn watch(child: &mut Child, spec: &Spec, output: &mut Output, watched: &Watched<'_>) -> io::Result<Ended> {
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let term_at = spec.timeout.map(|timeout| Instant::now() + timeout);
    let mut ending: Option<Ending> = None;
    loop {
        let deadline = ending.as_ref().map_or(term_at, |ending| ending.kill_at);
        let ready = wait(output, watched, deadline)?;
        if ready.stdout {
            output.stdout.read();
        }
        if ready.stderr {
            output.stderr.read();
        }
        if ready.child {
            heed(watched.child, || Some(()));
            if let Some(status) = child.try_wait()? {
                return Ok(match ending {
                    Some(ending) => {
                        signal(group, Signal::KILL); // what of its group did not heed the SIGTERM goes with it
                        ending.ended.unwrap_or_else(|| how_it_ended(status))
                    }
                    None => how_it_ended(status),
                });
            }
        }
        let cancelled = if ready.cancel { heed(watched.cancel, cancelled) } else { None };
        let stopped = if ready.stop { heed(watched.stop, || Some(())) } else { None };
        let now = Instant::now();
        match &mut ending {
            Some(ending) if ending.kill_at.is_some_and(|at| at <= now) => {
                ending.kill_at = None;
                signal(group, Signal::KILL);
            }
            Some(_) => {}
            None => {
                let ended = if term_at.is_some_and(|at| at <= now) {
                    spec.timeout.map(Ended::TimedOut)
                } else if let Some(reason) = cancelled {
                    Some(Ended::Cancelled(reason))
                } else if stopped.is_some() {
                    None
                } else {
                    continue;
                };
                ending = Some(Ending { ended, kill_at: Some(now + spec.kill_grace) });
                signal(group, Signal::TERM);
            }
        }
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
    let timeout = deadline.map(|at| at.saturating_duration_since(Instant::now())).and_then(|left| {
        // A millisecond more, so that the deadline has passed when this returns.
        Timespec::try_from(left + Duration::from_millis(1)).ok()
    });
    let sources = [
        Some(watched.child.as_fd()),
        output.stdout.pipe.as_ref().map(AsFd::as_fd),
        output.stderr.pipe.as_ref().map(AsFd::as_fd),
        Some(watched.cancel.as_fd()),
        Some(watched.stop.as_fd()),
    ];
    let mut fds: Vec<_> = sources.iter().flatten().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    match poll(&mut fds, timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    let mut events = fds.iter().map(|fd| !fd.revents().is_empty());
    let mut next = |source: &Option<_>| source.is_some() && events.next().unwrap_or_default();
    Ok(Ready {
        child: next(&sources[0]),
        stdout: next(&sources[1]),
        stderr: next(&sources[2]),
        cancel: next(&sources[3]),
        stop: next(&sources[4]),
    })
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

fn how_it_ended(status: ExitStatus) -> Ended {
    match (status.code(), status.signal()) {
        (Some(code), _) => Ended::Exited(code),
        (None, Some(signal)) => Ended::Signaled(signal),
        (None, None) => Ended::Interrupted(format!("its end is not understood: {status}")),
    }
}

fn signal(group: Option<Pid>, signal: Signal) {
    if let Some(group) = group {
        // No such group: it has just ended by itself.
        let _ = kill_process_group(group, signal);
    }
}

impl Record {
    fn of(ended: Ended, duration: Duration, stdout: Clamp, stderr: Clamp) -> Self {
        Self {
            not_started: None,
            stdout: stdout.finish(None),
            stderr: stderr.finish(ended.reason().as_deref()),
            ended: Some(ended),
            ended_at: now(),
            duration_usec: u64::try_from(duration.as_micros()).unwrap_or(u64::MAX),
        }
    }
}

/// Finds a handler whose ledger takes the record, or makes it durable here. At shutdown each is tried once more.
fn conclude(record: &Record, stop: &UnixStream) -> io::Result<()> {
    let bytes = record.encode();
    loop {
        if a_handler_took(&bytes) {
            crash::point("supervisor-told");
            return Ok(());
        }
        crash::point("supervisor-refused");
        let written = match write_record(&bytes) {
            // The run directory is gone: a handler that died before it could answer had taken the record, and another
            // one has reported it.
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
            written => written,
        };
        let mut fds = [PollFd::new(stop, PollFlags::IN)];
        // No sleep where it was written; else until there may be room again, or the machine goes down.
        if written.is_ok() || poll(&mut fds, Timespec::try_from(OFFER_EVERY).ok().as_ref()).is_ok_and(|ready| ready > 0)
        {
            return written;
        }
    }
}

/// Offers the record to the handler that waits for this run, and waits until its ledger holds it.
fn a_handler_took(record: &[u8]) -> bool {
    let offered = UnixStream::connect(run::SOCKET).and_then(|mut handler| {
        handler.set_write_timeout(Some(RECORDED_WITHIN))?;
        handler.set_read_timeout(Some(RECORDED_WITHIN))?;
        handler.write_all(record)?;
        handler.shutdown(Shutdown::Write)?;
        crash::point("supervisor-offered");
        handler.read_exact(&mut [0])
    });
    offered.is_ok()
}

/// Writes the record, whole or not at all, and syncs it.
fn write_record(record: &[u8]) -> io::Result<()> {
    let draft = format!("{}.new", record::FILE);
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(record)?;
    crash::point("supervisor-drafted");
    file.sync_all()?;
    crash::point("supervisor-synced");
    fs::rename(&draft, record::FILE)?;
    crash::point("supervisor-recorded");
    // The names: the record's, the run directory's, and that of the directory of all runs.
    for directory in [".", "..", "../.."] {
        File::open(directory)?.sync_all()?;
    }
    crash::point("supervisor-kept");
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "the clock is read where the command is seen to end")]
fn now() -> Timestamp {
    Timestamp::from_system_time(SystemTime::now())
}
