//! The handler on a real machine: a Debian booted under systemd-nspawn, with the real collector inside.
//!
//! Needs root, debootstrap and systemd-container. The trees are made once and kept in `target/system-test`.

mod harness;
mod units;
