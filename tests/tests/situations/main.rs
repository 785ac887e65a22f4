//! The table of situations: each is raised by a test, and those that no other scenario meets are raised here, each as an
//! administrator would come upon it.

mod daemons;
mod outgoing;
mod reports;
mod sessions;
mod table;
