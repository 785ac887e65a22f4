//! What an administrator has of log, signals and PID file, with the built daemons.

mod background;
mod daemon;
mod hangup;
mod layouts;
mod levels;
mod pid_file;
mod terminal;
mod written;
