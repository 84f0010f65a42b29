//! Handler for OpenSVC *pull mode*.
//!
//! A collector queues actions for a node; this short-lived program is started by a TCP notification (systemd socket,
//! inetd), a timer or a person, fetches the queued actions over HTTPS, runs them as external commands, posts each
//! result back, and exits.

pub mod action;
pub mod cli;
pub mod collector;
pub mod commands;
pub mod config;
pub mod error;
pub mod executor;
pub mod handler;
pub mod ledger;
pub mod telemetry;
pub mod wake;

/// The version that `--version` and the `User-Agent` header show.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
