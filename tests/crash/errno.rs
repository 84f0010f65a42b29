//! Every file, process and network call of a run of three actions fails in every way in which the kernel may have it fail:
//! those of the handler, of the one supervisor of all three from its clone on, and of what it makes until that executes the
//! command.
//!
//! Left out are the loader and the language's runtime, until `main`: what they cannot have ends the program before it is
//! there.
//!
//! `CRASH_FULL=1 cargo test --release --test crash errno::` takes every one of them.

use std::path::PathBuf;

use nix::errno::Errno;
use nix::libc;

use crate::story::Story;
use crate::support::collector::state::Event;
use crate::support::history::Allowed;
use crate::support::process::Launch;
use crate::support::{Dialect, both};
use crate::sweep::{Excuse, sweep};
use crate::tracer::{self, Call, Fault, Kind, Traced, Who};

/// How many a sample takes, of each dialect.
const SAMPLE: usize = 110;

/// How many of those where the disk stays full.
const SAMPLE_OF_DISKS: usize = 20;

/// In which ways a call can fail. The one table of it: all of EIO, ENOSPC, EMFILE, ENOMEM, EINTR and EAGAIN, but for those
/// that the kernel never gives here.
#[allow(clippy::match_same_arms, clippy::unnested_or_patterns, reason = "a table, in the order of its subjects")]
fn errnos(call: &Call) -> &'static [Errno] {
    use Errno::{EAGAIN, EINTR, EIO, EMFILE, ENOMEM, ENOSPC};
    match (call.name, call.kind) {
        ("open" | "openat" | "creat", _) => &[EIO, ENOSPC, EMFILE, ENOMEM, EINTR],
        // A file is always ready, and needs no room to be read.
        ("read" | "readv" | "pread64" | "preadv" | "lseek", Kind::File) | ("getdents64", _) => &[EIO, ENOMEM, EINTR],
        ("accept4", _) => &[EMFILE, ENOMEM, EAGAIN],
        // Only who waits can be interrupted; and to take what has come already needs no memory.
        ("read" | "readv" | "recvfrom" | "recvmsg", Kind::Socket) => &[ENOMEM, EINTR, EAGAIN],
        ("read" | "readv" | "recvfrom" | "recvmsg", Kind::ReadySocket) => &[EAGAIN],
        ("read" | "readv", Kind::Pipe) => &[EINTR, EAGAIN],
        ("read" | "readv", _) => &[EAGAIN],
        ("write" | "writev" | "pwrite64" | "pwritev" | "ftruncate" | "fallocate", Kind::File) => {
            &[EIO, ENOSPC, ENOMEM, EINTR]
        }
        ("write" | "writev" | "sendto" | "sendmsg" | "connect", Kind::Socket) => &[ENOMEM, EINTR, EAGAIN],
        ("write" | "writev" | "sendto" | "sendmsg" | "connect", Kind::ReadySocket) => &[ENOMEM, EAGAIN],
        ("write" | "writev", Kind::Pipe) => &[EINTR, EAGAIN],
        ("splice" | "tee" | "sendfile" | "copy_file_range", _) => &[EIO, ENOSPC, ENOMEM, EINTR, EAGAIN],
        ("fsync" | "fdatasync" | "sync_file_range", _) | ("close", Kind::File) => &[EIO, ENOSPC, EINTR],
        ("close", _) => &[EINTR],
        ("rename" | "renameat" | "renameat2" | "unlink" | "unlinkat" | "rmdir" | "mkdir" | "mkdirat", _)
        | ("link" | "linkat" | "symlink" | "symlinkat" | "fchown" | "fchmod" | "chmod" | "utimensat" | "mknodat", _) => {
            &[EIO, ENOSPC, ENOMEM, EINTR]
        }
        ("stat" | "lstat" | "fstat" | "newfstatat" | "statx" | "access" | "faccessat" | "faccessat2", _)
        | ("readlink" | "readlinkat" | "chdir" | "fchdir" | "statfs" | "fstatfs", _) => &[EIO, ENOMEM, EINTR],
        // To make a descriptor blocking or not needs nothing.
        ("ioctl", _) if call.what != libc::FIONBIO => &[EIO, ENOMEM, EINTR],
        ("fcntl", _) => match i32::try_from(call.what) {
            Ok(libc::F_SETLK | libc::F_SETLKW | libc::F_OFD_SETLK | libc::F_OFD_SETLKW) => {
                &[ENOMEM, EINTR, EAGAIN, EIO]
            }
            Ok(libc::F_DUPFD | libc::F_DUPFD_CLOEXEC) => &[EMFILE, ENOMEM],
            // To look at a descriptor, or to change its flags, needs nothing.
            _ => &[],
        },
        ("flock", _) => &[ENOMEM, EINTR, EAGAIN, EIO],
        ("clone" | "clone3" | "fork" | "vfork", _) => &[EAGAIN, ENOMEM],
        ("execve", _) => &[EIO, EMFILE, ENOMEM, EAGAIN, EINTR],
        ("dup" | "dup2" | "dup3", _) => &[EMFILE, ENOMEM, EINTR],
        ("pipe" | "pipe2" | "socket" | "socketpair" | "memfd_create" | "eventfd2" | "epoll_create1", _)
        | ("inotify_init1" | "signalfd4" | "timerfd_create" | "pidfd_open", _) => &[EMFILE, ENOMEM],
        ("bind", _) => &[EIO, ENOSPC, ENOMEM, EAGAIN],
        ("setsockopt" | "getsockopt", _) => &[ENOMEM],
        ("epoll_ctl" | "inotify_add_watch", _) => &[ENOMEM, ENOSPC],
        ("epoll_wait" | "epoll_pwait" | "epoll_pwait2", _) => &[EINTR],
        // For the few descriptors that are looked at here they need no memory.
        ("poll" | "ppoll" | "select" | "pselect6", _) => &[EINTR],
        ("wait4" | "waitid" | "nanosleep" | "clock_nanosleep", _) => &[EINTR],
        ("futex", _) => &[EINTR, EAGAIN],
        ("getrandom", _) => &[EINTR],
        ("mmap" | "mremap" | "mprotect" | "madvise" | "munmap", _) => &[ENOMEM, EAGAIN],
        ("kill" | "pidfd_send_signal" | "setsid" | "setpgid" | "prlimit64", _) => &[EAGAIN, ENOMEM],
        _ => &[],
    }
}

