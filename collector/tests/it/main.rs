//! Black box: the executable on a free port in a directory of its own, spoken to over TLS.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod exchange;
mod lifecycle;
mod notifier;
mod oc3;
mod operator;
mod register;
mod rpc;
mod server;
