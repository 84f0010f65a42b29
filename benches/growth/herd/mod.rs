//! What a collector sees of a herd of nodes: by the clock of a simulation, and for real.

mod sample;
mod simulation;
mod timer;

use crate::Failure;
use crate::programs::Programs;

/// Simulates, then runs that many real handlers.
pub(crate) fn run(programs: &Programs, nodes: usize) -> Result<(), Failure> {
    simulation::run(nodes)?;
    sample::run(programs, nodes)
}
