//! Ours against python3's own libraries, which the reference agents use: the same inputs, made by a generator with a fixed
//! seed, go through both.

#![allow(clippy::unwrap_used)] // helpers of tests are tests too

mod ansi;
mod python;
mod words;
