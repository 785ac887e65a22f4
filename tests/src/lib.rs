//! What the project is tried with from outside: an OFTP2 station of its own ([`station`]), certificates ([`pki`]), the
//! harness that starts the built programs ([`harness`]) and the demonstration ([`demo`]) and the
//! benchmark ([`bench_chain`]) made of these.
//!
//! The station shares no code with the proxy. It is the second opinion on RFC 5024: a field at the wrong offset in
//! `oftp2-codec` would go unseen if both ends of a test were made of it.

pub mod bench_chain;
pub mod demo;
pub mod harness;
pub mod manual;
pub mod pki;
pub mod station;
