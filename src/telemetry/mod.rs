//! What is said about a run: log lines, the status that systemd shows, what a person at a terminal sees, and what is left
//! for monitoring.

pub mod color;
pub mod log;
pub mod metrics;
pub mod progress;
pub mod screen;
pub mod service;
