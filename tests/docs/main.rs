//! What is written about the program is true: the man pages, and the architecture that the crate documentation claims.

mod layers;
mod man;
