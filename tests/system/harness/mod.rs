//! A throw-away Debian, booted: real systemd, real journal, real sockets.
//!
//! Everything lives in namespaces of its own (mounts, network, processes, control groups), the written files in a
//! tmpfs of the mount namespace: when the machine is dropped, so is all the rest. A machine that went down can be booted again and
//! finds its disk as it left it.

mod machine;
mod product;
mod tree;

pub(crate) use machine::{Down, Machine, Output, machines};
pub(crate) use product::{Collector, Queue, seen};
