//! The client against the contract: what it reads, what it asks and tells, and what it makes of every answer.

mod backend;
mod calls;
mod configuration;
mod messages;
mod trust;
