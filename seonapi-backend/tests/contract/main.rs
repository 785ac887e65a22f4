//! `seon_backend` as it is shipped: the built binary, over real HTTPS, against the contract.

mod alarms;
mod backend;
mod bundle;
mod commands;
mod configuration;
mod crl_download;
mod ignoring;
mod log;
mod operations;
mod receiver;
mod system_log;
mod tokens;
