//! The command line of `seon_proxyclient2`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use command_line::exit;
use command_line::{BEYOND_THE_ORIGINAL, Demand, Demands};
use proxydaemon::credentials::Secret;
use proxydaemon::level_command;

use crate::agent::ServerAddress;

/// Port of the link.
pub const LINK_PORT: u16 = 2878;

/// OFTP2 smart proxy, inside: owns configuration and keys, opens every connection to the DMZ.
#[derive(Parser)]
#[command(name = "seon_proxyclient2", disable_version_flag = true, arg_required_else_help = true)]
#[command(max_term_width = 100, after_help = exit::help())]
pub struct Options {
    /// URL of the Seon API, with user and password for a web server in front; @FILE reads it from a file.
    #[arg(short = 'U', long, value_name = "URL|@FILE", global = true)]
    pub url: Option<String>,

    /// Host and port of the proxyserver.
    #[arg(short = 'S', long, value_name = "HOST[:PORT]", value_parser = server_address)]
    pub server: Option<ServerAddress>,

    /// Security token; @FILE reads it from a file, which keeps it out of the process list.
    #[arg(short = 'T', long, value_name = "TOKEN|@FILE", global = true)]
    pub token: Option<String>,

    /// Print name, build date and version, and end.
    #[arg(short = 'v', long)]
    pub version: bool,

    /// Stay in the foreground.
    #[arg(short = 'd', long)]
    pub foreground: bool,

    /// User to run as when started as root.
    #[arg(short = 'u', long, value_name = "USER", help_heading = BEYOND_THE_ORIGINAL)]
    pub user: Option<String>,

    /// CA certificates (PEM) for the Seon API, instead of the system's.
    #[arg(long, value_name = "FILE", help_heading = BEYOND_THE_ORIGINAL, global = true)]
    pub ca_file: Option<PathBuf>,

    /// Directory of the spool and the memory of handshake signatures.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/seon_proxyclient", help_heading = BEYOND_THE_ORIGINAL)]
    pub state_dir: PathBuf,

    /// PID file; by default seon_proxyclient2.pid beside the program.
    #[arg(long, value_name = "FILE", help_heading = BEYOND_THE_ORIGINAL)]
    pub pid_file: Option<PathBuf>,

    /// Take over a PID file whose process is gone.
    #[arg(long, help_heading = BEYOND_THE_ORIGINAL)]
    pub replace_stale_pid: bool,

    /// Look whether a start with these options would succeed, tell what is wrong and what to do, and end.
    #[arg(long, help_heading = BEYOND_THE_ORIGINAL)]
    pub check: bool,

    /// Tell one process of this program to log at LEVEL (trace, debug, info, warn, error or fatal), and end.
    #[arg(long, num_args = 2, value_names = ["PID", "LEVEL"], help_heading = BEYOND_THE_ORIGINAL)]
    pub log_level: Option<Vec<String>>,

    /// With --log-level: for so long (90s, 10m, 2h, 1d), then as before.
    #[arg(long = "for", value_name = "TIME", requires = "log_level", value_parser = level_command::time, help_heading = BEYOND_THE_ORIGINAL)]
    pub log_level_for: Option<Duration>,

    /// Print the `client:` line of this token for the proxyserver's licence file, and end.
    #[arg(long, help_heading = BEYOND_THE_ORIGINAL)]
    pub print_client_line: bool,

    /// Between two questions for the configuration, 1 to 3600.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds, help_heading = BEYOND_THE_ORIGINAL)]
    pub poll_interval: Duration,

    /// What to do instead of serving.
    #[command(subcommand)]
    pub task: Option<Task>,
}

/// What to do instead of serving.
#[derive(Subcommand)]
pub enum Task {
    /// Tell whether the partner with this certificate would come in, and if not, why. It takes -U, -T and --ca-file.
    ///
    /// The configuration is fetched once, and the certificate judged as that of a partner that calls, or with --called of
    /// one that is called. Exit code 0: it would come in (or be accepted); 1: it would not, or cannot be judged.
    Explain {
        /// The certificate, and those that the partner sends along: PEM, the partner's own first, or one in DER.
        #[arg(long, value_name = "FILE")]
        certificate: PathBuf,
        /// Where the partner calls from; without it `allow_from` is not looked at.
        #[arg(long, value_name = "IP")]
        address: Option<IpAddr>,
        /// Judge the certificate as that of this partner when it is called, and not as that of one that calls.
        #[arg(long, value_name = "PARTNER", conflicts_with = "address")]
        called: Option<String>,
    },
}

