//! Attacks from outside on the built daemons: what is there to steal, what can be broken, and whom it costs anything.

mod attempts;
mod calling;
mod disk;
mod evil_client;
mod exhaustion;
mod identity;
mod keys;
mod memory;
mod offenders;
mod running;
mod secrets;
mod slow;
mod storms;
mod stuck;
mod words;
