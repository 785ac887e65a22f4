//! Starts the built programs on loopback and watches them from outside, as their users do.
//!
//! Waiting is always for something that happens (a line, the end of a process), with a deadline. Only processes that
//! were started here, and what descends from them, are ever ended.

mod binaries;
mod chain;
mod delaying;
mod held;
mod log_line;
mod made;
mod namespace;
pub mod network;
mod outgoing;
mod ports;
mod process;
mod recorder;
mod scratch;
pub mod scripted_backend;
mod seon_backend;
mod service_manager;
pub mod table;
pub mod terminal;
mod trouble;

pub use binaries::{binary, evil_binary};
pub use chain::{Backend, Chain, INSIDE_CODE, INSIDE_PASSWORD, Partner, Plan};
pub use delaying::DelayingRelay;
pub use held::Held;
pub use log_line::LogLine;
pub use made::made_octets;
pub use namespace::Namespace;
pub use network::{Host, Network};
pub use ports::free_port;
pub use process::{Mark, PATIENCE, Process, interrupt, is_interrupted, until};
pub use recorder::Recorder;
pub use scratch::Scratch;
pub use scripted_backend::ScriptedBackend;
pub use service_manager::ServiceManager;
pub use terminal::Terminal;
pub use trouble::Trouble;
