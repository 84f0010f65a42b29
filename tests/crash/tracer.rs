//! A handler, its supervisors and what they do until they execute a command, system call by system call, with one fault
//! wherever one is wanted: what `strace -f -e inject=…` does, but for one process of several, counted from its first
//! instruction and told apart by what it is and not by its number.
//!
//! A thread traces what it has started itself, and waits for nobody else's.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::process::Command;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Event, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::names::name;
use crate::story::Story;
use crate::support::DEADLINE;

/// Whose system call it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Who {
    /// The handler, with all of its threads.
    Handler,
    /// The nth process that the handler has made, from 0, from the first thing that it does: it becomes a supervisor, of
    /// one action after the other.
    Supervisor(usize),
    /// The nth process that supervisors have made, from 0, until it executes the command: of a run without a fault before
    /// it, that of the nth action.
    Starting(usize),
}

/// What a descriptor is, by which a call can fail in other ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// Of a file system.
    File,
    Directory,
    Socket,
    /// A socket for which nobody waits in a call.
    ReadySocket,
    Pipe,
    /// An event counter, a watch, a device.
    Other,
    /// The first argument is none.
    None,
}

/// A system call that was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) who: Who,
    pub(crate) name: &'static str,
    /// The how manieth of this process, from 1.
    pub(crate) nth: usize,
    /// The how manieth of this name and of this kind of this process, from 1.
    pub(crate) of_name: usize,
    pub(crate) kind: Kind,
    /// What it is asked to do, where the name does not tell: the second argument.
    pub(crate) what: u64,
    /// Before the program's own first: the loader's and the language's runtime.
    pub(crate) is_early: bool,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The process is killed before it makes its nth call.
    Kill(Who, usize),
    /// The nth call of this name and kind fails, and is not made (but a descriptor is closed, whatever the kernel says).
    Fail(Who, &'static str, Kind, usize, Errno),
    /// The nth call of this name about a file fails, and every one after it: the disk.
    FailOn(Who, &'static str, usize, Errno),
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Traced {
    /// The handler's exit status; a signal is 128 and its number.
    pub(crate) code: i32,
    /// What the handler said on standard error.
    pub(crate) said: String,
    /// Every call, in order, until the fault.
    pub(crate) calls: Vec<Call>,
    /// How supervisors, and what was to become a command, have ended, if they have ended before the handler.
    pub(crate) ends: Vec<(Who, i32)>,
    /// How often the fault was given.
    pub(crate) fired: usize,
    /// How many orders supervisors had taken when it was given first: each is one action, and they come one after the other.
    pub(crate) orders: usize,
    /// It did not end by itself.
    pub(crate) hung: bool,
}

/// The shell sleeps until it is traced.
const BECOME_IT: &str = "kill -STOP $$; exec \"$@\"";

/// How many times a disk of a supervisor's fails. Until it has room again it stays, as it must.
const FAILS: usize = 12;

/// One handler's run, with a fault or without one.
pub(crate) fn run(story: &Story, fault: Option<Fault>) -> Traced {
    let node = &story.world.node;
    let shell = node.program("/bin/sh".into()).args(["-c", BECOME_IT, "sh"]);
    let (command, stderr) = shell.arg(node.path("bin/opensvc-actions")).arg("--root").arg(node.root()).command();
    let (ended, watched) = channel::<()>();
    thread::scope(|scope| {
        let watchdog = scope.spawn(move || {
            let hung = matches!(watched.recv_timeout(DEADLINE), Err(RecvTimeoutError::Timeout));
            let all = if hung { node.processes() } else { Vec::new() };
            for pid in all {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            hung
        });
        let mut tracer = Tracer::start(command, fault);
        tracer.run();
        drop(ended);
        Traced {
            code: tracer.code.unwrap(),
            said: String::from_utf8_lossy(&fs::read(stderr).unwrap()).into_owned(),
            calls: tracer.calls,
            ends: tracer.ends,
            fired: tracer.fired,
            orders: tracer.orders,
            hung: watchdog.join().unwrap(),
        }
    })
}

/// A thread of a process that is traced.
#[derive(Clone, Copy, Debug)]
struct Tracee {
    /// `None`: the shell, which is not the handler yet.
    who: Option<Who>,
    /// Its call is to be answered with this.
    answer: Option<Errno>,
}

/// Whether a program has got past its loader and its runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begun {
    No,
    Nearly,
    Yes,
}

/// What is still to be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Every call.
    Calls,
    /// How they end.
    Ends,
    /// Nothing: they are let go.
    Nothing,
}

struct Tracer {
    handler: Pid,
    code: Option<i32>,
    fault: Option<Fault>,
    fired: usize,
    tracees: HashMap<Pid, Tracee>,
    /// They have begun before their parent has said whose they are.
    unknown: Vec<Pid>,
    mode: Mode,
    /// How supervisors, and what was to become a command, have ended.
    ends: Vec<(Who, i32)>,
    supervisors: usize,
    /// How many processes supervisors have made.
    starting: usize,
    /// How many orders they have taken, until the fault.
    orders: usize,
    counts: HashMap<Who, usize>,
    counts_of_names: HashMap<(Who, &'static str, Kind), usize>,
    /// Those whose program has made its own first call.
    begun: HashMap<Who, Begun>,
    calls: Vec<Call>,
}

impl Tracer {
    #[expect(clippy::zombie_processes, reason = "the tracer waits for it")]
    fn start(mut command: Command, fault: Option<Fault>) -> Self {
        let child = command.spawn().unwrap();
        let handler = Pid::from_raw(i32::try_from(child.id()).unwrap());
        let flags = WaitPidFlag::WUNTRACED | WaitPidFlag::__WNOTHREAD;
        assert!(matches!(waitpid(handler, Some(flags)), Ok(WaitStatus::Stopped(..))), "the shell does not sleep");
        let options = Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK
            | Options::PTRACE_O_TRACEEXEC
            | Options::PTRACE_O_EXITKILL;
        ptrace::seize(handler, options).unwrap();
        kill(handler, Signal::SIGCONT).unwrap();
        Self {
            handler,
            code: None,
            fault,
            fired: 0,
            tracees: HashMap::from([(handler, Tracee { who: None, answer: None })]),
            unknown: Vec::new(),
            mode: Mode::Calls,
            ends: Vec::new(),
            supervisors: 0,
            starting: 0,
            orders: 0,
            counts: HashMap::new(),
            counts_of_names: HashMap::new(),
            begun: HashMap::new(),
            calls: Vec::new(),
        }
    }

    fn run(&mut self) {
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        while self.code.is_none() || !self.tracees.is_empty() {
            match waitpid(None, Some(flags)).unwrap() {
                WaitStatus::Exited(pid, code) => self.ended(pid, code),
                WaitStatus::Signaled(pid, signal, _) => self.ended(pid, 128 + signal as i32),
                WaitStatus::PtraceSyscall(pid) => {
                    self.called(pid);
                    self.resume(pid, None);
                }
                WaitStatus::PtraceEvent(pid, _, event) => self.happened(pid, event),
                WaitStatus::Stopped(pid, signal) => self.resume(pid, Some(signal)),
                other => panic!("{other:?}"),
            }
        }
    }

    fn ended(&mut self, pid: Pid, code: i32) {
        let who = self.tracees.remove(&pid).and_then(|tracee| tracee.who);
        self.unknown.retain(|unknown| *unknown != pid);
        self.ends.extend(who.filter(|who| *who != Who::Handler).map(|who| (who, code)));
        if pid == self.handler {
            self.code = Some(code);
            // A disk has room again when the handler has ended.
            if self.fired > 0 {
                self.leave();
            }
        }
    }

    /// Lets everybody go, at the next opportunity.
    fn leave(&mut self) {
        if self.mode != Mode::Nothing {
            self.mode = Mode::Nothing;
            for pid in self.tracees.keys() {
                let _ = ptrace::interrupt(*pid);
            }
        }
    }

    /// It may have been killed meanwhile: then its end is what comes next.
    fn resume(&mut self, pid: Pid, signal: Option<Signal>) {
        let Some(tracee) = self.tracees.get(&pid) else { return };
        match self.mode {
            // The end of the call is still to come.
            _ if tracee.answer.is_some() => _ = ptrace::syscall(pid, signal),
            Mode::Calls => _ = ptrace::syscall(pid, signal),
            Mode::Ends => _ = ptrace::cont(pid, signal),
            Mode::Nothing if ptrace::detach(pid, signal).is_ok() => _ = self.tracees.remove(&pid),
            Mode::Nothing => {}
        }
    }

    fn happened(&mut self, pid: Pid, event: i32) {
        let Some(who) = self.tracees.get(&pid).map(|tracee| tracee.who) else {
            self.unknown.push(pid);
            return;
        };
        if [Event::PTRACE_EVENT_CLONE, Event::PTRACE_EVENT_FORK, Event::PTRACE_EVENT_VFORK]
            .iter()
            .any(|made| *made as i32 == event)
        {
            if let Ok(made) = ptrace::getevent(pid) {
                self.made(who, pid, Pid::from_raw(i32::try_from(made).unwrap()));
            }
        } else if event == Event::PTRACE_EVENT_EXEC as i32 {
            match who {
                None => _ = self.tracees.insert(pid, Tracee { who: Some(Who::Handler), answer: None }),
                Some(Who::Starting(_)) => {
                    // From here on it is the command.
                    self.tracees.remove(&pid);
                    ptrace::detach(pid, None).unwrap();
                    return;
                }
                Some(_) => {}
            }
        }
        self.resume(pid, None);
    }

    /// A process or a thread was made.
    fn made(&mut self, parent: Option<Who>, by: Pid, made: Pid) {
        let is_thread = fs::exists(format!("/proc/{by}/task/{made}")).unwrap_or_default();
        let who = match parent {
            Some(Who::Handler) if !is_thread => {
                self.supervisors += 1;
                Some(Who::Supervisor(self.supervisors - 1))
            }
            Some(Who::Supervisor(_)) if !is_thread => {
                self.starting += 1;
                Some(Who::Starting(self.starting - 1))
            }
            same => same,
        };
        self.tracees.insert(made, Tracee { who, answer: None });
        if let Some(at) = self.unknown.iter().position(|unknown| *unknown == made) {
            self.unknown.remove(at);
            self.resume(made, None);
        }
    }

    /// At the beginning of a call, or at its end.
    fn called(&mut self, pid: Pid) {
        let Some(Tracee { who: Some(who), answer }) = self.tracees.get(&pid).copied() else { return };
        let (Ok(info), Ok(mut registers)) = (ptrace::syscall_info(pid), ptrace::getregs(pid)) else { return };
        if info.op == libc::PTRACE_SYSCALL_INFO_EXIT {
            if let Some(errno) = answer {
                registers.rax = u64::from_ne_bytes(i64::from(-(errno as i32)).to_ne_bytes());
                let _ = ptrace::setregs(pid, registers);
                self.tracees.insert(pid, Tracee { who: Some(who), answer: None });
                if matches!(self.fault, Some(Fault::Fail(..))) {
                    self.mode = Mode::Ends;
                }
            } else if self.fired == 0 && matches!(who, Who::Supervisor(_)) && name(registers.orig_rax) == "recvmsg" {
                // With nothing the handler says that it has no work left.
                self.orders += usize::from(registers.rax == 1);
            }
            return;
        }
        if info.op != libc::PTRACE_SYSCALL_INFO_ENTRY || self.mode != Mode::Calls {
            return;
        }
        let call = self.count(who, pid, &registers);
        match self.fault.filter(|fault| is_at(*fault, &call)) {
            None => {}
            Some(Fault::Kill(..)) => {
                let _ = kill(pid, Signal::SIGKILL);
                self.fired += 1;
                self.leave();
            }
            Some(Fault::Fail(.., errno) | Fault::FailOn(.., errno)) => {
                if who != Who::Handler && self.fired >= FAILS {
                    return;
                }
                if call.name != "close" {
                    registers.orig_rax = u64::MAX;
                    let _ = ptrace::setregs(pid, registers);
                }
                self.fired += 1;
                self.tracees.insert(pid, Tracee { who: Some(who), answer: Some(errno) });
            }
        }
    }

    fn count(&mut self, who: Who, pid: Pid, registers: &libc::user_regs_struct) -> Call {
        let name = name(registers.orig_rax);
        let is_early = !self.has_begun(who, name);
        let nth = self.counts.entry(who).or_default();
        *nth += 1;
        let kind = kind(pid, registers.rdi);
        let of_name = self.counts_of_names.entry((who, name, kind)).or_default();
        *of_name += 1;
        let call = Call { who, name, nth: *nth, of_name: *of_name, kind, what: registers.rsi, is_early };
        self.calls.push(call);
        call
    }

    /// A handler begins with the mask of its files, a supervisor with its spec: until then they have opened nothing but
    /// libraries. What supervisors make has begun with them; what handlers make, until it executes itself, as well.
    fn has_begun(&mut self, who: Who, name: &str) -> bool {
        if matches!(who, Who::Starting(_)) {
            return true;
        }
        let begun = self.begun.entry(who).or_insert(if who == Who::Handler { Begun::No } else { Begun::Yes });
        let before = *begun;
        *begun = match (before, who, name) {
            (_, _, "execve") => Begun::No,
            (Begun::No, Who::Handler, "umask") | (Begun::Nearly, _, "openat") => Begun::Yes,
            // The runtime makes its stack for signals last.
            (Begun::No, Who::Supervisor(_), "sigaltstack") => Begun::Nearly,
            (same, ..) => same,
        };
        before == Begun::Yes || *begun == Begun::Yes
    }
}

/// What the first argument of a call is.
fn kind(pid: Pid, descriptor: u64) -> Kind {
    let path = format!("/proc/{pid}/fd/{descriptor}");
    let Ok(name) = fs::read_link(&path) else { return Kind::None };
    match name.to_string_lossy() {
        name if name.starts_with("socket:") => {
            let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{descriptor}")).unwrap_or_default();
            let flags = info.lines().find_map(|line| i32::from_str_radix(line.strip_prefix("flags:")?.trim(), 8).ok());
            if flags.is_some_and(|flags| flags & libc::O_NONBLOCK != 0) { Kind::ReadySocket } else { Kind::Socket }
        }
        name if name.starts_with("pipe:") => Kind::Pipe,
        name if !name.starts_with('/') || name.starts_with("/dev/") => Kind::Other,
        _ if fs::metadata(path).is_ok_and(|is| is.is_dir()) => Kind::Directory,
        _ => Kind::File,
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(who, nth) => write!(to, "{who:?} killed at {nth}"),
            Self::Fail(who, name, kind, nth, errno) => write!(to, "{who:?} {name} {kind:?} {nth} {errno:?}"),
            Self::FailOn(who, name, nth, errno) => write!(to, "{who:?} {name} {nth}+ {errno:?}"),
        }
    }
}

/// Whether it is this call that fails.
fn is_at(fault: Fault, call: &Call) -> bool {
    match fault {
        Fault::Kill(who, nth) => call.who == who && call.nth == nth,
        Fault::Fail(who, name, kind, nth, _) => {
            (call.who, call.name, call.kind, call.of_name) == (who, name, kind, nth)
        }
        Fault::FailOn(who, name, nth, _) => {
            call.who == who && call.name == name && call.of_name >= nth && call.kind == Kind::File
        }
    }
}
