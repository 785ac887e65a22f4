//! `seon_proxyserver2`: the DMZ side of the OFTP2 smart proxy.
//!
//! `gate` is the parent and forks everything else: `switchboard`, which speaks with the inside, and a `session` for each
//! partner that connects. What they may say to each other stands in `between`.

mod between;
mod gate;
mod options;
mod prepared;
mod session;
mod switchboard;
mod tally;

use std::process::ExitCode as ProcessExit;
use std::time::SystemTime;

use clap::Parser;
use license::{IdentityKey, IssuerKey, Licence, ValidLicence};
use proxydaemon::descriptors::Listener;
use proxydaemon::exit::ExitCode;
use proxydaemon::launch::{Entered, Launch, Launched, NotLaunched};
use proxydaemon::pid_file::Stale;
use proxydaemon::signals::Signals;
use proxydaemon::{state_directory, title};

use crate::options::Options;

const PROGRAM: &str = "seon_proxyserver2";
/// Connections of the inside that may wait for the switchboard.
const LINK_BACKLOG: u16 = 128;

fn main() -> ProcessExit {
    let options = Options::parse();
    let code = match act(&options) {
        Ok(code) => code,
        Err(failure) => {
            if !failure.text.is_empty() {
                eprintln!("{PROGRAM}: {}", failure.text);
            }
            failure.code
        }
    };
    ProcessExit::from(u8::try_from(code.number()).unwrap_or(1))
}

fn act(options: &Options) -> Result<ExitCode, NotLaunched> {
    if options.version {
        println!("{PROGRAM}, built {}, version {}", env!("BUILD_DATE"), env!("CARGO_PKG_VERSION"));
        return Ok(ExitCode::Ok);
    }
    if options.proxy_id {
        println!("{}", identity(options)?.proxy_id());
        return Ok(ExitCode::Ok);
    }
    if options.validity {
        let licence = licence(options, &identity(options)?)?;
        println!("licensed to {} until {}", licence.grant().licensee, licence.grant().valid_until.to_rfc3339());
        return Ok(ExitCode::Ok);
    }
    serve(options)
}

/// A daemon's start, top to bottom.
fn serve(options: &Options) -> Result<ExitCode, NotLaunched> {
    let resources = |error: std::io::Error| NotLaunched::new(ExitCode::Resources, error);
    title::prepare().map_err(resources)?;
    let signals = Signals::block().map_err(resources)?;
    let entered = Launch {
        program: PROGRAM,
        stem: "seon_proxyserver",
        foreground: options.foreground,
        user: options.user.as_deref(),
        pid_file: options.pid_file.as_deref(),
        stale: if options.replace_stale_pid { Stale::Replace } else { Stale::Refuse },
    }
    .enter(signals)?;
    let link = match bind(options) {
        Ok(link) => link,
        Err(failure) => return Err(entered.fail(failure.code, &failure.text)),
    };
    if let Err(error) = state_directory::prepare(&options.state_dir, entered.user()) {
        let text = format!("state directory {}: {error}", options.state_dir.display());
        return Err(entered.fail(ExitCode::Identity, &text));
    }
    let launched = settle(entered, options)?;
    let Launched { starter, pid_file, log, .. } = launched;
    let start = gate::Start {
        signals,
        log,
        pid_file,
        link,
        state_dir: options.state_dir.clone(),
        licence: options.licence.clone(),
    };
    gate::run(start, || starter.ready()).map_err(resources)
}

/// Becomes the user, and shows that identity and licence are there before anything is forked.
fn settle(entered: Entered, options: &Options) -> Result<Launched, NotLaunched> {
    let launched = entered.settle()?;
    match identity(options).and_then(|identity| licence(options, &identity)) {
        Ok(_) => Ok(launched),
        Err(failure) => {
            proxylink::situation::Situation::LicenceInvalid.tell(&failure.text);
            Err(launched.fail(failure.code, &failure.text))
        }
    }
}

fn bind(options: &Options) -> Result<Vec<Listener>, NotLaunched> {
    let mut bound = Vec::new();
    let mut failures = Vec::new();
    for &address in &options.listen.addresses {
        match Listener::bind(address, LINK_BACKLOG) {
            Ok(listener) => bound.push(listener),
            Err(error) => failures.push(format!("cannot listen on {address} for the proxyclient: {error}")),
        }
    }
    // Of the two wildcards one is enough: a host may be without IPv6.
    if bound.is_empty() { Err(NotLaunched::new(ExitCode::CannotBind, failures.join("; "))) } else { Ok(bound) }
}

fn identity(options: &Options) -> Result<IdentityKey, NotLaunched> {
    IdentityKey::load_or_create(&options.state_dir).map_err(|error| NotLaunched::new(ExitCode::Identity, error))
}

fn licence(options: &Options, identity: &IdentityKey) -> Result<ValidLicence, NotLaunched> {
    Licence::load(&options.licence, &IssuerKey::built_in())
        .and_then(|licence| licence.check(identity.proxy_id(), SystemTime::now()))
        .map_err(|error| {
            NotLaunched::new(ExitCode::Licence, format!("{error} (Proxy ID of this host: {})", identity.proxy_id()))
        })
}
