//! Running commands: finding the agent's program, the environment that a command gets, the command itself. The only
//! place that starts processes.

pub mod agent;
pub mod command;
pub mod drain;
pub mod environment;
