//! Starts the built programs on loopback and watches them from outside, as their users do.
//!
//! Waiting is always for something that happens (a line, the end of a process), with a deadline. Only processes that
//! were started here, and what descends from them, are ever ended.

mod binaries;
mod ports;
mod process;
mod scratch;
pub mod table;
mod trouble;

pub use binaries::binary;
pub use ports::free_port;
pub use process::{Mark, PATIENCE, Process};
pub use scratch::Scratch;
pub use trouble::Trouble;
