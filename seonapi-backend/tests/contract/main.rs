//! `seon_backend` as it is shipped: the built binary, over real HTTPS, against the contract.

mod backend;
mod commands;
mod configuration;
mod crl_download;
mod operations;
mod tokens;
