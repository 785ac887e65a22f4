//! OFTP2 (RFC 5024): framing, commands, and the monitor that judges a session
