//! `seon_proxyclient2`: the inside of the OFTP2 smart proxy.
//!
//! `gate` is the parent and forks everything else: the `agent`, which owns configuration, keys and the link, and a
//! `session` for each paired partner. What they may say to each other stands in `between`.

mod agent;
mod between;
mod check;
#[cfg(evil)]
#[path = "../../tests/evil/src/client.rs"]
mod evil;
mod explain;
mod gate;
mod options;
mod outgoing;
mod receive_daemon;
mod session;

use std::process::ExitCode as ProcessExit;
use std::time::Duration;

use license::{LinkKey, SecurityToken, client_line};
use proxydaemon::anew::{self, Heritage};
use proxydaemon::credentials::Secret;
use proxydaemon::exit::ExitCode;
use proxydaemon::launch::{Launch, Launched, NotLaunched};
use proxydaemon::level_command::LevelCommand;
use proxydaemon::logging::{self, Alert};
use proxydaemon::pid_file::Stale;
use proxydaemon::signals::Signals;
use proxydaemon::wiping::{self, Wiping};
use proxydaemon::{heap, state_directory, title};
use proxylink::situation::Situation;
use zeroize::Zeroize;

use crate::gate::Sources;
use crate::options::{Options, Task};

const PROGRAM: &str = "seon_proxyclient2";
/// Name of the `.logrc`, without the ending.
const STEM: &str = "seon_proxyclient";

/// Reading the options leaves no copy of URL and token.
#[global_allocator]
static ALLOCATOR: Wiping = Wiping;

fn main() -> ProcessExit {
    logging::set_alerts(alert);
    logging::set_advice(advice);
    let done = match anew::inherited() {
        Ok(None) => act(&mut command_line::read::<Options>()),
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
    wiping::no_more();
    // A process list that shows less is no reason to end what runs.
    let _ = title::prepare();
    title::set_title(&format!("{PROGRAM}: gate"));
    gate::resume(heritage).map_err(|error| NotLaunched::new(ExitCode::Resources, error))
}

fn act(options: &mut Options) -> Result<ExitCode, NotLaunched> {
    if options.version {
        println!("{}", command_line::version(PROGRAM));
        return Ok(ExitCode::Ok);
    }
    if let Some(words) = &options.log_level {
        return change_level(words, options.log_level_for);
    }
    if !options.print_client_line && options.task.is_none() && !options.check {
        // Before a secret is read that may be there to be read once.
        heap::have_freed_pieces_joined(PROGRAM);
    }
    let token = secret("-T TOKEN|@FILE", &mut options.token, "token")?;
    if options.print_client_line {
        let mut text = token.read().map_err(|error| NotLaunched::new(ExitCode::Usage, error))?;
        let read = text.parse::<SecurityToken>();
        text.zeroize();
        let token = read.map_err(|error| NotLaunched::new(ExitCode::Usage, error))?;
        println!("{}", client_line(&LinkKey::derive(&token), None));
        return Ok(ExitCode::Ok);
    }
    let url = secret("-U URL|@FILE", &mut options.url, "url")?;
    if let Some(Task::Explain { certificate, address, called }) = &options.task {
        let asked = called.as_deref().map_or(explain::Asked::Caller(*address), explain::Asked::Called);
        return explain::run(&url, &token, options.ca_file.as_deref(), certificate, asked)
            .map_err(|text| NotLaunched::new(ExitCode::Failure, text));
    }
    let server = options
        .server
        .clone()
        .ok_or_else(|| NotLaunched::new(ExitCode::Usage, "-S HOST[:PORT], where the proxyserver is, is missing"))?;
    let working = std::env::current_dir().unwrap_or_default();
    let sources = Sources {
        url,
        token,
        ca_file: options.ca_file.as_ref().map(|file| working.join(file)),
        server,
        state_dir: working.join(&options.state_dir),
        poll_interval: options.poll_interval,
    };
    if options.check {
        return Ok(check::run(options, &sources));
    }
    serve(options, sources)
}

/// Finds a secret given by option, file or service manager; the option's copy is wiped.
fn secret(option: &str, given: &mut Option<String>, credential: &str) -> Result<Secret, NotLaunched> {
    let located = Secret::locate(given.as_deref(), credential);
    given.zeroize();
    match located {
        Ok(Some(secret)) => Ok(secret),
        Ok(None) => Err(NotLaunched::new(ExitCode::Usage, format!("{option} is missing"))),
        Err(error) => Err(NotLaunched::new(ExitCode::Usage, error)),
    }
}

/// `--log-level`: tells another process of this program.
fn change_level(words: &[String], time: Option<Duration>) -> Result<ExitCode, NotLaunched> {
    let told = LevelCommand::read(words, time)
        .and_then(|command| command.carry_out(PROGRAM))
        .map_err(|error| NotLaunched::new(if error.is_usage() { ExitCode::Usage } else { ExitCode::Failure }, error))?;
    println!("{told}");
    Ok(ExitCode::Ok)
}

/// A daemon's start, top to bottom.
fn serve(options: &Options, sources: Sources) -> Result<ExitCode, NotLaunched> {
    let resources = |error: std::io::Error| NotLaunched::new(ExitCode::Resources, error);
    wiping::no_more();
    title::prepare().map_err(resources)?;
    title::wipe_arguments(PROGRAM).map_err(resources)?;
    let signals = Signals::block().map_err(resources)?;
    let entered = Launch {
        program: PROGRAM,
        stem: STEM,
        foreground: options.foreground,
        user: options.user.as_deref(),
        pid_file: options.pid_file.as_deref(),
        stale: if options.replace_stale_pid { Stale::Replace } else { Stale::Refuse },
        keep: &[sources.url.descriptor(), sources.token.descriptor()],
    }
    .enter(signals)?;
    if let Err(error) = state_directory::prepare(&sources.state_dir, entered.user()) {
        let text = format!(
            "state directory {}: {error}; it must belong to the daemon's user, --state-dir names another",
            sources.state_dir.display()
        );
        return Err(entered.fail(ExitCode::Identity, &text));
    }
    let launched = entered.settle()?;
    // What the agent writes beneath its state directory, the gate must not have given up.
    if let Err(error) = proxydaemon::gate::confine(&launched.log, &launched.pid_file, &[&sources.state_dir], false) {
        return Err(launched.fail(ExitCode::Confinement, &error.to_string()));
    }
    #[cfg(evil)]
    attempts::make_ordered("gate");
    let Launched { starter, pid_file, log, .. } = launched;
    gate::run(gate::Start { signals, log, pid_file, sources, starter: Some(starter) }).map_err(resources)
}
