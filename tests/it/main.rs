//! Black box: the executable, a collector over real TLS that fails on request, real children, real signals.
//!
//! Each test has its own directory, ports and processes, and needs no order. The executable is only ever started, never
//! linked: what is proved here is proved about what is shipped.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../support/mod.rs"]
mod support;

mod dequeuers;
mod doctor;
mod documents;
mod environment;
mod exits;
mod external;
mod groups;
mod history;
mod idle;
mod interruptions;
mod kept;
mod ledger;
mod losses;
mod main_path;
mod metrics;
mod operator;
mod output;
mod parallel;
mod plan;
mod policy;
mod progress;
mod proxy;
mod queues;
mod register;
mod rows;
mod runas;
mod scenarios;
mod schedule;

mod settings;
mod soak;
mod story;
mod supervisors;
mod test_collector;
mod tls;
mod trees;
mod wake;
mod wires;
