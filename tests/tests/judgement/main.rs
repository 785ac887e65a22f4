//! Who may speak, over the built programs: which partners come in, which are refused and how they are told, what
//! revocation does to those who are in, and what a lying DMZ gets.

mod ca;
mod caller;
mod calls;
mod calls_refused;
mod calls_running;
mod crl_download;
mod dmz;
mod evil_server;
mod explain;
mod handshake;
mod identification;
mod licence;
mod refusals;
mod running;
mod tls;
mod unchecked;
