//! Recorded bytes, per dialect: what real collectors answered is decoded as it was meant, and what is sent to them is
//! what the reference agents send.

#![allow(clippy::unwrap_used)] // helpers of tests are tests too

mod bytes;
mod mutations;
mod oc3;
mod rpc;
mod schedule;
