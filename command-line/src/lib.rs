//! What all programs have alike on the terminal: a command line whose mistakes are told together, the version, the exit
//! codes, and the findings of `--check`.
//!
//! It prints and reads arguments, and nothing else.

pub mod exit;
mod findings;
mod mistakes;
mod parts;

pub use findings::Findings;
pub use mistakes::{Demand, Demands, Refused, read, read_from};

/// Heading in the help over the options that the original programs do not have.
pub const BEYOND_THE_ORIGINAL: &str = "Beyond the original";

/// When and in which version the programs were built, as in `seon_license --version`.
pub const BUILT: &str = concat!("built ", env!("BUILD_DATE"), ", version ", env!("CARGO_PKG_VERSION"));

/// Name, build date and version, in one line.
pub fn version(program: &str) -> String {
    format!("{program}, {BUILT}")
}
