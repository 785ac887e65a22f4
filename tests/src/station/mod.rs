//! An OFTP2 station: a real end of a session, as Initiator that sends files or as Responder that takes them, and both
//! in either role. It serves tests, the demonstration and people who try their set-up. Blocking, one thread a session.
//!
//! ```no_run
//! use tests::station::{self, OutgoingFile, Security, Settings};
//!
//! let settings = Settings::new("O0013000000ACME", "SECRET");
//! let files = vec![OutgoingFile::from_octets("HELLO", *b"hello, world")];
//! let report = station::send("127.0.0.1:3305", &Security::Plain, &settings, files);
//! assert!(report.went_well(true));
//! ```

mod authentication;
mod command;
mod connection;
mod data;
mod event;
mod failure;
mod fields;
mod files;
mod listener;
mod misbehaviour;
mod negotiation;
mod reason;
mod receiver;
mod report;
mod rules;
mod session;
mod speaker;
mod tls;
mod via;
mod wire;

use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use misbehaviour::Terms;
use rustls::ClientConnection;

pub use command::{Command, Eerp, FileId, Level, Nerp, Sfid, Ssid, Transfers};
pub use connection::{Connection, Tamper};
pub use event::{Event, Observer};
pub use failure::{Failure, Malformed};
pub(crate) use files::hex;
pub use files::{Content, Format, OutgoingFile, Store, sha256};
pub use misbehaviour::{Answer, Rule};
pub use negotiation::Agreement;
pub use receiver::Receiver;
pub use report::{Outcome, Received, Report, Sent, Transcript};
pub use tls::{Identity, TlsSettings, TlsVersions, Trust};
pub use via::{ProxyRefusal, Via};

/// What a station says of itself, and how it behaves.
#[derive(Clone)]
pub struct Settings {
    /// SSIDCODE.
    pub code: String,
    /// SSIDPSWD.
    pub password: String,
    /// The only SSIDCODE that is taken from the other end; none: any.
    pub peer_code: Option<String>,
    /// The only SSIDPSWD that is taken from the other end; none: any.
    pub peer_password: Option<String>,
    /// SSIDLEV.
    pub level: Level,
    /// SSIDSDEB, 128 to 99999.
    pub buffer_size: u32,
    /// SSIDCRED, 1 to 999.
    pub credit: u16,
    /// SSIDSR.
    pub transfers: Transfers,
    /// SSIDCMPR.
    pub compression: bool,
    /// SSIDREST.
    pub restart: bool,
    /// Whether each file received is answered with an EERP, as soon as this end has the turn.
    pub eerp: bool,
    /// Each file received is answered with a NERP of this reason instead (NERPREAS), from level 4 on; below, with nothing.
    pub negative_response: Option<u8>,
    /// EERPSIG and NERPSIG for files that ask for a signed response: octets as they are, never made or looked into here.
    pub signature: Option<Arc<[u8]>>,
    /// Each file received is sent back as soon as this end has the turn.
    pub echo: bool,
    /// SSIDAUTH. A test mode: the challenge is enciphered for nobody, so that only another station of this kind can
    /// answer it.
    pub authentication: bool,
    /// Whether the turn is asked for after each file received (EFPACD).
    pub ask_for_turn: bool,
    /// The proxy that calls are made through.
    pub via: Option<Via>,
    /// Longest wait for the other end.
    pub patience: Duration,
    /// Who is told what happens.
    pub observer: Option<Observer>,
    /// The rule that is broken on purpose, once a session.
    pub misbehave: Option<&'static Rule>,
    /// Changes what is sent, for what no rule of [`Self::misbehave`] does.
    pub tamper: Option<Tamper>,
    /// Whether the report has all octets of the session.
    pub transcript: bool,
}

impl Settings {
    /// A station of level 5 with the usual terms: 8 KiB buffers, credit 64, restart, an EERP for each file.
    pub fn new(code: &str, password: &str) -> Self {
        Self {
            code: code.to_owned(),
            password: password.to_owned(),
            peer_code: None,
            peer_password: None,
            level: Level::Five,
            buffer_size: 8192,
            credit: 64,
            transfers: Transfers::Both,
            compression: false,
            restart: true,
            eerp: true,
            negative_response: None,
            signature: None,
            echo: false,
            authentication: false,
            ask_for_turn: false,
            via: None,
            patience: Duration::from_secs(60),
            observer: None,
            misbehave: None,
            tamper: None,
            transcript: false,
        }
    }

    fn tell(&self, event: Event) -> Result<(), Failure> {
        match &self.observer {
            Some(observer) => observer(&event).map_err(Failure::Dropped),
            None => Ok(()),
        }
    }

    /// These settings with the terms that a rule needs to be broken.
    pub fn misbehaving(self, rule: &'static Rule) -> Self {
        let settings = match rule.terms {
            Terms::Any => self,
            Terms::NoRestart => Self { restart: false, ..self },
            Terms::OnlyReceives => Self { transfers: Transfers::Receive, ..self },
        };
        Self { misbehave: Some(rule), ..settings }
    }

