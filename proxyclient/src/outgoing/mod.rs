//! Outgoing sessions, as far as they are words: whom an inside station asks for, in which protocol, whether that is a
//! partner, and what it is told. No I/O and no clock.
//!
//! | First octet | The station speaks | Read by |
//! | --- | --- | --- |
//! | `05` | SOCKS5 (RFC 1928), no authentication | [`socks`] |
//! | a letter | HTTP CONNECT (RFC 9110, 9.3.6) | [`http`] |
//! | – | nothing: on a partner's own port OFTP2 begins at once | |

mod answer;
mod callable;
mod http;
mod record;
mod request;
mod socks;
mod target;

pub use answer::Dialect;
pub use callable::{Callable, Callables};
pub use record::{Call, outcome};
pub use request::{Request, Step};
pub use target::Target;
