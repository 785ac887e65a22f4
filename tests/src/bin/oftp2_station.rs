//! `oftp2_station`: sends files to an OFTP2 station, or waits for them, over TCP or TLS.

use std::fs;
use std::io::{self, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use tests::station::{
    self, Answer, Event, Failure, Format, Identity, Level, Observer, OutgoingFile, Receiver, Report, Rule, Security,
    Settings, Store, TlsSettings, TlsVersions, Transfers, Trust, Via,
};

/// Beside 0 (all went well), 1 (it did not) and 2 (the command line is wrong).
const REFUSED_BY_PROXY: u8 = 3;

#[derive(Parser)]
#[command(version, about = "An OFTP2 station (RFC 5024) to try a set-up with")]
struct Options {
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// Call a station and send it files
    Send(Send),
    /// Wait for stations that call, and take their files
    Receive(Receive),
    /// Wait for stations that call, and send each file back in the session it came in
    Echo(Echo),
}

#[derive(Args)]
struct Send {
    /// The station to call
    #[arg(long, value_name = "HOST:PORT")]
    to: String,
    /// The proxy to go through: http names the station by CONNECT, socks5 by SOCKS5 (a name as a name). When the proxy
    /// refuses, the exit code is 3
    #[arg(long, value_name = "http://HOST:PORT|socks5://HOST:PORT")]
    via: Option<Via>,
    /// Put files that the other station sends in return here
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Dataset name, when there is one file [default: made of the file's name]
    #[arg(long, value_name = "NAME")]
    dataset: Option<String>,
    /// Final recipient (SFIDDEST) [default: the code of the station called]
    #[arg(long, value_name = "CODE")]
    destination: Option<String>,
    /// Description of each file (SFIDDESC, level 5)
    #[arg(long, value_name = "TEXT", default_value = "")]
    description: String,
    /// Send as text (format T)
    #[arg(long, conflicts_with = "record_length")]
    text: bool,
    /// Send as records of that many octets (format F)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=99_999))]
    record_length: Option<u32>,
    /// Send as records of at most N octets (format V); in the file each stands behind its length, two octets, big-endian
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_535))]
    #[arg(conflicts_with_all = ["text", "record_length"])]
    variable_records: Option<u32>,
    /// Ask for signed responses, with that cipher suite (SFIDSIGN, SFIDCIPH; level 5)
    #[arg(long, value_name = "SUITE", value_parser = clap::value_parser!(u8).range(1..=99))]
    ask_signature: Option<u8>,
    /// It is enough that the files were taken; do not ask for an End to End Response to each
    #[arg(long)]
    no_eerp_wait: bool,
    #[command(flatten)]
    terms: Terms,
    /// Files to send; none tries the connection
    files: Vec<PathBuf>,
}

#[derive(Args)]
struct Receive {
    /// Where to wait; port 0 takes any free one and tells it
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: String,
    /// Put received files here, named after their datasets
    #[arg(long, value_name = "DIR")]
    directory: PathBuf,
    /// End after that many sessions; exit code 0 only if all went well
    #[arg(long, value_name = "N")]
    once: Option<usize>,
    /// Answer each file with an End to End Response
    #[arg(long)]
    eerp: bool,
    /// Answer each file with a Negative End Response of that reason (NERPREAS; levels 4 and 5)
    #[arg(long, value_name = "REASON", conflicts_with = "eerp")]
    #[arg(value_parser = clap::value_parser!(u8).range(1..=99))]
    negative_response: Option<u8>,
    /// Signature of responses that are to be signed, passed on as it is: a file of CMS SignedData made elsewhere, or any
    /// octets. The hash is made here; whether the signature fits it is not looked at
    #[arg(long, value_name = "FILE")]
    response_signature: Option<PathBuf>,
    /// Ask for the turn after each file, to answer it at once
    #[arg(long)]
    ask_for_turn: bool,
    /// Send these to the first station that calls
    #[arg(long = "send", value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    terms: Terms,
}

#[derive(Args)]
struct Echo {
    /// Where to wait; port 0 takes any free one and tells it
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: String,
    /// End after that many sessions; exit code 0 only if all went well
    #[arg(long, value_name = "N")]
    once: Option<usize>,
    /// Answer each file with an End to End Response, too
    #[arg(long)]
    eerp: bool,
    /// Ask for the turn after each file, to send it back at once
    #[arg(long)]
    ask_for_turn: bool,
    #[command(flatten)]
    terms: Terms,
}