    fn check(&self) -> Result<(), Failure> {
        let wrong = |what: &str| Err(Failure::Setting(what.to_owned()));
        match self {
            Self { buffer_size: 0..128 | 100_000.., .. } => wrong("the buffer size is 128 to 99999"),
            Self { credit: 0 | 1000.., .. } => wrong("the credit is 1 to 999"),
            Self { code, .. } if code.is_empty() || code.len() > 25 => wrong("the code has 1 to 25 characters"),
            Self { negative_response: Some(100..), .. } => {
                wrong("the reason of a Negative End Response has two digits")
            }
            Self { authentication: true, level, .. } if *level < Level::Five => {
                wrong("secure authentication begins with level 5")
            }
            Self { password, .. } if password.len() > 8 => wrong("the password has at most 8 characters"),
            _ => Ok(()),
        }
    }
}

/// How the connection is protected.
#[derive(Clone)]
pub enum Security {
    /// Plain TCP.
    Plain,
    /// TLS from the first octet.
    Tls(TlsSettings),
}

/// Calls the station at `to` (`host:port`), through a proxy where the settings name one, sends `files` and takes no file in return.
pub fn send(to: &str, security: &Security, settings: &Settings, files: Vec<OutgoingFile>) -> Report {
    exchange(to, security, settings, files, None)
}

/// As [`send`]; files of the other end come to lie in `store`.
pub fn exchange(
    to: &str,
    security: &Security,
    settings: &Settings,
    files: Vec<OutgoingFile>,
    store: Option<Arc<Store>>,
) -> Report {
    let mut report = Report { unsent: files.len(), ..Report::default() };
    let begun = settings.check().and_then(|()| match &settings.via {
        Some(via) => connect_via(via, to, security, settings.patience),
        None => connect(to, security, settings.patience),
    });
    match begun {
        Ok(connection) => converse(connection, settings, false, files, store, &mut report),
        Err(failure) => fail(&mut report, settings, failure),
    }
    report
}

/// Opens a connection, with TLS if wanted, and says nothing on it: for scenarios that speak for themselves.
pub fn connect(to: &str, security: &Security, patience: Duration) -> Result<Connection, Failure> {
    let addresses = to.to_socket_addrs().map_err(Failure::io("find the address"))?;
    let mut last = Failure::Setting(format!("{to} has no address"));
    for address in addresses {
        match TcpStream::connect_timeout(&address, patience) {
            Ok(socket) => return protect(socket, security, patience),
            Err(source) => last = Failure::Io { doing: "connect", source },
        }
    }
    Err(last)
}

/// As [`connect`], through a proxy.
pub fn connect_via(via: &Via, to: &str, security: &Security, patience: Duration) -> Result<Connection, Failure> {
    protect(via.open(to, patience)?, security, patience)
}

fn protect(socket: TcpStream, security: &Security, patience: Duration) -> Result<Connection, Failure> {
    let tls = match security {
        Security::Plain => None,
        Security::Tls(tls) => {
            let client = ClientConnection::new(tls.client()?, tls.server_name()?);
            Some(client.map_err(Failure::Tls)?.into())
        }
    };
    Connection::new(socket, tls, patience)
}

/// As [`send`], over a connection that stands already.
pub fn send_on(connection: Connection, settings: &Settings, files: Vec<OutgoingFile>) -> Report {
    let mut report = Report { unsent: files.len(), ..Report::default() };
    converse(connection, settings, false, files, None, &mut report);
    report
}

/// Runs a session on `connection` and ends it in order, whatever happens.
fn converse(
    mut connection: Connection,
    settings: &Settings,
    called: bool,
    files: Vec<OutgoingFile>,
    store: Option<Arc<Store>>,
    report: &mut Report,
) {
    report.protection = connection.protection();
    report.peer_fingerprints = connection.peer_certificates().iter().map(|der| sha256(der)).collect();
    report.peer = connection.peer();
    if settings.transcript {
        connection.keep_transcript();
    }
    let wanted = files.len();
    let result = report
        .peer
        .map_or(Ok(()), |peer| settings.tell(Event::Connected { peer, protection: report.protection.clone() }))
        .and_then(|()| session::run(&mut connection, settings, called, files, store, report));
    report.unsent = wanted.saturating_sub(report.sent.len());
    match result {
        Ok(()) => connection.close(),
        Err(failure) => {
            match &failure {
                // Nothing is said: that is what the observer wanted.
                Failure::Dropped(_) => {}
                failure => match failure.esid() {
                    Some(reason) => connection.end(reason, &failure.to_string()),
                    None => connection.close(),
                },
            }
            fail(report, settings, failure);
        }
    }
    report.transcript = connection.transcript();
}

fn fail(report: &mut Report, settings: &Settings, failure: Failure) {
    // The session has failed already: what an observer thinks of that changes nothing.
    let _ = settings.tell(Event::SessionFailed { why: failure.to_string() });
    report.failure = Some(failure);
}
