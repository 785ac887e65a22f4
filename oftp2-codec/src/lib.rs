//! OFTP2 (RFC 5024) as octets and as rules: framing, commands, subrecords, and the monitor that stands between two
//! stations and says whether their session is a legal one.
//!
//! The crate never opens a socket, reads a clock or writes a log: octets go in, types, notices and violations come out.
//!
//! * [`stb`]: the four octets before every Exchange Buffer.
//! * [`field`]: formats X, 9, U and T, and the reader that owns every bounds check.
//! * [`command`]: the eighteen commands, one file each, at levels 1, 2, 4 and 5.
//! * [`subrecord`]: what a data buffer is made of.
//! * [`reason`]: the codes of refusals, endings and negative responses.
//! * [`deviation`]: what real stations do against the RFC's word, and what is done about it.
//! * [`monitor`]: the judge.

pub mod command;
pub mod deviation;
pub mod field;
pub mod monitor;
pub mod reason;
pub mod stb;
pub mod subrecord;

pub use deviation::{Conformance, Deviation, Deviations, Handling};
