//! Running commands so that nobody's death loses one: the agent's program, the environment, the supervisor around each
//! command, and the handler's side of it. The only place that starts processes.

pub mod agent;
pub mod boot;
pub mod drain;
pub mod environment;
pub mod external;
mod inherited;
pub mod kept;
pub mod last_line;
pub mod launch;
pub mod launcher;
pub mod machine;
mod order;
mod output;
mod proc;
pub mod record;
pub mod remains;
pub mod run;
pub mod run_as;
pub mod supervisor;
pub mod tree;
