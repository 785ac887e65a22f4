//! What an administrator has of log and signals, with the built daemons.

mod levels;
mod terminal;
