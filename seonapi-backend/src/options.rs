//! The command line.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use command_line::exit;
use command_line::{BUILT, Demands};
use license::ProxyId;
use rustls_pki_types::DnsName;

use crate::events::Events;

/// The Seon API backend that comes with the OFTP2 smart proxy: one binary, one SQLite file.
#[derive(Parser)]
#[command(name = "seon_backend", version = BUILT, arg_required_else_help = true)]
#[command(max_term_width = 100, after_help = exit::help())]
pub struct Options {
    /// What to do.
    #[command(subcommand)]
    pub task: Task,
}

impl Demands for Options {}

/// What to do.
#[derive(Subcommand)]
pub enum Task {
    /// Makes a folder with all that `serve` needs: configuration, HTTPS certificate and its CA, a first identity.
    Init {
        /// The folder; it must not exist, or be empty.
        folder: PathBuf,
        /// Name or address by which proxyclients reach the backend, beside this very host. May be repeated.
        #[arg(long, value_name = "NAME", value_parser = host)]
        host: Vec<String>,
        /// Address and port to serve on.
        #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8443")]
        listen: SocketAddr,
        /// Proxy ID of the proxyserver (`seon_proxyserver2 -L` prints it); without it, it is to be filled in.
        #[arg(long)]
        proxy_id: Option<ProxyId>,
    },
    /// Serves the Seon API until SIGTERM or SIGINT.
    Serve {
        /// The configuration file.
        #[arg(long, value_name = "FILE", default_value = "seon_backend.toml")]
        config: PathBuf,
        /// The SQLite file, instead of the configured one.
        #[arg(long, value_name = "FILE")]
        database: Option<PathBuf>,
        /// Address and port, instead of the configured ones; port 0 takes any free one.
        #[arg(long, value_name = "ADDRESS:PORT")]
        listen: Option<SocketAddr>,
        /// Writes each call to standard error.
        #[arg(long)]
        access_log: bool,
        /// Fetches CRLs also from this host and from private networks, as `allow_private_crl_addresses` does.
        #[arg(long)]
        allow_private_crl_addresses: bool,
        /// Looks whether serving would succeed, tells what is wrong and what to do, and ends.
        #[arg(long)]
        check: bool,
    },
    /// Works on configuration files.
    Config {
        /// What to do.
        #[command(subcommand)]
        task: ConfigTask,
    },
    /// Works on the security tokens of proxyclients.
    Token {
        /// What to do.
        #[command(subcommand)]
        task: TokenTask,
    },
    /// Lists the system log, shows one of its events, or sets its state.
    Events(Box<Events>),
    /// Lists the ended sessions.
    Sessions(Listing),
    /// Lists the proxyclients and the proxyservers they are linked to.
    Status {
        /// Where it is stored.
        #[command(flatten)]
        place: Place,
        /// Text or JSON.
        #[command(flatten)]
        form: Form,
    },
    /// Lists the CRL distribution points that proxyclients saw in certificates of partners, and those that the
    /// configuration names, with what was fetched from them.
    ///
    /// CRLs of the folder that `trust.crls` names come from no such place and are not listed; `seon_backend serve --check`
    /// tells of each of them.
    CrlUrls {
        /// Where they are stored.
        #[command(flatten)]
        place: Place,
    },
    /// Prints the SHA-256 of the certificates in a PEM file, as the configuration names them.
    Fingerprint {
        /// The PEM file.
        file: PathBuf,
    },
}

/// What to do with a configuration file.
#[derive(Subcommand)]
pub enum ConfigTask {
    /// Tells each mistake with its line and member; a member of the wrong form alone, as nothing behind it is read.
    Check {
        /// The configuration file.
        file: PathBuf,
    },
    /// Writes the whole configuration into one file: the configuration file, the certificates, CRLs and the event script
    /// that it names, and from the database the security tokens (as hashes) and the CRLs. Not the system log.
    Export {
        /// The file to make, for its owner alone; it must not exist.
        #[arg(long, value_name = "BUNDLE")]
        out: PathBuf,
        /// Also the private keys and the secret of the web-hook, for another host.
        #[arg(long)]
        with_private_keys: bool,
        /// The configuration file.
        #[arg(long, value_name = "FILE", default_value = "seon_backend.toml")]
        config: PathBuf,
    },
    /// Takes over what `config export` wrote: checks it as a whole first, tells mistakes with their places and changes
    /// nothing then; otherwise replaces all files at once and keeps the old ones in a folder. A running backend follows.
    Import {
        /// The file that `config export` made.
        bundle: PathBuf,
        /// The configuration file to make or replace; the other files go into its folder. Private keys that are not in the
        /// bundle must be there.
        #[arg(long, value_name = "FILE", default_value = "seon_backend.toml")]
        config: PathBuf,
        /// Only checks.
        #[arg(long)]
        dry_run: bool,
    },
}

/// What to do with security tokens.
#[derive(Subcommand)]
pub enum TokenTask {
    /// Makes a token and prints it, this once; kept is its hash only.
    New {
        /// A name for it, by default the beginning of its hash.
        #[arg(long)]
        name: Option<String>,
        /// Where it is stored.
        #[command(flatten)]
        place: Place,
    },
    /// Lists the tokens: name, since when, whether enabled, beginning of the hash.
    List {
        /// Where they are stored.
        #[command(flatten)]
        place: Place,
    },
    /// Refuses a token from now on.
    Disable {
        /// Its name.
        name: String,
        /// Where it is stored.
        #[command(flatten)]
        place: Place,
    },
    /// Accepts a token again.
    Enable {
        /// Its name.
        name: String,
        /// Where it is stored.
        #[command(flatten)]
        place: Place,
    },
}

/// Where the SQLite file is.
#[derive(Args)]
pub struct Place {
    /// The configuration file that names it.
    #[arg(long, value_name = "FILE", default_value = "seon_backend.toml", conflicts_with = "database")]
    pub config: PathBuf,
    /// The SQLite file itself.
    #[arg(long, value_name = "FILE")]
    pub database: Option<PathBuf>,
}

/// A list of what was reported.
#[derive(Args)]
pub struct Listing {
    /// Where it is stored.
    #[command(flatten)]
    pub place: Place,
    /// Text or JSON.
    #[command(flatten)]
    pub form: Form,
    /// Not more than so many, the newest ones.
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    pub last: u32,
}

/// How a list is written.
#[derive(Args)]
pub struct Form {
    /// Text for people, or for programs one JSON object a line with the members of the contract.
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text", conflicts_with = "json")]
    format: Format,
    /// The same as --format json.
    #[arg(long)]
    json: bool,
}

/// How a list is written.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

impl Form {
    /// Whether it is JSON.
    pub fn is_json(&self) -> bool {
        self.json || self.format == Format::Json
    }
}

/// A name that a certificate can have and callers can ask for, perhaps with `*` as its first label; or an address.
fn host(text: &str) -> Result<String, String> {
    let name = text.strip_prefix("*.").unwrap_or(text);
    // In certificates no dot ends a name (RFC 5280, 4.2.1.6).
    if text.parse::<IpAddr>().is_ok() || (DnsName::try_from(name).is_ok() && !name.ends_with('.')) {
        return Ok(text.to_owned());
    }
    Err(if text.is_ascii() {
        "it is neither a DNS name nor an IP address: give the name or the address alone, without scheme, port or brackets"
    } else {
        "certificates have DNS names in ASCII only: give the punycode form, which begins with xn-- where it differs"
    }
    .to_owned())
}
