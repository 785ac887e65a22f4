//! The whole chain, on loopback or in a network of its own: backend, receive daemon, proxyserver, proxyclient, and partners
//! that may call.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    Host, Mark, Network, PATIENCE, Process, Scratch, ScriptedBackend, Trouble, binary, evil_binary, free_port, network,
    seon_backend,
};
use crate::pki::{self, Authority, Wanted};
use crate::station::{self, Identity, OutgoingFile, Report, Security, Settings, TlsSettings, TlsVersions, Trust};

/// SSIDCODE of the receive daemon.
pub const INSIDE_CODE: &str = "O0013000000INSIDE";
/// SSIDPSWD of the receive daemon.
pub const INSIDE_PASSWORD: &str = "INSIDE";

type Edit = Box<dyn FnOnce(&mut Value)>;

/// What is to be started. Everything has a usual value.
pub struct Plan {
    partners: Vec<String>,
    edits: Vec<Edit>,
    receive_daemon: Option<SocketAddr>,
    seon_backend: bool,
    poll_interval: Option<u32>,
    network: Option<Arc<Network>>,
    evil_server: bool,
    evil_client: bool,
    programs: Option<PathBuf>,
    pub(super) outgoing: bool,
}

/// A trading partner.
#[derive(Clone)]
pub struct Partner {
    /// Its name in the configuration.
    pub name: String,
    /// Its SSIDCODE.
    pub code: String,
    /// Its certificate.
    pub identity: Identity,
}

/// Who gives the proxyclient its configuration.
pub enum Backend {
    /// `seon_backend`.
    Seon {
        /// The program.
        process: Process,
        /// For `-U`.
        url: String,
        /// Its configuration file.
        config: PathBuf,
    },
    /// One that does what a scenario wants.
    Scripted(ScriptedBackend),
}

/// The chain. What runs is ended when it is dropped, and nothing is left.
pub struct Chain {
    /// The proxyclient, while it runs.
    pub client: Option<Process>,
    /// The proxyserver, while it runs.
    pub server: Option<Process>,
    /// The receive daemon that was started; none when the plan named another one.
    pub receive_daemon: Option<Process>,
    /// The backend.
    pub backend: Backend,
    /// The partners of the plan.
    pub partners: Vec<Partner>,
    /// Who issues the partners' certificates and the proxy's.
    pub authority: Authority,
    /// The configuration as it was made, after all edits.
    pub config: Value,
    /// What the proxyserver prints with `-L`.
    pub proxy_id: String,
    /// Where the receive daemon listens.
    pub receive_address: SocketAddr,
    link_port: u16,
    partner_port: u16,
    poll_interval: Option<u32>,
    network: Option<Arc<Network>>,
    evil_server: bool,
    evil_client: bool,
    /// The last to go: the others have their files in it.
    pub scratch: Scratch,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            partners: vec!["ACME".into()],
            edits: Vec::new(),
            receive_daemon: None,
            seon_backend: false,
            poll_interval: None,
            network: None,
            evil_server: false,
            evil_client: false,
            programs: None,
            outgoing: false,
        }
    }
}

impl Plan {
    /// One partner, ACME; `oftp2_station receive` as receive daemon; the scripted backend.
    pub fn new() -> Self {
        Self::default()
    }

    /// These partners instead.
    pub fn partners(mut self, names: &[&str]) -> Self {
        self.partners = names.iter().map(|name| (*name).to_owned()).collect();
        self
    }

    pub(super) fn has_network(&self) -> bool {
        self.network.is_some()
    }

    pub(super) fn partner_count(&self) -> usize {
        self.partners.len()
    }

    /// A change of the configuration (the JSON of the contract) before it is first fetched.
    pub fn configure(mut self, edit: impl FnOnce(&mut Value) + 'static) -> Self {
        self.edits.push(Box::new(edit));
        self
    }

    /// The scenario's own receive daemon.
    pub fn receive_daemon_at(mut self, address: SocketAddr) -> Self {
        self.receive_daemon = Some(address);
        self
    }

    /// The proxyclient asks for its configuration so often, in seconds, and not every 60.
    pub fn poll_every(mut self, seconds: u32) -> Self {
        self.poll_interval = Some(seconds);
        self
    }

