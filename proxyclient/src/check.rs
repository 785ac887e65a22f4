//! `seon_proxyclient2 --check`: whether all that the proxyclient needs is there and in order, from its own options to the
//! receive daemon. A daemon that runs already is not disturbed, nor is the link: the proxyserver is asked without linking.

use std::io::{Stdout, stdout};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use command_line::Findings;
use license::{LinkKey, SecurityToken, client_line};
use oftp2_codec::monitor::{Monitor, Peer, Settings};
use proxydaemon::check::DaemonCheck;
use proxydaemon::exit::ExitCode;
use proxylink::asking::{self, NotAnswered};
use proxylink::message::{MOST_CHECKED, RESOLVED_WITHIN};
use proxylink::pairing::KeyHash;
use proxylink::situation::Situation;
use seonapi_client::{ApiError, BaseUrl, CaTrust, ConfigAnswer, ProxyConfig, Revocation, SeonApi, Timeouts};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use verification::{Expiring, Warning};

use crate::agent::{self, Crls, InForce, connect_server, judgement_time};
use crate::gate::{Sources, read_secrets};
use crate::options::Options;
use crate::{PROGRAM, STEM};

/// For all CRLs together.
const CRLS_WITHIN: Duration = Duration::from_secs(120);
const CONNECTED_WITHIN: Duration = Duration::from_secs(10);
/// For the whole of the receive daemon's first message.
const READY_WITHIN: Duration = Duration::from_secs(10);
/// Addresses of the receive daemon's name that are tried, as for a session.
const MOST_ADDRESSES: usize = 8;

/// Looks at everything, prints a line each, and says how a script shall be told.
pub fn run(options: &Options, sources: &Sources) -> ExitCode {
    let mut findings = Findings::new(stdout());
    findings.ok("options", "the command line can be read");
    let daemon = DaemonCheck {
        program: PROGRAM,
        stem: STEM,
        foreground: options.foreground,
        user: options.user.as_deref(),
        pid_file: options.pid_file.as_deref(),
        state_dir: &sources.state_dir,
    };
    if daemon.run(&mut findings, |_, _| {}) {
        match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(look(&mut findings, sources)),
            Err(error) => findings.wrong(ExitCode::Resources, "system", error, "see its limits"),
        }
    }
    findings.exit_code()
}

async fn look(findings: &mut Findings<Stdout>, sources: &Sources) {
    let (url, token) = match read_secrets(&sources.url, &sources.token) {
        Ok(read) => read,
        Err(error) => {
            let to_do = "correct -U and -T, or the files that they name; `seon_backend token new` makes a token";
            findings.wrong(ExitCode::Usage, "URL and token", error, to_do);
            return findings.skip("all the rest", "it needs both");
        }
    };
    let link_key = LinkKey::derive(&token);
    findings
        .ok("token", format_args!("of the right form; its line in the licence file: {}", client_line(&link_key, None)));
    let config = configuration(findings, sources, url, &token).await;
    drop(token);
    server(findings, sources, config.as_ref(), &link_key).await;
    receive_daemon(findings, config.as_ref()).await;
}

/// Backend, token, configuration, certificate and CRLs.
async fn configuration(
    findings: &mut Findings<Stdout>,
    sources: &Sources,
    url: BaseUrl,
    token: &SecurityToken,
) -> Option<InForce> {
    let trust = sources.ca_file.clone().map_or(CaTrust::System, CaTrust::File);
    let (config, crls) = fetch(findings, url, token, &trust).await?;
    match InForce::new(&config, crls) {
        Ok(in_force) => {
            let (partners, number) = (config.partners.len(), config.version);
            findings.ok("configuration", format_args!("version {number}, {partners} partner(s)"));
            if let Some(text) = &in_force.not_in_force {
                findings.warn("configuration", text, "remove them, or see whether they are missed");
            }
            expiries(findings, &in_force);
            crl_state(findings, &config, &in_force);
            Some(in_force)
        }
        Err(unusable) => {
            let text = unusable.to_string();
            let subject = if text.starts_with("identity.") { "certificate and key" } else { "configuration" };
            findings.wrong(ExitCode::Configuration, subject, text, "correct the place that is named, in the backend");
            None
        }
    }
}

