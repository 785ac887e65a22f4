//! `seon_license`: makes, shows and checks licences.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode as ProcessExit;
use std::time::SystemTime;

use chrono::{DateTime, NaiveDate, NaiveTime, SecondsFormat, Utc};
use clap::{Parser, Subcommand};
use command_line::exit::{self, ExitCode};
use command_line::{BUILT, Demands};
use license::{ClientKey, Grant, IssuerKey, IssuerSecret, Licence, LicenceError, ProxyId};
use zeroize::Zeroizing;

/// Makes, shows and checks licences of the OFTP2 smart proxy.
#[derive(Parser)]
#[command(name = "seon_license", version = BUILT, arg_required_else_help = true)]
#[command(max_term_width = 100, after_help = exit::help())]
struct Options {
    #[command(subcommand)]
    task: Task,
}

impl Demands for Options {}

#[derive(Subcommand)]
enum Task {
    /// Makes the key pair of an issuer.
    Issuer {
        #[command(subcommand)]
        task: IssuerTask,
    },
    /// Issues a licence and writes it to standard output.
    Issue {
        /// To whom it is issued, one line.
        #[arg(long)]
        licensee: String,
        /// Proxy ID of the one proxyserver that may run with it (`seon_proxyserver2 -L` prints it).
        #[arg(long)]
        proxy_id: ProxyId,
        /// First day (2026-01-31), or first moment (2026-01-31T12:00:00Z), in UTC.
        #[arg(long, value_parser = first_moment)]
        from: DateTime<Utc>,
        /// Last day, included (2026-12-31), or last moment (2026-12-31T12:00:00Z), in UTC.
        #[arg(long, value_parser = last_moment)]
        until: DateTime<Utc>,
        /// File with the issuer's private key.
        #[arg(long, value_name = "FILE")]
        issuer_key: PathBuf,
        /// Proxyclient that may link: its key, or the whole `client:` line that it prints. May be repeated.
        #[arg(long, value_name = "KEY", value_parser = client_line)]
        client: Vec<String>,
        /// Writes to this file instead, which must not exist yet.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Shows what a licence says.
    Show {
        /// The licence.
        file: PathBuf,
        /// File with the issuer's public key, instead of the built-in one.
        #[arg(long, value_name = "FILE")]
        issuer: Option<PathBuf>,
    },
    /// Tells whether a proxyserver could run with a licence now.
    Check {
        /// The licence.
        file: PathBuf,
        /// Proxy ID of the proxyserver.
        #[arg(long)]
        proxy_id: ProxyId,
        /// File with the issuer's public key, instead of the built-in one.
        #[arg(long, value_name = "FILE")]
        issuer: Option<PathBuf>,
    },
}

#[derive(Subcommand)]
enum IssuerTask {
    /// Writes a new private key to FILE (mode 0600) and the public one to FILE.pub; neither may exist yet.
    New {
        /// File for the private key.
        file: PathBuf,
    },
}

/// Why the program ends without success, by exit code.
enum Failure {
    Refused(LicenceError),
    Options(String),
    File(String),
}

fn main() -> ProcessExit {
    let done = match command_line::read::<Options>().task {
        Task::Issuer { task: IssuerTask::New { file } } => new_issuer(&file),
        Task::Issue { licensee, proxy_id, from, until, issuer_key, client, out } => {
            let grant = Grant { licensee, proxy_id, valid_from: from, valid_until: until };
            issue(&grant, &issuer_key, &client, out.as_deref())
        }
        Task::Show { file, issuer } => show(&file, issuer.as_deref()),
        Task::Check { file, proxy_id, issuer } => check(&file, proxy_id, issuer.as_deref()),
    };
    let (code, sentence) = match done {
        Ok(()) => return ProcessExit::SUCCESS,
        Err(Failure::Refused(error)) => (ExitCode::Licence, format!("{}: {error}", error.code())),
        Err(Failure::Options(sentence)) => (ExitCode::Usage, sentence),
        Err(Failure::File(sentence)) => (ExitCode::Failure, sentence),
    };
    eprintln!("seon_license: {sentence}");
    code.into()
}

fn new_issuer(file: &Path) -> Result<(), Failure> {
    let secret = IssuerSecret::new_random().map_err(|error| Failure::File(error.to_string()))?;
    let public = secret.public();
    let mut public_file = file.as_os_str().to_owned();
    public_file.push(".pub");
    let private = Zeroizing::new(format!("# Private key of a licence issuer. Keep it secret.\n{}\n", *secret.reveal()));
    write_new(file, 0o600, &private)?;
    write_new(Path::new(&public_file), 0o644, &format!("# Public key of a licence issuer.\n{public}\n"))?;
    print(&format!("{public}\n"))
}

fn issue(grant: &Grant, issuer_key: &Path, clients: &[String], out: Option<&Path>) -> Result<(), Failure> {
    let text = Zeroizing::new(read(issuer_key)?);
    let secret: IssuerSecret =
        text.parse().map_err(|error| Failure::File(format!("{}: {error}", issuer_key.display())))?;
    let mut licence = grant.issue(&secret).map_err(|error| Failure::Options(error.to_string()))?;
    for client in clients {
        licence.push_str(client);
        licence.push('\n');
    }
    match out {
        Some(path) => write_new(path, 0o644, &licence),
        None => print(&licence),
    }
}

fn show(file: &Path, issuer: Option<&Path>) -> Result<(), Failure> {
    let licence = Licence::load(file, &issuer_key(issuer)?).map_err(Failure::Refused)?;
    let grant = licence.grant();
    let mut text = format!(
        "licensee:    {}\nproxy id:    {}\nvalid from:  {}\nvalid until: {} ({})\n",
        grant.licensee,
        grant.proxy_id,
        seconds(grant.valid_from),
        seconds(grant.valid_until),
        match licence.days_left(SystemTime::now()) {
            ..0 => "over".to_owned(),
            0 => "less than a day left".to_owned(),
            1 => "1 day left".to_owned(),
            days => format!("{days} days left"),
        },
    );
    match licence.clients() {
        [] => text.push_str("client:      none; no proxyclient may link\n"),
        clients => clients.iter().for_each(|client| {
            text.push_str(&format!("client:      {} {}", client.key, client.name.as_deref().unwrap_or("")));
            text.truncate(text.trim_end().len());
            text.push('\n');
        }),
    }
    print(&text)
}

fn check(file: &Path, proxy_id: ProxyId, issuer: Option<&Path>) -> Result<(), Failure> {
    let valid = Licence::load(file, &issuer_key(issuer)?)
        .and_then(|licence| licence.check(proxy_id, SystemTime::now()))
        .map_err(Failure::Refused)?;
    let clients = valid.clients().len();
    print(&format!("valid until {}, {clients} proxyclient(s) may link\n", seconds(valid.grant().valid_until)))
}

fn issuer_key(path: Option<&Path>) -> Result<IssuerKey, Failure> {
    match path {
        None => Ok(IssuerKey::built_in()),
        Some(path) => read(path)?.parse().map_err(|error| Failure::File(format!("{}: {error}", path.display()))),
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| Failure::File(format!("{} cannot be read: {error}", path.display())))
}

fn write_new(path: &Path, mode: u32, text: &str) -> Result<(), Failure> {
    let mut options = OpenOptions::new();
    let written = options
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
    written.map_err(|error| Failure::File(format!("{} cannot be written: {error}", path.display())))
}

fn print(text: &str) -> Result<(), Failure> {
    let written = std::io::stdout().write_all(text.as_bytes());
    written.map_err(|error| Failure::File(format!("standard output cannot be written: {error}")))
}

fn seconds(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn first_moment(text: &str) -> Result<DateTime<Utc>, String> {
    moment(text, NaiveTime::MIN)
}

fn last_moment(text: &str) -> Result<DateTime<Utc>, String> {
    moment(text, NaiveTime::from_hms_opt(23, 59, 59).unwrap_or(NaiveTime::MIN))
}

fn moment(text: &str, of_day: NaiveTime) -> Result<DateTime<Utc>, String> {
    if let Ok(day) = text.parse::<NaiveDate>() {
        return Ok(day.and_time(of_day).and_utc());
    }
    let time = DateTime::parse_from_rfc3339(text);
    time.map(|time| time.to_utc()).map_err(|_| "a day as 2026-12-31 or a time as 2026-12-31T12:00:00Z expected".into())
}

fn client_line(text: &str) -> Result<String, String> {
    let value = text.trim().strip_prefix("client:").unwrap_or(text).trim();
    if value.chars().any(char::is_control) {
        return Err("one line expected".to_owned());
    }
    let key = value.split_whitespace().next().unwrap_or_default();
    key.parse::<ClientKey>().map_err(|error| error.to_string())?;
    Ok(format!("client: {value}"))
}
