//! The system calls of a run, by kind: by what they are for and not by their names, which differ from one C library and
//! one architecture to the other.

use std::collections::BTreeMap;
use std::fs;

use crate::support::world::World;
use crate::table::Count;

/// How many calls of a kind.
pub(crate) type Calls = BTreeMap<String, u32>;

/// What the processes of a run have done from the beginning of their `main`.
#[derive(Debug, Default)]
pub(crate) struct Run {
    pub(crate) handler: Calls,
    pub(crate) supervisors: Vec<Calls>,
    /// How often somebody has looked for the service manager.
    pub(crate) manager: usize,
}

/// What is always the same. Any other kind is counted with the "rest".
const EXACT: [&str; 17] = [
    "accept",
    "bind",
    "connect",
    "epoll_ctl",
    "getdents",
    "lock",
    "mkdir",
    "open",
    "pidfd_open",
    "rename",
    "setlk",
    "setsockopt",
    "socket",
    "spawn",
    "stat",
    "sync",
    "unlink",
];

/// Runs the handler, and everything that it starts, under strace.
pub(crate) fn run(world: &World) -> Run {
    let directory = world.node.path("trace");
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir(&directory).unwrap();
    let words = ["-ff", "-qq", "-e", "signal=none", "-s", "256", "-y", "-o"];
    world.node.handler().under("strace", &words, &directory.join("t")).run().exits(0);
    let mut run = Run::default();
    for entry in fs::read_dir(directory).unwrap() {
        let trace = String::from_utf8_lossy(&fs::read(entry.unwrap().path()).unwrap()).into_owned();
        let is = |argument: &str| trace.lines().any(|line| line.starts_with("execve(") && line.contains(argument));
        run.manager += trace.lines().filter(|line| is_to_manager(line)).count();
        if is("\"--root\"") {
            run.handler = calls(&trace);
        } else if is("\"supervise\"") {
            run.supervisors.push(calls(&trace));
        }
    }
    assert!(!run.handler.is_empty(), "strace has seen no handler");
    run
}

fn is_to_manager(line: &str) -> bool {
    line.starts_with("connect(") && (line.contains("/systemd/private") || line.contains("/dbus/"))
}

/// The last thing that the language does before `main` is to put a stack for signals in place. What comes before it, in
/// the parent's copy of a process and in the C library, is not ours.
fn calls(trace: &str) -> Calls {
    let begins = |line: &&str| line.starts_with("sigaltstack({ss_sp=0x");
    let mut calls = Calls::new();
    for kind in trace.lines().skip_while(|line| !begins(line)).skip(1).filter_map(kind) {
        *calls.entry(if EXACT.contains(&kind) { kind } else { "rest" }.to_owned()).or_default() += 1;
    }
    calls
}

/// What a call is for. None: the C library's own business, or the machine's: how deep the path of the state
/// directory is, how much the kernel has to tell.
fn kind(line: &str) -> Option<&str> {
    let (name, arguments) = line.split_once('(')?;
    Some(match name {
        "brk" | "exit_group" | "futex" | "getpid" | "getrandom" | "getrlimit" | "gettid" | "lstat" | "madvise"
        | "mmap" | "mprotect" | "mremap" | "munmap" | "prlimit64" | "readlink" | "readlinkat" | "restart_syscall"
        | "rt_sigaction" | "rt_sigprocmask" | "rt_sigreturn" | "sched_getaffinity" | "sigaltstack" => return None,
        "newfstatat" | "fstatat64" if arguments.contains("AT_SYMLINK_NOFOLLOW") => return None,
        // Of the machine's connections and masks there may be more or less.
        "read" if arguments.contains("</proc/") => return None,
        "accept4" => "accept",
        "clone" | "clone3" | "fork" | "vfork" => "spawn",
        "epoll_ctl" | "pidfd_open" | "socket" | "bind" | "connect" | "setsockopt" => name,
        "fcntl" | "fcntl64" if arguments.contains("F_SETLK") || arguments.contains("F_GETLK") => "setlk",
        "fdatasync" | "fsync" | "sync" | "syncfs" | "msync" | "sync_file_range" => "sync",
        "flock" => "lock",
        "getdents64" => "getdents",
        "mkdirat" => "mkdir",
        "openat" | "openat2" | "creat" => "open",
        "renameat" | "renameat2" => "rename",
        "stat" | "fstat" | "newfstatat" | "fstatat64" | "statx" | "access" | "faccessat" | "faccessat2" => "stat",
        "unlinkat" | "rmdir" => "unlink",
        _ if name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_') => name,
        _ => return None, // how the process has ended
    })
}

/// How many calls of each kind `count` of something take, when there are so many in all and so many without it.
pub(crate) fn each(with: &Calls, without: &Calls, count: u32) -> BTreeMap<String, Count> {
    let kinds = with.keys().chain(without.keys());
    let number = |calls: &Calls, kind| f64::from(calls.get(kind).copied().unwrap_or_default());
    kinds
        .map(|kind| (kind, (number(with, kind) - number(without, kind)) / f64::from(count)))
        .filter(|(_, calls)| *calls != 0.0)
        .map(|(kind, calls)| (kind.clone(), if kind == "rest" { Count::About(calls) } else { Count::Exactly(calls) }))
        .collect()
}
