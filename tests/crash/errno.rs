//! Every file, process and network call of a run of three actions fails in every way in which the kernel may have it fail:
//! those of the handler, of each supervisor from its clone on, and of what a supervisor makes until that executes the
//! command.
//!
//! Left out are the loader and the language's runtime, until `main`: what they cannot have ends the program before it is
//! there.
//!
//! `CRASH_FULL=1 cargo test --release --test crash errno::` takes every one of them.

use nix::errno::Errno;
use nix::libc;

use crate::story::Story;
use crate::support::history::Allowed;
use crate::support::{Dialect, both};
use crate::sweep::{Excuse, sweep};
use crate::tracer::{self, Call, Fault, Kind, Traced, Who};

/// How many a sample takes, of each dialect.
const SAMPLE: usize = 110;

/// How many of those where the disk stays full.
const SAMPLE_OF_DISKS: usize = 20;

/// In which ways a call can fail. The one table of it: all of EIO, ENOSPC, EMFILE, ENOMEM, EINTR and EAGAIN, but for those
/// that the kernel never gives here.
fn errnos(call: &Call) -> &'static [Errno] {
    use Errno::{EAGAIN, EINTR, EIO, EMFILE, ENOMEM, ENOSPC};
    match (call.name, call.kind) {
        ("open" | "openat" | "creat", _) => &[EIO, ENOSPC, EMFILE, ENOMEM, EINTR],
        // A file is always ready, and needs no room to be read.
        ("read" | "readv" | "pread64" | "preadv" | "lseek", Kind::File) | ("getdents64", _) => &[EIO, ENOMEM, EINTR],
        ("read" | "readv" | "recvfrom" | "recvmsg" | "accept4", Kind::Socket) => &[ENOMEM, EINTR, EAGAIN],
        ("read" | "readv", Kind::Pipe) => &[EINTR, EAGAIN],
        ("read" | "readv", _) => &[EAGAIN],
        ("write" | "writev" | "pwrite64" | "pwritev" | "ftruncate" | "fallocate", Kind::File) => {
            &[EIO, ENOSPC, ENOMEM, EINTR]
        }
        ("write" | "writev" | "sendto" | "sendmsg" | "connect", Kind::Socket) => &[ENOMEM, EINTR, EAGAIN],
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
        ("ioctl", _) if call.what != u64::from(libc::FIONBIO) => &[EIO, ENOMEM, EINTR],
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
        ("poll" | "ppoll" | "select" | "pselect6", _) => &[ENOMEM, EINTR],
        ("wait4" | "waitid" | "nanosleep" | "clock_nanosleep", _) => &[EINTR],
        ("futex", _) => &[EINTR, EAGAIN],
        ("getrandom", _) => &[EINTR, EAGAIN],
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

/// What may come of it: the handler ends with a status that the manual lists, and says nothing of a panic; an action whose
/// own supervisor has lost its means in the middle of it may have ended unseen; one that could not be started three times,
/// since the disk stays as it is, has that for its result. Nothing else.
fn judge(fault: Fault, traced: &Traced) -> Excuse {
    assert!(matches!(traced.code, 0 | 65 | 69 | 75 | 78), "it ended with {}:\n{}", traced.code, traced.said);
    for words in ["panicked", "bug, please report", "memory allocation of"] {
        assert!(!traced.said.contains(words), "{}", traced.said);
    }
    for (who, code) in &traced.ends {
        let is_fine = matches!(code, 0 | 69) || matches!(who, Who::Starting(_)) && *code == 127;
        assert!(is_fine, "{who:?} ended with {code}");
    }
    let mut excuse = Excuse::default();
    match fault {
        Fault::Fail(Who::Supervisor(nth), ..) => excuse.unknown[nth] = true,
        Fault::FailOn(Who::Supervisor(nth), ..) => {
            excuse.unknown[nth] = true;
            excuse.not_started[nth] = true;
        }
        Fault::FailOn(Who::Handler, ..) => excuse.not_started = [true; 3],
        _ => {}
    }
    excuse
}
