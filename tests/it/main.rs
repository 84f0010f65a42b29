//! Black box: the executable, a collector over real TLS that fails on request, real children, real signals.
//!
//! Each test has its own directory, ports and processes, and needs no order.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../support/mod.rs"]
mod support;

mod main_path;