#[derive(Args)]
struct Terms {
    /// Own identification code (SSIDCODE)
    #[arg(long, value_name = "ODETTE-ID")]
    code: String,
    /// Own password (SSIDPSWD); @FILE reads it from a file, out of sight of `ps`
    #[arg(long, value_name = "P", default_value = "")]
    password: String,
    /// The only code taken from the other station [default: any]
    #[arg(long, value_name = "ODETTE-ID")]
    peer_code: Option<String>,
    /// The only password taken from the other station [default: any]
    #[arg(long, value_name = "P")]
    peer_password: Option<String>,
    /// Release level: 5 is OFTP 2.0, 4 is 1.4, 2 is 1.3, 1 is 1.2
    #[arg(long, value_name = "5|4|2|1", default_value = "5", value_parser = level)]
    level: Level,
    /// Largest Exchange Buffer (SSIDSDEB)
    #[arg(long, value_name = "N", default_value_t = 8192, value_parser = clap::value_parser!(u32).range(128..=99_999))]
    buffer_size: u32,
    /// Exchange Buffers without a pause (SSIDCRED)
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=999))]
    credit: u16,
    /// Offer compression of buffers
    #[arg(long)]
    compression: bool,
    /// Do not offer restart of broken files
    #[arg(long)]
    no_restart: bool,
    /// Secure authentication (SECD, AUCH, AURP) for tests only: challenges have the outer form of CMS and are enciphered
    /// for nobody, so that only another oftp2_station can answer them
    #[arg(long)]
    authentication_stub: bool,
    /// Break one rule of RFC 5024 on purpose, once a session; `list` prints the rules
    #[arg(long, value_name = "RULE", value_parser = rule)]
    misbehave: Option<&'static Rule>,
    /// Longest wait for the other station, in seconds
    #[arg(long, value_name = "S", default_value_t = 180)]
    patience: u64,
    /// TLS from the first octet
    #[arg(long)]
    tls: bool,
    /// Certificate authorities (PEM) whose certificates are taken
    #[arg(long, value_name = "FILE", requires = "tls", required_if_eq("tls", "true"), conflicts_with = "tls_insecure")]
    ca: Option<PathBuf>,
    /// Own certificate and its issuers (PEM)
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Private key of that certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// The name that the certificate of the station called must bear [default: none]
    #[arg(long, value_name = "NAME", requires = "ca")]
    server_name: Option<String>,
    /// TLS without any judgement on the other station's certificate
    #[arg(long, conflicts_with = "tls")]
    tls_insecure: bool,
    /// TLS versions
    #[arg(long, value_enum, default_value = "both")]
    tls_version: TlsVersions,
    /// Tell how far each file has come
    #[arg(long)]
    progress: bool,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    if asks_for_rules(std::env::args()) {
        return print_rules();
    }
    let ended = match Options::parse().role {
        Role::Send(options) => send(&options),
        Role::Receive(options) => receive(&options).map(exit_code),
        Role::Echo(options) => echo(&options).map(exit_code),
    };
    match ended {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("oftp2_station: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn exit_code(went_well: bool) -> ExitCode {
    if went_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn send(options: &Send) -> Result<ExitCode, Failure> {
    let (settings, security) = (options.terms.settings()?, options.terms.security()?);
    let store = options.directory.as_ref().map(store).transpose()?;
    if options.dataset.is_some() && options.files.len() != 1 {
        return Err(Failure::Setting("--dataset names one file; there must be exactly one".into()));
    }
    let mut files = outgoing(&options.files)?;
    for file in &mut files {
        file.destination.clone_from(&options.destination);
        file.description.clone_from(&options.description);
        file.format = match (options.record_length, options.variable_records) {
            (Some(length), _) => Format::Fixed(length),
            (None, Some(most)) => Format::Variable(most),
            (None, None) if options.text => Format::Text,
            (None, None) => Format::Unstructured,
        };
        file.signed_response = options.ask_signature;
        if let Some(dataset) = &options.dataset {
            file.dataset.clone_from(dataset);
        }
    }
    let transfers = if store.is_some() { Transfers::Both } else { Transfers::Send };
    let settings = Settings { transfers, via: options.via.clone(), ..settings };
    let report = station::exchange(&options.to, &security, &settings, files, store);
    let with_responses = !options.no_eerp_wait;
    for file in report.sent.iter().filter(|file| with_responses && !file.responded) {
        eprintln!("oftp2_station: no End to End Response came for {}", file.file.dataset);
    }
    Ok(match report.failure {
        Some(Failure::Proxy(_)) => ExitCode::from(REFUSED_BY_PROXY),
        _ => exit_code(report.went_well(with_responses)),
    })
}

fn receive(options: &Receive) -> Result<bool, Failure> {
    let (settings, security) = (options.terms.settings()?, options.terms.security()?);
    let signature = options
        .response_signature
        .as_ref()
        .map(|path| fs::read(path).map(Arc::from).map_err(|source| Failure::File { path: path.clone(), source }));
    let settings = Settings {
        eerp: options.eerp,
        negative_response: options.negative_response,
        signature: signature.transpose()?,
        ask_for_turn: options.ask_for_turn,
        ..settings
    };
    let store = store(&options.directory)?;
    let receiver =
        Receiver::start(address(&options.listen)?, &security, settings, Some(store), outgoing(&options.files)?)?;
    Ok(all_went_well(&receiver, options.once))
}

fn echo(options: &Echo) -> Result<bool, Failure> {
    let (settings, security) = (options.terms.settings()?, options.terms.security()?);
    let settings = Settings { echo: true, eerp: options.eerp, ask_for_turn: options.ask_for_turn, ..settings };
    let receiver = Receiver::start(address(&options.listen)?, &security, settings, None, Vec::new())?;
    Ok(all_went_well(&receiver, options.once))
}

/// Without a number of sessions: until it is killed.
fn all_went_well(receiver: &Receiver, sessions: Option<usize>) -> bool {
    let next = || receiver.next_session(Duration::MAX);
    let reports = std::iter::from_fn(next).take(sessions.unwrap_or(usize::MAX));
    reports.filter(|report: &Report| !report.went_well(false)).count() == 0
}

impl Terms {
    fn settings(&self) -> Result<Settings, Failure> {
        let password = match self.password.strip_prefix('@') {
            Some(file) => read(&PathBuf::from(file))?.trim_end().to_owned(),
            None => self.password.clone(),
        };
        let settings = Settings {
            peer_code: self.peer_code.clone(),
            peer_password: self.peer_password.clone(),
            level: self.level,
            buffer_size: self.buffer_size,
            credit: self.credit,
            compression: self.compression,
            restart: !self.no_restart,
            patience: Duration::from_secs(self.patience),
            authentication: self.authentication_stub,
            observer: Some(self.observer()),
            ..Settings::new(&self.code, &password)
        };
        Ok(match self.misbehave {
            Some(rule) => settings.misbehaving(rule),
            None => settings,
        })
    }

    fn security(&self) -> Result<Security, Failure> {
        let trust = match (&self.ca, &self.server_name) {
            _ if self.tls_insecure => Trust::Anybody,
            (Some(ca), Some(name)) => Trust::Named(read(ca)?, name.clone()),
            (Some(ca), None) => Trust::Authorities(read(ca)?),
            (None, _) => return Ok(Security::Plain),
        };
        let identity = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => Some(Identity { chain_pem: read(cert)?, key_pem: read(key)? }),
            _ => None,
        };
        Ok(Security::Tls(TlsSettings { identity, trust, versions: self.tls_version }))
    }

    /// Prints events as they come. Progress is told for each hundredth part of a file, not for each buffer.
    fn observer(&self) -> Observer {
        let (json, progress) = (self.json, self.progress);
        let told = Mutex::new(std::collections::HashMap::new());
        Arc::new(move |event: &Event| {
            if let Event::Progress { dataset, done, octets, .. } = event {
                let part = done * 100 / (*octets).max(1);
                let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
                if !progress || told.insert(dataset.clone(), part) == Some(part) {
                    return Ok(());
                }
            }
            let line = if json { event.json().to_string() } else { event.to_string() };
            // Whoever read our lines may have gone; the session goes on.
            let _ = writeln!(io::stdout(), "{line}");
            Ok(())
        })
    }
}

/// `--misbehave list` needs no other option.
fn asks_for_rules(arguments: impl Iterator<Item = String>) -> bool {
    let arguments: Vec<String> = arguments.collect();
    arguments.iter().any(|argument| argument == "--misbehave=list")
        || arguments
            .windows(2)
            .any(|pair| matches!(pair, [option, value] if option == "--misbehave" && value == "list"))
}

fn print_rules() -> ExitCode {
    let mut lines = String::from("RULE, broken in the place of or with COMMAND, and what a careful station answers:\n");
    for rule in Rule::all() {
        let answer = match rule.answer {
            Answer::Esid(reason) | Answer::StationEsid(reason) => format!("ESID {reason:02}"),
            Answer::Efna(reason) => format!("EFNA {reason:02}"),
            Answer::Passes => "mostly none".into(),
        };
        lines.push_str(&format!("{:<28}{:<6}{answer:<13}{}\n", rule.name, rule.on, rule.does));
    }
    match io::stdout().write_all(lines.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn rule(name: &str) -> Result<&'static Rule, String> {
    Rule::named(name).ok_or_else(|| "no such rule; `--misbehave list` prints them".into())
}

fn level(digit: &str) -> Result<Level, String> {
    match digit {
        "5" => Ok(Level::Five),
        "4" => Ok(Level::Four),
        "2" => Ok(Level::Two),
        "1" => Ok(Level::One),
        _ => Err("5, 4, 2 or 1".into()),
    }
}

fn address(text: &str) -> Result<SocketAddr, Failure> {
    let found = text.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
    found.ok_or_else(|| Failure::Setting(format!("{text} is not an address and a port")))
}

fn store(directory: &PathBuf) -> Result<Arc<Store>, Failure> {
    Store::new(directory).map_err(|source| Failure::File { path: directory.clone(), source })
}

fn outgoing(paths: &[PathBuf]) -> Result<Vec<OutgoingFile>, Failure> {
    let open =
        |path: &PathBuf| OutgoingFile::from_path(path).map_err(|source| Failure::File { path: path.clone(), source });
    paths.iter().map(open).collect()
}

fn read(path: &PathBuf) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|source| Failure::File { path: path.clone(), source })
}