async fn fetch(
    findings: &mut Findings<Stdout>,
    url: BaseUrl,
    token: &SecurityToken,
    trust: &CaTrust,
) -> Option<(Box<ProxyConfig>, Crls)> {
    const SUBJECT: &str = "backend";
    let api = match SeonApi::new(url, token.reveal(), trust, Timeouts::default()) {
        Ok(api) => api,
        Err(error) => {
            findings.wrong(ExitCode::Failure, SUBJECT, error, "correct --ca-file");
            return None;
        }
    };
    let answers = format!("{} answers, and the token is accepted", api.base());
    let config = match api.config(None).await {
        Ok(ConfigAnswer::Config { config, .. }) => config,
        Ok(ConfigAnswer::NotModified) => {
            let seen = "it answers 304 to a question that named no earlier configuration";
            findings.wrong(ExitCode::Failure, SUBJECT, seen, "have the backend mended");
            return None;
        }
        Err(error) if error.refuses_token() => {
            findings.wrong(ExitCode::TokenRefused, SUBJECT, error, Situation::TokenRefused.advice());
            return None;
        }
        Err(error @ (ApiError::Config(_) | ApiError::NotJson { .. })) => {
            findings.ok(SUBJECT, answers);
            let to_do = "correct the place that is named, in the backend";
            findings.wrong(ExitCode::Configuration, "configuration", error, to_do);
            return None;
        }
        Err(error) => {
            let seen = format!("{}: {error}", api.base());
            findings.wrong(ExitCode::Failure, SUBJECT, seen, Situation::BackendDown.advice());
            return None;
        }
    };
    findings.ok(SUBJECT, answers);
    let mut crls = Crls::new();
    let fetching = async {
        for hash in &config.trust.crls {
            match api.crl(hash).await {
                Ok(crl) => drop(crls.insert(*hash.as_octets(), Arc::new(crl))),
                Err(error) => {
                    let to_do = "have the backend fetch it again, or remove it from the configuration";
                    findings.wrong(ExitCode::Failure, "CRL", format_args!("{hash}: {error}"), to_do);
                }
            }
        }
    };
    if timeout(CRLS_WITHIN, fetching).await.is_err() {
        let seen = format!("not all came within {} s", CRLS_WITHIN.as_secs());
        findings.wrong(ExitCode::Failure, "CRL", seen, "see how fast the way to the backend is");
    }
    Some((config, crls))
}

/// Own certificate, anchors and pins.
fn expiries(findings: &mut Findings<Stdout>, config: &InForce) {
    for expiry in config.expiries.iter().filter(|expiry| expiry.what != Expiring::Crl) {
        let own = expiry.what == Expiring::Identity;
        let subject = if own { "certificate and key" } else { "trust" };
        match expiry.due(judgement_time()) {
            Some(Warning::Ended) if own => {
                let to_do = "renew it, and put certificate and key into the configuration";
                findings.wrong(ExitCode::Configuration, subject, format_args!("{expiry}: it has ended"), to_do);
            }
            Some(Warning::Ended) => {
                findings.warn(subject, format_args!("{expiry}: it has ended"), "replace or remove it")
            }
            Some(Warning::Days(days)) => {
                findings.warn(subject, format_args!("{expiry}; {days} days or fewer are left"), "renew it in time");
            }
            None if own => findings.ok(subject, format_args!("they belong together; {expiry}")),
            None => findings.ok(subject, expiry),
        }
    }
}

fn crl_state(findings: &mut Findings<Stdout>, config: &ProxyConfig, in_force: &InForce) {
    const SUBJECT: &str = "CRL";
    let to_do = "have the backend fetch a new one; `seon_backend crl-urls` shows from where";
    for left_out in in_force.left_out.iter().filter(|crl| !crl.fault.is_ordinary()) {
        findings.wrong(ExitCode::Configuration, SUBJECT, left_out, to_do);
    }
    for expiry in in_force.expiries.iter().filter(|expiry| expiry.what == Expiring::Crl) {
        match expiry.due(judgement_time()) {
            Some(Warning::Ended) => {
                findings.wrong(ExitCode::Configuration, SUBJECT, format_args!("{expiry}: it is not fresh"), to_do);
            }
            _ => findings.ok(SUBJECT, format_args!("fresh: {expiry}")),
        }
    }
    if config.trust.crls.is_empty() {
        match config.trust.revocation {
            Revocation::Require => {
                let seen =
                    "there is none, and revocation is `require`: no partner's certificate of a CA will be accepted";
                findings.wrong(ExitCode::Configuration, SUBJECT, seen, to_do);
            }
            Revocation::Prefer => findings.ok(SUBJECT, "there is none, and revocation is `prefer`"),
            Revocation::Off => findings.ok(SUBJECT, "revocation is `off`"),
        }
    }
}

