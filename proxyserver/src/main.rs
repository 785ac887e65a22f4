//! `seon_proxyserver2`: the DMZ side of the OFTP2 smart proxy.
//!
//! `gate` is the parent and forks everything else: `switchboard`, which speaks with the inside, and a `session` for each
//! partner that connects. What they may say to each other stands in `between`.

mod between;
mod check;
#[cfg(evil)]
#[path = "../../tests/evil/src/server.rs"]
mod evil;
mod gate;
mod not_bound;
mod options;
mod prepared;
mod session;
mod switchboard;
mod target;

use std::net::SocketAddr;
use std::process::ExitCode as ProcessExit;
use std::time::{Duration, SystemTime};

use license::{IdentityKey, IssuerKey, Licence, ValidLicence};
use proxydaemon::anew::{self, Heritage};
use proxydaemon::descriptors::Listener;
use proxydaemon::exit::ExitCode;
use proxydaemon::gate::lacks_family;
use proxydaemon::launch::{Entered, Launch, Launched, NotLaunched};
use proxydaemon::level_command::LevelCommand;
use proxydaemon::logging::{self, Alert};
use proxydaemon::pid_file::Stale;
use proxydaemon::signals::Signals;
use proxydaemon::user::{self, User};
use proxydaemon::{heap, state_directory, title};
use proxylink::situation::Situation;

use crate::options::Options;

const PROGRAM: &str = "seon_proxyserver2";
/// Name of the `.logrc`, without the ending.
const STEM: &str = "seon_proxyserver";
/// Connections of the inside that may wait for the switchboard.
const LINK_BACKLOG: u16 = 128;