    /// The proxyserver that misbehaves when it is ordered to (package `evil`) instead of the usual one.
    pub fn with_evil_server(mut self) -> Self {
        self.evil_server = true;
        self
    }

    /// The same for the proxyclient.
    pub fn with_evil_client(mut self) -> Self {
        self.evil_client = true;
        self
    }

    /// `seon_backend` instead of the scripted one.
    pub fn with_seon_backend(mut self) -> Self {
        self.seon_backend = true;
        self
    }

    /// Each program on its host of that network, and not all of them on loopback.
    pub fn in_network(mut self, network: Arc<Network>) -> Self {
        self.network = Some(network);
        self
    }

    /// The proxy's programs of another build, which lie there.
    pub fn programs_in(mut self, directory: &Path) -> Self {
        self.programs = Some(directory.to_owned());
        self
    }

    /// Makes all files, starts backend and receive daemon, and neither of the proxy's daemons.
    pub fn prepare(self) -> Result<Chain, Trouble> {
        let scratch = Scratch::new()?;
        for (program, directory) in [(SERVER, "proxyserver"), (CLIENT, "proxyclient")] {
            // What is installed already is not installed again below.
            if let Some(programs) = &self.programs {
                scratch.install(&programs.join(program), directory)?;
            }
        }
        let authority = Authority::new("Certificate Authority of the Partners")?;
        let (link_port, partner_port) = (free_port()?, free_port()?);
        let partner = |name: String| {
            let identity = authority.issue(&Wanted { name: &name, ..Wanted::default() })?;
            Ok(Partner { code: format!("O0013000000{name}"), name, identity })
        };
        let partners: Vec<Partner> = self.partners.into_iter().map(partner).collect::<Result<_, Trouble>>()?;
        let (receive_daemon, receive_address) = match self.receive_daemon {
            Some(address) => (None, address),
            None => {
                let (process, address) = at(self.network.as_ref(), Host::Inside, || receive_daemon(&scratch))?;
                (Some(process), address)
            }
        };
        let proxy_id = proxy_id(&scratch)?;
        let proxy =
            authority.issue(&Wanted { name: "Proxy", hosts: &["localhost", "127.0.0.1"], ..Wanted::default() })?;
        let listen = SocketAddr::new(address(self.network.as_ref(), network::DMZ), partner_port);
        let mut config = configuration(&proxy_id, listen, receive_address, &proxy, &authority, &partners);
        for edit in self.edits {
            edit(&mut config);
        }
        // All that they start is built before, outside.
        binary("seon_backend")?;
        let seon_backend = self.seon_backend;
        let start = || if seon_backend { seon(&scratch, &config) } else { scripted(&scratch, &config) };
        let backend = at(self.network.as_ref(), Host::Inside, start)?;
        licence(&scratch, &proxy_id)?;
        Ok(Chain {
            client: None,
            server: None,
            receive_daemon,
            backend,
            partners,
            authority,
            config,
            proxy_id,
            receive_address,
            link_port,
            partner_port,
            poll_interval: self.poll_interval,
            network: self.network,
            evil_server: self.evil_server,
            evil_client: self.evil_client,
            scratch,
        })
    }

    /// Starts everything and waits until partners can connect, and stations inside where the plan has them.
    pub fn start(self) -> Result<Chain, Trouble> {
        let outgoing = self.outgoing;
        let mut chain = self.prepare()?;
        chain.start_server()?;
        chain.start_client()?;
        chain.wait_until_open(Mark::default())?;
        // It may say so a moment later than the proxyserver; whoever looks at what is new from now on has that behind.
        chain.client_says("link-up")?;
        if outgoing {
            chain.wait_for_outgoing()?;
        }
        Ok(chain)
    }
}

impl Chain {
    /// The usual chain, ready for partners.
    pub fn start() -> Result<Self, Trouble> {
        Plan::new().start()
    }

    /// Starts the proxyserver and waits until it waits for its client.
    pub fn start_server(&mut self) -> Result<(), Trouble> {
        let command = self.server_command()?;
        self.start_server_as(command)
    }

