//! Being woken: who started this process, the notifications that wait on its socket, and the one lock that makes
//! "one handler at a time" and "no wake-up lost" both true.

pub mod activation;
pub mod dequeuers;
pub mod holder;
mod listeners;
pub mod lock;
pub mod notification;
pub mod protocol;
pub mod stop;