fn calls(dialect: Dialect) -> Vec<Call> {
    let story = Story::new(dialect);
    let whole = tracer::run(&story, None);
    assert_eq!(whole.code, 0, "{}", whole.said);
    story.check(&Allowed::default(), &[]);
    whole.calls.into_iter().filter(|call| !call.is_early).collect()
}

both!(whatever_call_fails_the_handler_ends_and_nothing_is_lost_or_starts_twice);
fn whatever_call_fails_the_handler_ends_and_nothing_is_lost_or_starts_twice(dialect: Dialect) {
    let all = calls(dialect);
    let faults = all.iter().flat_map(|call| {
        errnos(call).iter().map(|errno| Fault::Fail(call.who, call.name, call.kind, call.of_name, *errno))
    });
    sweep("a call fails", dialect, faults.collect(), SAMPLE, judge);
}

both!(a_disk_that_stays_full_or_broken_ends_the_handler_and_loses_nothing);
fn a_disk_that_stays_full_or_broken_ends_the_handler_and_loses_nothing(dialect: Dialect) {
    let all = calls(dialect);
    let is_disk = |call: &&Call| {
        matches!(call.name, "write" | "pwrite64" | "fdatasync" | "fsync" | "ftruncate") && call.kind == Kind::File
    };
    let faults = all.iter().filter(is_disk).flat_map(|call| {
        [Errno::EIO, Errno::ENOSPC].map(|errno| Fault::FailOn(call.who, call.name, call.of_name, errno))
    });
    sweep("the disk fails", dialect, faults.collect(), SAMPLE_OF_DISKS, judge);
}

/// What may come of it: the handler ends with a status that the manual lists, and says nothing of a panic. One failure, of
/// whomever, leaves each action its own result. Where the disk stays as it is, an action whose own supervisor has lost its
/// means in the middle of it, or was to see to it later, may have ended unseen, and one that could not be started three
/// times has that for its result. Nothing else.
fn judge(fault: Fault, traced: &Traced) -> Excuse {
    // The one call without which the runtime (tokio) does not go on, and says so in its own way: it is made before anything
    // is fetched, and cannot be made for it.
    let is_of_runtime = matches!(fault, Fault::Fail(Who::Handler, "socketpair", ..)) && traced.code == 70;
    if !is_of_runtime {
        assert!(matches!(traced.code, 0 | 65 | 69 | 75 | 78), "it ended with {}:\n{}", traced.code, traced.said);
        for words in ["panicked", "bug, please report", "memory allocation of"] {
            assert!(!traced.said.contains(words), "{}", traced.said);
        }
    }
    for (who, code) in &traced.ends {
        // With 127 the C library ends what could not be made the program that it was to be.
        let is_fine = matches!(code, 0 | 69 | 127);
        assert!(is_fine, "{who:?} ended with {code}");
    }
    let mut excuse = Excuse::default();
    match fault {
        Fault::FailOn(Who::Supervisor(_), ..) => {
            for nth in traced.orders.saturating_sub(1)..3 {
                excuse.unknown[nth] = true;
                excuse.not_started[nth] = true;
            }
        }
        Fault::FailOn(Who::Handler, ..) => excuse.not_started = [true; 3],
        _ => {}
    }
    excuse
}