    /// As [`Self::start_server`], with that file in the place of `/etc/hosts`, for this program alone. That takes root.
    pub fn start_server_with_hosts(&mut self, hosts: &Path) -> Result<(), Trouble> {
        let usual = self.server_command()?;
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", "mount --bind \"$0\" /etc/hosts && exec \"$@\""]).arg(hosts);
        command.arg(usual.get_program()).args(usual.get_args());
        self.start_server_as(command)
    }

    fn start_server_as(&mut self, mut command: Command) -> Result<(), Trouble> {
        let server = self.at(Host::Dmz, || Process::start("proxyserver", &mut command))?;
        server.wait_for_text(" link-listening ")?;
        self.server = Some(server);
        Ok(())
    }

    /// Starts the proxyclient; it links in its own time.
    pub fn start_client(&mut self) -> Result<(), Trouble> {
        let mut command = self.client_command()?;
        self.client = Some(self.at(Host::Inside, || Process::start("proxyclient", &mut command))?);
        Ok(())
    }

    /// Waits until the proxyserver says that partners can connect.
    pub fn wait_until_open(&self, since: Mark) -> Result<(), Trouble> {
        let open = self.server().wait_after(since, "partner-port-open", |line| line.contains(" partner-port-open "));
        let told = |trouble: Trouble| Trouble(format!("{trouble}proxyclient:\n{}", said_by(self.client.as_ref())));
        open.map(drop).map_err(told)
    }

    /// The command line that starts the proxyserver.
    pub fn server_command(&self) -> Result<Command, Trouble> {
        let program = if self.evil_server { evil_binary("evil_proxyserver2")? } else { binary(SERVER)? };
        let mut command = Command::new(self.scratch.install(&program, "proxyserver")?);
        command.arg("-d").args(["-i", &self.link_address()]).arg("-l").arg(self.scratch.path().join(LICENCE));
        command.arg("--state-dir").arg(self.scratch.directory(SERVER_STATE)?).args(self.scratch.user_options());
        Ok(command)
    }

    /// The command line that starts the proxyclient.
    pub fn client_command(&self) -> Result<Command, Trouble> {
        let program = if self.evil_client { evil_binary("evil_proxyclient2")? } else { binary(CLIENT)? };
        let mut command = Command::new(self.scratch.install(&program, "proxyclient")?);
        command.arg("-d").args(["-U", &self.backend.url(), "-S", &self.link_address(), "-T", &token(&self.scratch)]);
        command.arg("--ca-file").arg(self.scratch.path().join(BACKEND_CA));
        command.args(self.poll_interval.iter().flat_map(|seconds| ["--poll-interval".into(), seconds.to_string()]));
        command.arg("--state-dir").arg(self.scratch.directory(CLIENT_STATE)?).args(self.scratch.user_options());
        Ok(command)
    }

    /// The proxyserver, which must have been started.
    pub fn server(&self) -> &Process {
        self.server.as_ref().expect("the proxyserver was started")
    }

    /// The proxyclient, which must have been started.
    pub fn client(&self) -> &Process {
        self.client.as_ref().expect("the proxyclient was started")
    }

    /// The scripted backend, which the plan must not have replaced.
    pub fn scripted_backend(&self) -> &ScriptedBackend {
        match &self.backend {
            Backend::Scripted(backend) => backend,
            Backend::Seon { .. } => panic!("this plan has seon_backend"),
        }
    }

    /// Where partners connect.
    pub fn partner_address(&self) -> String {
        SocketAddr::new(address(self.network.as_ref(), network::DMZ), self.partner_port).to_string()
    }

    /// Where the proxyclient connects.
    pub fn link_address(&self) -> String {
        SocketAddr::new(address(self.network.as_ref(), network::DMZ_TO_INSIDE), self.link_port).to_string()
    }

    /// How the first partner protects its calls: its certificate, and trust in the common authority.
    pub fn security(&self) -> Security {
        self.security_with(self.partners.first().map(|partner| partner.identity.clone()), TlsVersions::Both)
    }

    /// How somebody with that certificate protects its calls.
    pub fn security_with(&self, identity: Option<Identity>, versions: TlsVersions) -> Security {
        Security::Tls(TlsSettings { identity, trust: Trust::Authorities(self.authority.certificate_pem()), versions })
    }

    /// What the first partner says of itself, and whom it expects.
    pub fn settings(&self) -> Settings {
        let code = self.partners.first().map_or("O0013000000NOBODY", |partner| &partner.code);
        Settings { peer_code: Some(INSIDE_CODE.into()), patience: PATIENCE, ..Settings::new(code, "PARTNER") }
    }

    /// The first partner sends files to the receive daemon through the proxy.
    pub fn send(&self, files: Vec<OutgoingFile>) -> Report {
        let (to, security, settings) = (self.partner_address(), self.security(), self.settings());
        let sent = self.at(Host::Partner, || Ok(station::send(&to, &security, &settings, files)));
        sent.expect("the partner's host is there")
    }

    /// Does something on one of the hosts; on this machine as it is, when the plan had no network.
    pub fn at<T: Send>(&self, host: Host, act: impl FnOnce() -> Result<T, Trouble> + Send) -> Result<T, Trouble> {
        at(self.network.as_ref(), host, act)
    }

    /// Where the receive daemon that was started puts its files.
    pub fn received(&self, dataset: &str) -> PathBuf {
        self.scratch.path().join(RECEIVED).join(dataset)
    }

    /// Waits for a line with that code in the proxyserver's log.
    pub fn server_says(&self, code: &str) -> Result<String, Trouble> {
        let told = |trouble: Trouble| Trouble(format!("{trouble}proxyclient:\n{}", said_by(self.client.as_ref())));
        self.server().wait_for_text(&format!(" {code} ")).map_err(told)
    }

    /// Waits for a line with that code in the proxyclient's log.
    pub fn client_says(&self, code: &str) -> Result<String, Trouble> {
        let told = |trouble: Trouble| Trouble(format!("{trouble}proxyserver:\n{}", said_by(self.server.as_ref())));
        self.client().wait_for_text(&format!(" {code} ")).map_err(told)
    }
}

