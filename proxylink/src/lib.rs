//! The link between proxyserver (DMZ) and proxyclient (inside), spoken by both.
//!
//! Everything that may cross the border between the two hosts stands in this crate: the cleartext [`preamble`], the
//! raw-public-key [`tls`], the [`frame`]s and [`message`]s of the control connection, the [`snapshot`] that the inside
//! pushes outwards, the [`pairing`] of a session, and the [`closing`] frame that ends a data connection. `PROTOCOL.md`
//! beside the manifest describes the octets.
//!
//! It also holds what both daemons say about what happened: the table of [`situation`]s, the [`particulars`]
//! that go with them, which of them are an [`alert`], the session [`record`], and the [`tally`] of what would otherwise
//! flood the log. It opens no socket and reads no file.

pub mod alert;
pub mod asking;
pub mod closing;
pub mod control;
pub mod frame;
pub mod message;
pub mod pairing;
pub mod particulars;
pub mod preamble;
pub mod record;
pub mod situation;
pub mod snapshot;
pub mod tally;
pub mod tls;
