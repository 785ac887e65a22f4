//! `seon_backend`: the embedded Seon API backend.

mod alarm;
mod configuration;
mod crl_download;
mod current;
mod events;
mod https;
mod ignore;
mod init;
mod journal;
mod level_signals;
mod listing;
mod options;
mod place;
mod replacing;
mod routes;
mod serve;
mod store;
mod tokens;

use std::path::Path;
use std::process::ExitCode;

use configuration::{Configuration, Inputs};
use options::{ConfigTask, Options, Task};

/// Why the program ends without success: what to say, one line each.
struct Failure(Vec<String>);

impl<T: std::fmt::Display> From<T> for Failure {
    fn from(reason: T) -> Self {
        Self(vec![reason.to_string()])
    }
}

fn main() -> ExitCode {
    // The HTTP client takes it for https. It fails where there is one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let done = match command_line::read::<Options>().task {
        Task::Init { folder, host, listen, proxy_id } => init::run(&folder, &host, listen, proxy_id),
        Task::Serve { config, database, listen, access_log, allow_private_crl_addresses } => {
            serve::run(&config, database, listen, access_log, allow_private_crl_addresses)
        }
        Task::Config { task: ConfigTask::Check { file } } => check(&file),
        Task::Token { task } => tokens::run(task),
        Task::Events(events) => events::run(*events),
        Task::Sessions(listing) => listing::sessions(&listing),
        Task::Status { place, form } => listing::status(&place, form.is_json()),
        Task::CrlUrls { place } => listing::crl_urls(&place),
        Task::Fingerprint { file } => listing::fingerprints(&file),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(lines)) => {
            lines.iter().for_each(|line| eprintln!("seon_backend: {line}"));
            ExitCode::FAILURE
        }
    }
}

fn check(file: &Path) -> Result<(), Failure> {
    match Configuration::make(&Inputs::read(file)) {
        Ok(configuration) => {
            configuration.warnings.iter().for_each(|warning| eprintln!("seon_backend: warning: {warning}"));
            let proxy = &configuration.proxy;
            listing::print(&format!(
                "{} is good: {} partner(s), {} anchor(s), {} pinned certificate(s), {} CRL(s)\n",
                file.display(),
                proxy.partners.len(),
                proxy.trust.anchors_pem.len(),
                proxy.trust.pinned_pem.len(),
                proxy.trust.crls.len(),
            ))
        }
        Err(mistakes) => Err(Failure(mistakes.iter().map(ToString::to_string).collect())),
    }
}
