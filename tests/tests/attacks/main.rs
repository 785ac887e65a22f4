//! Attacks from outside on the built daemons: what is there to steal, what can be broken, and whom it costs anything.

mod attempts;
mod calling;
mod evil_client;
mod exhaustion;
mod keys;
mod memory;
mod offenders;
mod running;
mod secrets;
mod slow;
mod storms;
mod words;
