//! What is written about the program is true: the man pages, and the architecture that the crate documentation claims.

#![allow(clippy::unwrap_used)] // helpers of tests are tests too

mod completions;
mod house;
mod layers;
mod man;
mod readme;
mod settings;
