//! `seon_backend`: the embedded Seon API backend.

mod alarm;
mod bundle;
mod check;
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

use command_line::exit::ExitCode;
use configuration::{Configuration, Inputs, Reader};
use options::{ConfigTask, Options, Task};

/// Why the program ends without success.
struct Failure {
    /// What to say, one line each.
    lines: Vec<String>,
    /// How to end.
    code: ExitCode,
}

impl Failure {
    /// The configuration has mistakes.
    fn mistakes(mistakes: impl IntoIterator<Item = impl std::fmt::Display>) -> Self {
        Self { lines: mistakes.into_iter().map(|one| one.to_string()).collect(), code: ExitCode::Configuration }
    }
}

impl<T: std::fmt::Display> From<T> for Failure {
    fn from(reason: T) -> Self {
        Self { lines: vec![reason.to_string()], code: ExitCode::Failure }
    }
}

fn main() -> std::process::ExitCode {
    // The HTTP client takes it for https. It fails where there is one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let done = match command_line::read::<Options>().task {
        Task::Init { folder, host, listen, proxy_id } => init::run(&folder, &host, listen, proxy_id),
        Task::Serve { config, database, listen, check: true, .. } => check::run(&config, database, listen),
        Task::Serve { config, database, listen, access_log, allow_private_crl_addresses, check: false } => {
            serve::run(&config, database, listen, access_log, allow_private_crl_addresses)
        }
        Task::Config { task: ConfigTask::Check { file } } => check(&file),
        Task::Config { task: ConfigTask::Export { config, out, with_private_keys } } => {
            bundle::export(&config, &out, with_private_keys)
        }
        Task::Config { task: ConfigTask::Import { bundle, config, dry_run } } => {
            bundle::import(&bundle, &config, dry_run)
        }
        Task::Token { task } => tokens::run(task),
        Task::Events(events) => events::run(*events),
        Task::Sessions(listing) => listing::sessions(&listing),
        Task::Status { place, form } => listing::status(&place, form.is_json()),
        Task::CrlUrls { place } => listing::crl_urls(&place),
        Task::Fingerprint { file } => listing::fingerprints(&file),
    };
    match done {
        Ok(()) => ExitCode::Ok.into(),
        Err(Failure { lines, code }) => {
            lines.iter().for_each(|line| eprintln!("seon_backend: {line}"));
            code.into()
        }
    }
}

fn check(file: &Path) -> Result<(), Failure> {
    match Configuration::make(&Inputs::read(file, Reader::Command)) {
        Ok(configuration) => {
            configuration.all_warnings().for_each(|warning| eprintln!("seon_backend: warning: {warning}"));
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
        Err(mistakes) => Err(Failure::mistakes(mistakes)),
    }
}
