//! Killed at every step, at every system call, at random, and cut off from power: nothing is lost and nothing is started
//! twice.
//!
//! * `lanes`: the same points, while several commands run;
//! * `external`: an external action, at every step of its start and its checks;
//! * `matrix`: every named point of handler and supervisor × what goes wrong at the collector × both dialects;
//! * `forged`: states of the disk that no run leaves by itself, and a supervisor that has not begun yet;
//! * `remains`: what a killed supervisor leaves behind is ended, and no stranger with it;
//! * `kill_loop`: SIGKILL at random, to anybody (`CRASH_SEED`, `CRASH_CYCLES`);
//! * `syscalls`: SIGKILL before any system call of a handler, of its supervisors, and of what they make before it is a
//!   command;
//! * `errno`: every file, process and network call of theirs fails in every way that the kernel knows, and the disk stays
//!   full or broken;
//! * `cut`: the network, after every byte of each exchange (`CRASH_SEED`);
//! * `power`: the disk as a power cut leaves it, rebuilt from the system calls of a run.
//!
//! `CRASH_FULL=1` takes every step where the tests otherwise take a sample. The sweeps, each with one command that prints
//! its seed, how many points were tried, how many came to pass, and the violations:
//!
//! | command | takes |
//! | --- | --- |
//! | `CRASH_FULL=1 cargo test --release --test crash -- --nocapture syscalls::` | SIGKILL before every system call |
//! | `CRASH_FULL=1 cargo test --release --test crash -- --nocapture errno::` | every call × every errno |
//! | `CRASH_FULL=1 cargo test --release --test crash -- --nocapture cut::` | the network cut after every byte |
//! | `CRASH_CYCLES=20000 cargo test --release --test crash -- --nocapture kill_loop::` | SIGKILL at random |
//! | `CRASH_SEED=7 cargo test --test crash -- --nocapture syscalls:: errno::` | the sample of that seed, again |
//! | `CRASH_ONLY="Handler epoll_ctl" cargo test --test crash -- --nocapture errno::` | the points so named |
//!
//! The first two trace with ptrace(2) themselves (`tracer`), since strace counts calls but cannot tell one supervisor from
//! another; they are for x86-64, as the names of the calls are.
//!
//! A second executable, with the feature `crash-points`, dies where it is told to (`src/crash.rs`). It is built on first
//! use, into a directory of its own below `target`. What recovers is the executable that is shipped.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "shared with tests/it")]
mod support;

mod cut;
mod cutter;
#[cfg(target_arch = "x86_64")]
mod errno;
mod external;
mod forged;
mod kill_loop;
mod lanes;
mod matrix;
#[cfg(target_arch = "x86_64")]
mod names;
mod points;
mod power;
mod remains;
mod story;
#[cfg(target_arch = "x86_64")]
mod sweep;
#[cfg(target_arch = "x86_64")]
mod syscalls;
#[cfg(target_arch = "x86_64")]
mod tracer;
