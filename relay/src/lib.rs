//! The two directions of a session: octets in, judged by the monitor, octets out
