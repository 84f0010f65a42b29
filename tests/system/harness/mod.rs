//! A throw-away Debian, booted: real systemd, real journal, real sockets.
//!
//! Everything lives in namespaces of its own (mounts, network, processes, control groups), the written files in a
//! tmpfs of the mount namespace: when the machine's process 1 is gone, so is all the rest.

mod machine;
mod product;
mod tree;

pub(crate) use machine::{Machine, machines};
pub(crate) use product::{Queue, seen};