impl Backend {
    /// The session records that it has been given.
    pub fn session_records(&self) -> Result<Vec<Value>, Trouble> {
        match self {
            Self::Seon { config, .. } => seon_backend::session_records(config),
            Self::Scripted(backend) => Ok(backend.session_records()),
        }
    }

    /// The program; none when it is scripted.
    pub fn process(&self) -> Option<&Process> {
        match self {
            Self::Seon { process, .. } => Some(process),
            Self::Scripted(_) => None,
        }
    }

    /// What the proxyclient takes with `-U`.
    pub fn url(&self) -> String {
        match self {
            Self::Seon { url, .. } => url.clone(),
            Self::Scripted(backend) => backend.url(),
        }
    }
}

const SERVER: &str = "seon_proxyserver2";
const CLIENT: &str = "seon_proxyclient2";
const LICENCE: &str = "seon_proxy.lic";
const SERVER_STATE: &str = "state/proxyserver";
const CLIENT_STATE: &str = "state/proxyclient";
const RECEIVED: &str = "received";
const BACKEND_CA: &str = "backend-ca.pem";
const TOKEN: &str = "token";

/// Why something did not happen may stand in the other log.
fn said_by(daemon: Option<&Process>) -> String {
    daemon.map(|daemon| daemon.last_lines(20)).unwrap_or_default()
}

fn at<T: Send>(
    network: Option<&Arc<Network>>,
    host: Host,
    act: impl FnOnce() -> Result<T, Trouble> + Send,
) -> Result<T, Trouble> {
    match network {
        Some(network) => network.host(host).within(act),
        None => act(),
    }
}

/// That address in a network, loopback without one.
fn address(network: Option<&Arc<Network>>, there: IpAddr) -> IpAddr {
    network.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |_| there)
}