both!(a_supervisor_whose_end_cannot_be_waited_for_is_not_started_again);
fn a_supervisor_whose_end_cannot_be_waited_for_is_not_started_again(dialect: Dialect) {
    let all = calls(dialect);
    let is_clone = |call: &&Call| matches!(call.name, "clone" | "clone3" | "vfork") && call.who == Who::Handler;
    // What the handler does first to hear of the end of what it has just started.
    let is_wait = |call: &&Call| matches!(call.name, "pidfd_open" | "epoll_ctl") && call.who == Who::Handler;
    for clone in all.iter().filter(is_clone) {
        let after: Vec<_> = all.iter().filter(|call| call.nth > clone.nth).filter(is_wait).take(2).collect();
        assert_eq!(after.len(), 2);
        for call in after {
            for errno in [Errno::ENOMEM, Errno::ENOSPC] {
                let story = Story::new(dialect);
                let fault = Fault::Fail(call.who, call.name, call.kind, call.of_name, errno);
                let traced = tracer::run(&story, Some(fault));
                assert!(traced.fired == 1 && traced.code == 0, "{fault}: {}\n{}", traced.code, traced.said);
                story.recover();
                story.check(&Allowed::default(), &[]);
            }
        }
    }
}

both!(a_result_that_cannot_be_recorded_as_accepted_is_posted_once_by_each_handler);
fn a_result_that_cannot_be_recorded_as_accepted_is_posted_once_by_each_handler(dialect: Dialect) {
    let all = calls(dialect);
    let is_write = |call: &&Call| (call.who, call.name, call.kind) == (Who::Handler, "pwrite64", Kind::File);
    let writes = all.iter().filter(is_write).count();
    let mut unrecorded = 0;
    for nth in (1..8).map(|eighth| writes * eighth / 8) {
        let story = Story::new(dialect);
        let traced = tracer::run(&story, Some(Fault::FailOn(Who::Handler, "pwrite64", nth, Errno::EIO)));
        assert_eq!(traced.code, 69, "{}", traced.said);
        for id in &story.ids {
            let is_it = |event: &Event| matches!(event, Event::Reported(reported) if reported.id == *id);
            let posts = story.world.collector.events().iter().filter(|event| is_it(event)).count();
            assert!(posts <= 1, "{id} was posted {posts} times");
            unrecorded += posts;
        }
        story.recover();
        story.check(&Allowed { crashes: 1, ..Allowed::default() }, &[]);
    }
    assert!(unrecorded > 0, "nothing was posted");
}

#[test]
fn what_cannot_be_said_on_a_full_disk_is_no_panic() {
    let full = |launch: Launch| {
        let words = ["/bin/sh", "-c", "exec \"$@\" 2>/dev/full", "sh"];
        launch.within(words.map(PathBuf::from)).run()
    };
    let story = Story::new(Dialect::Oc3);
    full(story.world.node.handler().arg("-vv")).exits(0);
    story.check(&Allowed::default(), &[]);
    let program = || story.world.node.handler_without_root();
    full(program().args(["systemd-check", "77"])).exits(65);
    full(program().arg("no-such-command")).exits(64);
}

both!(a_command_whose_end_no_signal_tells_is_seen_to_end);
fn a_command_whose_end_no_signal_tells_is_seen_to_end(dialect: Dialect) {
    let all = calls(dialect);
    let of = |name: &str| all.iter().filter(|call| call.who == Who::Supervisor(0) && call.name == name).count();
    // What a supervisor sends: two probes of its own descriptors; of each of three actions, what the end of its command
    // writes, and the record.
    assert_eq!(of("sendto"), 2 + 3 * 2, "{all:?}");
    for nth in 1..=of("sendto") {
        for errno in [Errno::EAGAIN, Errno::ENOMEM] {
            let story = Story::new(dialect);
            let fault = Fault::Fail(Who::Supervisor(0), "sendto", Kind::Socket, nth, errno);
            let traced = tracer::run(&story, Some(fault));
            assert!(traced.fired == 1 && !traced.hung, "{fault}: {}\n{}", traced.code, traced.said);
            story.recover();
            story.check(&Allowed::default(), &[]);
        }
    }
}
