//! Recorded bytes, per dialect: what real collectors answered is decoded as it was meant, and what is sent to them is
//! what the reference agents send.

mod bytes;
mod mutations;
mod oc3;
mod rpc;
