//! What an administrator has of log and signals, with the built daemons.

mod background;
mod layouts;
mod levels;
mod terminal;
mod written;