/// The configuration as the contract has it.
fn configuration(
    proxy_id: &str,
    listen: SocketAddr,
    receive_daemon: SocketAddr,
    proxy: &Identity,
    authority: &Authority,
    partners: &[Partner],
) -> Value {
    let partner = |partner: &Partner| {
        json!({
            "name": partner.name,
            "certificate_sha256": [pki::fingerprint(&partner.identity)],
            "ssid_codes": [partner.code],
        })
    };
    json!({
        "version": 1,
        "proxy_id": proxy_id,
        "listen": { "addresses": [listen.ip().to_string()], "tls_port": listen.port() },
        "receive_daemon": { "host": receive_daemon.ip().to_string(), "port": receive_daemon.port() },
        "identity": { "certificate_chain_pem": proxy.chain_pem, "private_key_pem": proxy.key_pem },
        "trust": { "anchors_pem": [authority.certificate_pem()], "revocation": "off" },
        "partners": partners.iter().map(partner).collect::<Vec<_>>(),
    })
}

fn receive_daemon(scratch: &Scratch) -> Result<(Process, SocketAddr), Trouble> {
    let mut command = Command::new(binary("oftp2_station")?);
    command.args([
        "receive",
        "--listen",
        "127.0.0.1:0",
        "--eerp",
        "--code",
        INSIDE_CODE,
        "--password",
        INSIDE_PASSWORD,
    ]);
    command.args(["--buffer-size", "99999", "--credit", "999"]).arg("--directory").arg(scratch.directory(RECEIVED)?);
    let process = Process::start("receive daemon", &mut command)?;
    let line = process.wait_for_text("listening on ")?;
    let address = line.rsplit(' ').next().and_then(|address| address.parse().ok());
    let address = address.ok_or_else(|| Trouble(format!("no address in \"{line}\"")))?;
    Ok((process, address))
}

fn proxy_id(scratch: &Scratch) -> Result<String, Trouble> {
    let mut command = Command::new(scratch.install(&binary(SERVER)?, "proxyserver")?);
    command.arg("-L").arg("--state-dir").arg(scratch.directory(SERVER_STATE)?).args(scratch.user_options());
    Ok(Process::run("seon_proxyserver2 -L", &mut command)?.trim().to_owned())
}

/// Issues a licence for that Proxy ID and the client whose token lies in the scratch directory.
fn licence(scratch: &Scratch, proxy_id: &str) -> Result<(), Trouble> {
    let mut command = Command::new(scratch.install(&binary(CLIENT)?, "proxyclient")?);
    command.args(["--print-client-line", "-T", &token(scratch)]);
    let client_line = Process::run("seon_proxyclient2 --print-client-line", &mut command)?;
    let issuer = Path::new(env!("CARGO_MANIFEST_DIR")).join("../etc/seon_community_issuer.key");
    let mut command = Command::new(binary("seon_license")?);
    command.args(["issue", "--licensee", "Harness", "--from", "2020-01-01", "--until", "2099-12-31"]);
    command.args(["--proxy-id", proxy_id, "--client", client_line.trim()]).arg("--issuer-key").arg(issuer);
    let licence = Process::run("seon_license issue", &mut command)?;
    scratch.write(LICENCE, licence)?;
    Ok(())
}

fn token(scratch: &Scratch) -> String {
    format!("@{}", scratch.path().join(TOKEN).display())
}

fn https(scratch: &Scratch) -> Result<Identity, Trouble> {
    let authority = Authority::new("Certificate Authority of the Backend")?;
    scratch.write(BACKEND_CA, authority.certificate_pem())?;
    let hosts = &["localhost", "127.0.0.1"];
    Ok(authority.issue(&Wanted { name: "Backend", hosts, purpose: pki::Purpose::Server, ..Wanted::default() })?)
}

fn seon(scratch: &Scratch, config: &Value) -> Result<Backend, Trouble> {
    let started = seon_backend::start(scratch, &https(scratch)?, config)?;
    scratch.write(TOKEN, started.token)?;
    Ok(Backend::Seon { process: started.process, url: started.url, config: started.config })
}

fn scripted(scratch: &Scratch, config: &Value) -> Result<Backend, Trouble> {
    let token = license::SecurityToken::new_random().map_err(|error| Trouble(error.to_string()))?;
    scratch.write(TOKEN, token.reveal())?;
    let backend = ScriptedBackend::start(https(scratch)?, token.reveal())?;
    backend.set_config(config.clone());
    Ok(Backend::Scripted(backend))
}