/// Proxy ID, licence and addresses of the proxyserver, as far as it can be asked.
async fn server(findings: &mut Findings<Stdout>, sources: &Sources, config: Option<&InForce>, key: &LinkKey) {
    const SUBJECT: &str = "proxyserver";
    let server = &sources.server;
    let socket = match connect_server(server).await {
        Ok((socket, _)) => socket,
        Err(undialled) => {
            return findings.wrong(ExitCode::Failure, SUBJECT, undialled.text, undialled.situation.advice());
        }
    };
    let Some(config) = config else {
        return findings.skip(SUBJECT, format_args!("{server} takes connections; its Proxy ID is in no configuration"));
    };
    let tls = match proxylink::tls::client(key.pkcs8(), KeyHash::from_octets(*config.proxy_id.as_octets())) {
        Ok(tls) => tls,
        Err(error) => return findings.wrong(ExitCode::Internal, SUBJECT, error, "tell the makers"),
    };
    let listen = config.snapshot.listen.iter().map(SocketAddr::ip);
    let own_sources = config.snapshot.policy.partners.iter().filter_map(|partner| partner.outgoing_ip);
    let sources: Vec<IpAddr> = config.snapshot.outgoing_ip.into_iter().chain(own_sources).collect();
    let mut addresses: Vec<IpAddr> = listen.chain(sources.iter().copied()).collect();
    addresses.sort();
    addresses.dedup();
    addresses.truncate(MOST_CHECKED);
    match asking::ask(socket, tls, addresses.clone()).await {
        Ok(checked) => {
            let seen = format!(
                "{server} has the Proxy ID of the configuration and knows this client; version {} on {}; {}",
                agent::escape(&checked.hello.version),
                agent::escape(&checked.hello.host),
                if checked.linked { "a proxyclient is linked" } else { "no proxyclient is linked" }
            );
            findings.ok(SUBJECT, seen);
            for address in addresses {
                let (subject, code) = if sources.contains(&address) {
                    ("outgoing_ip", ExitCode::OutgoingAddress)
                } else {
                    ("listening address", ExitCode::CannotBind)
                };
                match checked.absent.iter().find(|(absent, _)| *absent == address) {
                    None => findings.ok(subject, format_args!("{address} is of the proxyserver's host")),
                    Some((_, why)) => {
                        let seen = format!("{address} on the proxyserver's host: {}", agent::escape(why));
                        findings.wrong(code, subject, seen, "correct it in the configuration, or give it to that host");
                    }
                }
            }
        }
        Err(NotAnswered::WrongKey(seen)) => {
            let seen = format!("{server}: {seen}");
            findings.wrong(ExitCode::Identity, SUBJECT, seen, Situation::LinkServerWrong.advice());
        }
        Err(NotAnswered::Refused(goodbye)) => {
            let seen = format!("{server} refuses: {}", agent::escape(&goodbye.text));
            findings.wrong(ExitCode::Licence, SUBJECT, seen, goodbye.situation.advice());
        }
        Err(NotAnswered::Failed(text)) => {
            let to_do = "see that -S names the port of the link, and that both daemons are of the same version";
            findings.wrong(ExitCode::Failure, SUBJECT, format_args!("{server}: {text}"), to_do);
        }
    }
}

/// Connects as a session would, waits for its first message, and leaves.
async fn receive_daemon(findings: &mut Findings<Stdout>, config: Option<&InForce>) {
    const SUBJECT: &str = "receive daemon";
    let Some(config) = config else {
        return findings.skip(SUBJECT, "there is no configuration that names it");
    };
    let (host, port) = (&config.receive_daemon.0, config.receive_daemon.1);
    match ready(host, port).await {
        Ok(address) => findings.ok(SUBJECT, format_args!("{address} answers with SSRM")),
        Err(error) => {
            let named = format!("{host}:{port}: ");
            let seen = if error.starts_with(&named) { error } else { named + &error };
            findings.wrong(ExitCode::Failure, SUBJECT, seen, Situation::DaemonUnreachable.advice());
        }
    }
}

async fn ready(host: &str, port: u16) -> Result<SocketAddr, String> {
    let found = timeout(RESOLVED_WITHIN, tokio::net::lookup_host((host, port)))
        .await
        .map_err(|_| "the name is not resolved in time".to_owned())?
        .map_err(|error| format!("the name cannot be resolved: {error}"))?;
    let mut last = "the name has no address".to_owned();
    for address in found.take(MOST_ADDRESSES) {
        match timeout(CONNECTED_WITHIN, TcpStream::connect(address)).await {
            Ok(Ok(socket)) => {
                let late = |_| format!("{address}: no SSRM within {} s", READY_WITHIN.as_secs());
                return timeout(READY_WITHIN, ssrm(socket)).await.map_err(late)?.map(|()| address);
            }
            Ok(Err(error)) => last = format!("{address}: {error}"),
            Err(_) => last = format!("{address}: no answer within {} s", CONNECTED_WITHIN.as_secs()),
        }
    }
    Err(last)
}

/// The first message of a Responder (RFC 5024, 4.2.1), judged by the monitor that judges it in a session.
async fn ssrm(mut socket: TcpStream) -> Result<(), String> {
    let broken = |error: std::io::Error| format!("the connection ended before an SSRM came: {error}");
    let mut monitor = Monitor::new(Settings::default());
    let mut header = [0; oftp2_codec::stb::HEADER_LENGTH];
    socket.read_exact(&mut header).await.map_err(broken)?;
    let no_ssrm = |violation: oftp2_codec::monitor::Violation| format!("what came is no SSRM: {violation}");
    let header = monitor.stream_header(Peer::Responder, header).map_err(no_ssrm)?;
    let mut buffer = vec![0; header.exchange_buffer_length()];
    socket.read_exact(&mut buffer).await.map_err(broken)?;
    monitor.judge(Peer::Responder, &buffer).map(drop).map_err(no_ssrm)
}