fn main() -> ProcessExit {
    logging::set_alerts(alert);
    logging::set_advice(advice);
    let done = match anew::inherited() {
        Ok(None) => act(&command_line::read::<Options>().with_absolute_paths()),
        Ok(Some(heritage)) => resume(heritage),
        Err(error) => Err(NotLaunched::new(ExitCode::Failure, error)),
    };
    let code = match done {
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

/// What is to be done about a code, where it is anything.
fn advice(code: &str) -> Option<&'static str> {
    let advice = Situation::by_code(code)?.advice();
    (!advice.starts_with("Nothing to do")).then_some(advice)
}

/// What makes a code an alert, for `seon_eve`.
fn alert(code: &str) -> Option<Alert> {
    let situation = Situation::by_code(code)?;
    let category = situation.alert()?;
    Some(Alert {
        number: situation.alert_number(),
        signature: situation.sentence(),
        category: category.name(),
        severity: category.severity(),
    })
}

/// Goes on as the gate that this process was before it executed itself anew.
fn resume(heritage: Heritage) -> Result<ExitCode, NotLaunched> {
    // A process list that shows less is no reason to end what runs.
    let _ = title::prepare();
    title::set_title(&format!("{PROGRAM}: gate"));
    gate::resume(heritage).map_err(|error| NotLaunched::new(ExitCode::Resources, error))
}

fn act(options: &Options) -> Result<ExitCode, NotLaunched> {
    if options.version {
        println!("{}", command_line::version(PROGRAM));
        return Ok(ExitCode::Ok);
    }
    if let Some(words) = &options.log_level {
        return change_level(words, options.log_level_for);
    }
    if options.proxy_id {
        become_user(options)?;
        println!("{}", identity(options)?.proxy_id());
        return Ok(ExitCode::Ok);
    }
    if options.validity {
        become_user(options)?;
        let licence = licence(options, &identity(options)?)?;
        println!("licensed to {} until {}", licence.grant().licensee, license::moment(licence.grant().valid_until));
        return Ok(ExitCode::Ok);
    }
    if options.check {
        return Ok(check::run(options));
    }
    serve(options)
}

/// `--log-level`: tells another process of this program.
fn change_level(words: &[String], time: Option<Duration>) -> Result<ExitCode, NotLaunched> {
    let told = LevelCommand::read(words, time)
        .and_then(|command| command.carry_out(PROGRAM))
        .map_err(|error| NotLaunched::new(if error.is_usage() { ExitCode::Usage } else { ExitCode::Failure }, error))?;
    println!("{told}");
    Ok(ExitCode::Ok)
}

/// Becomes the user of `-u` before the key is looked for, since what is made here is what a start as that user finds. Root
/// without `-u` makes the key for the owner of the state directory.
fn become_user(options: &Options) -> Result<(), NotLaunched> {
    let privileges = |error| NotLaunched::new(ExitCode::Privileges, error);
    if options.user.is_some()
        && let Some(user) = user::for_start(options.user.as_deref()).map_err(privileges)?
    {
        prepare_state(options, Some(&user))?;
        user.become_user().map_err(privileges)?;
    }
    Ok(())
}

fn prepare_state(options: &Options, user: Option<&User>) -> Result<(), NotLaunched> {
    state_directory::prepare(&options.state_dir, user).map_err(|error| {
        let shown = options.state_dir.display();
        let text =
            format!("state directory {shown}: {error}; it must belong to the daemon's user, --state-dir names another");
        NotLaunched::new(ExitCode::Identity, text)
    })
}

/// A daemon's start, top to bottom.
fn serve(options: &Options) -> Result<ExitCode, NotLaunched> {
    let resources = |error: std::io::Error| NotLaunched::new(ExitCode::Resources, error);
    heap::have_freed_pieces_joined(PROGRAM);
    title::prepare().map_err(resources)?;
    let signals = Signals::block().map_err(resources)?;
    let entered = Launch {
        program: PROGRAM,
        stem: STEM,
        foreground: options.foreground,
        user: options.user.as_deref(),
        pid_file: options.pid_file.as_deref(),
        stale: if options.replace_stale_pid { Stale::Replace } else { Stale::Refuse },
        keep: &[],
    }
    .enter(signals)?;
    let link = match bind(&options.listen.addresses) {
        Ok(link) => link,
        Err(failure) => return Err(entered.fail(failure.code, &failure.text)),
    };
    if let Err(failure) = prepare_state(options, entered.user()) {
        return Err(entered.fail(failure.code, &failure.text));
    }
    let launched = settle(entered, options)?;
    if let Err(error) = proxydaemon::gate::confine(&launched.log, &launched.pid_file, &[], false) {
        return Err(launched.fail(ExitCode::Confinement, &error.to_string()));
    }
    #[cfg(evil)]
    attempts::make_ordered("gate");
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
    let shown = identity(options)
        .map_err(|failure| (Situation::IdentityUnreadable, failure))
        .and_then(|identity| licence(options, &identity).map_err(|failure| (Situation::LicenceInvalid, failure)));
    match shown {
        Ok(_) => Ok(launched),
        Err((situation, failure)) => {
            situation.tell(&failure.text);
            Err(launched.fail(failure.code, &failure.text))
        }
    }
}

/// Of the two wildcards that stand for no IP, one is enough where the host is without the other family; whatever else
/// cannot be listened on fails the start.
fn bind(addresses: &[SocketAddr]) -> Result<Vec<Listener>, NotLaunched> {
    let pair = addresses.len() > 1;
    let mut bound = Vec::new();
    let mut without = Vec::new();
    for &address in addresses {
        match Listener::bind(address, LINK_BACKLOG) {
            Ok(listener) => bound.push(listener),
            Err(error) if pair && lacks_family(address, &error) => without.push(not_bound::text(address, &error)),
            Err(error) => return Err(NotLaunched::new(ExitCode::CannotBind, not_bound::text(address, &error))),
        }
    }
    if bound.is_empty() { Err(NotLaunched::new(ExitCode::CannotBind, without.join("; "))) } else { Ok(bound) }
}

fn identity(options: &Options) -> Result<IdentityKey, NotLaunched> {
    IdentityKey::load_or_create(&options.state_dir).map_err(|error| NotLaunched::new(ExitCode::Identity, error))
}

fn licence(options: &Options, identity: &IdentityKey) -> Result<ValidLicence, NotLaunched> {
    Licence::load(&options.licence, &IssuerKey::built_in())
        .and_then(|licence| licence.check(identity.proxy_id(), SystemTime::now()))
        .map_err(|error| {
            let (text, own) = (error.to_string(), identity.proxy_id().to_string());
            let text = if text.contains(&own) { text } else { format!("{text} (Proxy ID of this host: {own})") };
            NotLaunched::new(ExitCode::Licence, text)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_taken_in_one_family_fails_the_start_with_its_address() {
        let taken = Listener::bind("127.0.0.1:0".parse().unwrap(), 1).unwrap().address().unwrap();
        let _holder = Listener::bind(taken, 1).unwrap();
        let free = "127.0.0.2:0".parse().unwrap();
        assert_eq!(bind(&[free]).map(|bound| bound.len()).map_err(|failure| failure.text), Ok(1));
        for addresses in [vec![taken], vec![free, taken], vec![taken, free]] {
            let failure = bind(&addresses).unwrap_err();
            assert_eq!(failure.code, ExitCode::CannotBind);
            assert!(failure.text.contains(&taken.to_string()) && failure.text.contains("in use"), "{}", failure.text);
        }
    }
}
