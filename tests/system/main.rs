//! The handler on a real machine: a Debian booted under systemd-nspawn, with the small collector inside.
//!
//! Needs root, debootstrap and systemd-container. The trees are made once and kept in `target/system-test`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod credential;
mod dequeue;
mod doctor;
mod external;
mod hardening;
mod harness;
mod inetd;
mod launcher;
mod leftovers;
mod metrics;
mod packages;
mod peers;
mod reboot;
mod restart;
mod runas;
mod units;
