//! `seon_proxyserver2 --check`: whether a start with these options would succeed, and what is wrong otherwise. A daemon that
//! runs already is not disturbed: who holds the port of the link is asked on it, without linking.

use std::io::{ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::SystemTime;

use command_line::Findings;
use license::{IdentityError, IdentityKey, IssuerKey, Licence, LicenceError};
use proxydaemon::Pid;
use proxydaemon::check::DaemonCheck;
use proxydaemon::descriptors::Listener;
use proxydaemon::exit::ExitCode;
use proxylink::asking::{self, NotAnswered};
use proxylink::message::Checked;
use proxylink::pairing::KeyHash;

use crate::options::Options;
use crate::{PROGRAM, STEM, bind};

const LINK: &str = "port of the link";

/// Looks at everything, prints a line each, and says how a script shall be told.
pub fn run(options: &Options) -> ExitCode {
    let mut findings = Findings::new(std::io::stdout());
    findings.ok("options", "the command line can be read");
    let mut taken = Vec::new();
    let daemon = DaemonCheck {
        program: PROGRAM,
        stem: STEM,
        foreground: options.foreground,
        user: options.user.as_deref(),
        pid_file: options.pid_file.as_deref(),
        state_dir: &options.state_dir,
    };
    let looked = daemon.run(&mut findings, |findings, running| taken = ports(findings, options, running));
    if looked {
        let identity = identity(&mut findings, options);
        licence(&mut findings, options, identity.as_ref());
        for address in taken {
            holder(&mut findings, address, identity.as_ref());
        }
        addresses(&mut findings, &options.check_address);
    }
    findings.exit_code()
}

/// Binds what a start would bind, for a moment. Where a daemon of ours runs, the addresses that are in use.
fn ports<W: Write>(findings: &mut Findings<W>, options: &Options, running: Option<Pid>) -> Vec<SocketAddr> {
    let addresses = &options.listen.addresses;
    let shown = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let in_use =
        |address: &&SocketAddr| Listener::bind(**address, 1).is_err_and(|error| error.kind() == ErrorKind::AddrInUse);
    if running.is_some() {
        let taken: Vec<_> = addresses.iter().filter(in_use).copied().collect();
        if !taken.is_empty() {
            return taken;
        }
    }
    match bind(addresses) {
        Ok(_) => findings.ok(LINK, format_args!("{shown} can be bound")),
        Err(failure) => {
            findings.wrong(failure.code, LINK, failure.text, "do what the reason asks for, or choose another -i");
        }
    }
    Vec::new()
}

fn identity<W: Write>(findings: &mut Findings<W>, options: &Options) -> Option<IdentityKey> {
    match IdentityKey::load(&options.state_dir) {
        Ok(identity) => {
            findings.ok("identity key", format_args!("Proxy ID {}", identity.proxy_id()));
            Some(identity)
        }
        Err(error) => {
            let to_do = match &error {
                IdentityError::Missing(_) => "run it with -L, and have a licence issued for the Proxy ID it prints",
                _ => "see the reason; the key must be the daemon user's own file, of mode 0600",
            };
            findings.wrong(ExitCode::Identity, "identity key", error, to_do);
            None
        }
    }
}

fn licence<W: Write>(findings: &mut Findings<W>, options: &Options, identity: Option<&IdentityKey>) {
    const SUBJECT: &str = "licence";
    let Some(identity) = identity else {
        return findings.skip(SUBJECT, "without an identity key there is no Proxy ID that it could be for");
    };
    let now = SystemTime::now();
    let valid = Licence::load(&options.licence, &IssuerKey::built_in())
        .and_then(|licence| licence.check(identity.proxy_id(), now));
    match valid {
        Ok(valid) => {
            let grant = valid.grant();
            let seen = format!(
                "licensed to {} until {}; {} proxyclient(s) may link",
                grant.licensee,
                license::moment(grant.valid_until),
                valid.clients().len()
            );
            match valid.days_left(now) {
                30.. => findings.ok(SUBJECT, seen),
                days => findings.warn(SUBJECT, format_args!("{seen}; {days} whole days are left"), "have it renewed"),
            }
        }
        Err(error) => {
            let to_do = match &error {
                LicenceError::NoClient | LicenceError::UnreadableClient { .. } => {
                    "write the line that `seon_proxyclient2 --print-client-line` prints below the signature".to_owned()
                }
                LicenceError::NotYetValid { .. } => {
                    "look at the clock; if it is right, start the daemon then".to_owned()
                }
                _ => format!("install a licence for Proxy ID {}, or name its file with -l", identity.proxy_id()),
            };
            findings.wrong(ExitCode::Licence, SUBJECT, format_args!("{}: {error}", error.code()), to_do);
        }
    }
}

/// Asks whoever holds the port whether it has our identity key.
fn holder<W: Write>(findings: &mut Findings<W>, address: SocketAddr, identity: Option<&IdentityKey>) {
    let Some(identity) = identity else {
        return findings
            .skip(LINK, format_args!("{address} is in use; whether by our daemon shows with an identity key"));
    };
    match ask(address, identity) {
        Ok(checked) => {
            let linked = if checked.linked { "a proxyclient is linked" } else { "no proxyclient is linked" };
            findings.ok(LINK, format_args!("{address} is held by the running daemon; {linked}"));
        }
        Err(error) => {
            let seen = format!("{address} is in use, and not by a proxyserver with this identity key: {error}");
            findings.wrong(ExitCode::CannotBind, LINK, seen, "end the program that holds it, or choose another -i");
        }
    }
}

fn ask(address: SocketAddr, identity: &IdentityKey) -> Result<Checked, NotAnswered> {
    let failed = |error: &dyn std::fmt::Display| NotAnswered::Failed(error.to_string());
    let own = KeyHash::from_octets(*identity.proxy_id().as_octets());
    let tls = proxylink::tls::client(identity.pkcs8(), own).map_err(|error| failed(&error))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| failed(&error))?;
    runtime.block_on(async {
        let connecting = tokio::net::TcpStream::connect(reachable(address));
        let late = |_| NotAnswered::Failed("it does not take the connection".to_owned());
        let socket = tokio::time::timeout(asking::DEADLINE, connecting).await.map_err(late)?;
        asking::ask(socket.map_err(|error| failed(&error))?, tls, Vec::new()).await
    })
}

/// Where a listener of this address is reached from this host.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Addresses that the configuration names and that only this host can tell.
fn addresses<W: Write>(findings: &mut Findings<W>, addresses: &[IpAddr]) {
    for &address in addresses {
        match TcpListener::bind((address, 0)) {
            Ok(_) => findings.ok("address", format_args!("{address} is of this host")),
            Err(error) => {
                let to_do = "correct it in the configuration (outgoing_ip, listen), or give it to the host";
                findings.wrong(ExitCode::OutgoingAddress, "address", format_args!("{address}: {error}"), to_do);
            }
        }
    }
}
