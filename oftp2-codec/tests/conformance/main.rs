//! The codec and the monitor against what RFC 5024 says: vectors and dialogues in plain text under `tests/` of the
//! workspace, and properties that hold for everything.

mod citations;
mod corpus;
mod credit;
mod dialogues;
mod fuzz;
mod mutation;
mod odd;
mod permitted;
mod properties;
mod responses;
mod rows;
mod session_end;
mod settings;
mod stations;
mod tables;
mod vectors;
mod written;
