//! Killed at every step, at every system call, at random, and cut off from power: nothing is lost and nothing is started
//! twice.
//!
//! * `lanes`: the same points, while several commands run;
//! * `external`: an external action, at every step of its start and its checks;
//! * `matrix`: every named point of handler and supervisor × what goes wrong at the collector × both dialects;
//! * `forged`: states of the disk that no run leaves by itself, and a supervisor that has not begun yet;
//! * `remains`: what a killed supervisor leaves behind is ended, and no stranger with it;
//! * `kill_loop`: SIGKILL at random, to anybody (`CRASH_SEED`, `CRASH_CYCLES`);
//! * `syscalls`: SIGKILL at the system calls of a handler, by strace;
//! * `cut`: the network, after every byte of each exchange (`CRASH_SEED`);
//! * `power`: the disk as a power cut leaves it, rebuilt from the system calls of a run.
//!
//! `CRASH_FULL=1` takes every step where the tests otherwise take a sample.
//!
//! A second executable, with the feature `crash-points`, dies where it is told to (`src/crash.rs`). It is built on first
//! use, into a directory of its own below `target`. What recovers is the executable that is shipped.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "shared with tests/it")]
mod support;

mod cut;
mod cutter;
mod external;
mod forged;
mod kill_loop;
mod lanes;
mod matrix;
mod points;
mod power;
mod remains;
mod story;
mod syscalls;
