//! Ours against the reference's own libraries: python3 does the same work, and the answers have to be equal. A machine
//! without python3 makes these tests fail, not disappear.

#![allow(clippy::unwrap_used)] // helpers of tests are tests too

mod ansi;
mod node_conf;
mod python;
mod rpc;
mod words;
