//! What is said about a run: log lines, and the status that systemd shows.

pub mod log;
pub mod service;