impl Demands for Options {
    /// Token, URL and server, as far as what is to be done needs them. What stands in a file must be readable.
    fn demands(&self) -> Vec<Demand> {
        if self.version {
            return Vec::new();
        }
        if let Some(words) = &self.log_level {
            let mistakes = level_command::mistakes(words).into_iter();
            return mistakes.map(|sentence| Demand { option: "log_level", sentence }).collect();
        }
        let token = demand("token", "-T TOKEN|@FILE, the security token, is missing", self.token.as_deref());
        if self.print_client_line {
            return token.into_iter().collect();
        }
        let url = demand("url", "-U URL|@FILE, where the Seon API is, is missing", self.url.as_deref());
        let server = (self.task.is_none() && self.server.is_none()).then(|| {
            let sentence = "-S HOST[:PORT], where the proxyserver is, is missing".to_owned();
            Demand { option: "server", sentence }
        });
        url.into_iter().chain(server).chain(token).collect()
    }
}

/// The mistake in a secret, which may also come from the service manager.
fn demand(option: &'static str, missing: &str, given: Option<&str>) -> Option<Demand> {
    let sentence = match Secret::locate(given, option) {
        Ok(Some(_)) => return None,
        Ok(None) => missing.to_owned(),
        Err(error) => error.to_string(),
    };
    Some(Demand { option, sentence })
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds @ 1..=3600) => Ok(Duration::from_secs(seconds)),
        _ => Err(format!("{text:?} is no number of seconds from 1 to 3600")),
    }
}

fn server_address(text: &str) -> Result<ServerAddress, String> {
    let refuse = || format!("{text:?} is no HOST[:PORT]; an IPv6 address with a port stands in brackets");
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, behind) = rest.split_once(']').ok_or_else(refuse)?;
            (host, behind.strip_prefix(':'))
        }
        None => match text.rsplit_once(':') {
            // More than one colon and no brackets: an IPv6 address alone.
            Some((host, _)) if host.contains(':') => (text, None),
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match port {
        Some(port) => port.parse().map_err(|_| refuse())?,
        None => LINK_PORT,
    };
    if host.is_empty() || port == 0 { Err(refuse()) } else { Ok(ServerAddress { host: host.to_owned(), port }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Options::command().debug_assert();
    }

    /// The letters of the original, apart from `-h`.
    const ORIGINAL: &str = "USTvd";

    #[test]
    fn every_short_option_has_a_long_one_and_what_the_original_has_not_stands_apart() {
        let command = Options::command();
        for option in command.get_arguments() {
            let (short, long) = (option.get_short(), option.get_long());
            assert!(long.is_some(), "{short:?}");
            let of_the_original = short.is_some_and(|short| ORIGINAL.contains(short));
            let apart = option.get_help_heading() == Some(BEYOND_THE_ORIGINAL);
            assert_eq!(apart, !of_the_original, "{long:?}");
        }
        let has = |letter| command.get_arguments().any(|option| option.get_short() == Some(letter));
        assert!(ORIGINAL.chars().all(has));
    }

    #[test]
    fn the_configuration_is_asked_for_every_minute_unless_told_otherwise() {
        let interval = |arguments: &[&str]| {
            let options = Options::try_parse_from([&["seon_proxyclient2", "-d"], arguments].concat());
            options.map(|options| options.poll_interval.as_secs()).ok()
        };
        assert_eq!(interval(&[]), Some(60));
        assert_eq!(interval(&["--poll-interval", "1"]), Some(1));
        for wrong in ["0", "3601", "-1", "1s", ""] {
            assert_eq!(interval(&["--poll-interval", wrong]), None, "{wrong}");
        }
    }

    #[test]
    fn a_server_may_leave_out_its_port() {
        let parsed = |text| server_address(text).map(|address| (address.host, address.port));
        assert_eq!(parsed("dmz1"), Ok(("dmz1".to_owned(), 2878)));
        assert_eq!(parsed("dmz1:99"), Ok(("dmz1".to_owned(), 99)));
        assert_eq!(parsed("[2001:db8::1]:99"), Ok(("2001:db8::1".to_owned(), 99)));
        assert_eq!(parsed("2001:db8::1"), Ok(("2001:db8::1".to_owned(), 2878)));
        for wrong in ["", ":99", "dmz1:x", "dmz1:0", "[::1"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }
}
