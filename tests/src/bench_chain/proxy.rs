//! The project's own two hops, with everything switched on: monitors, confinement, log at INFO, a CRL, session records.

use std::collections::HashMap;
use std::fs;
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;

use serde_json::{Value, json};

use super::topology::{Peer, Running, Topology};
use super::world::{PARTNER_CODE, World};
use crate::harness::scripted_backend::Answer;
use crate::harness::{Chain, PATIENCE, Plan, Process, Trouble, until};
use crate::pki;
use crate::station::{Identity, sha256};

/// More than any measure has.
const MOST_SESSIONS: u32 = 100_000;

/// Starts it. The configuration is asked for so often, in seconds, or as usual.
pub fn start(world: &World, programs: Option<&Path>, poll_every: Option<u32>) -> Result<Topology, Trouble> {
    let mut plan = Plan::new().receive_daemon_at(world.sink.address);
    if let Some(seconds) = poll_every {
        plan = plan.poll_every(seconds);
    }
    if let Some(programs) = programs {
        plan = plan.programs_in(programs);
    }
    let mut chain = plan.prepare()?;
    serve(&chain, vec![world.crl.clone()]);
    chain.config = configuration(&chain.config, world);
    chain.scripted_backend().set_config(chain.config.clone());
    log_as_shipped(&chain)?;
    // Not as the scenarios do it, who read the terminal: nothing of the log comes there.
    chain.server = Some(Process::start("proxyserver", &mut chain.server_command()?)?);
    chain.client = Some(Process::start("proxyclient", &mut chain.client_command()?)?);
    let address = chain.partner_address().to_socket_addrs().map_err(|error| Trouble(error.to_string()))?.next();
    let address = address.ok_or_else(|| Trouble("no address for partners".into()))?;
    let open = until(PATIENCE, || TcpStream::connect(address).ok());
    open.ok_or_else(|| {
        Trouble(format!("partners are not let in; the logs are in {}", chain.scratch.path().display()))
    })?;
    let roots = vec![chain.server().pid(), chain.client().pid()];
    Ok(Topology { peer: Peer::Proxy, address, roots, running: Running::Chain(Box::new(chain)) })
}

/// The log goes to a file of its day, as in `etc`, and not through a pipe to those who measure.
fn log_as_shipped(chain: &Chain) -> Result<(), Trouble> {
    for (directory, name) in [("proxyserver", "seon_proxyserver.logrc"), ("proxyclient", "seon_proxyclient.logrc")] {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../etc").join(name);
        let beside = chain.scratch.directory(directory)?.join(name);
        fs::copy(&shipped, &beside).map_err(Trouble::io("the shipped .logrc"))?;
    }
    Ok(())
}

/// The harness's configuration with the certificates of `world`, its CRL, and room for every measure.
fn configuration(usual: &Value, world: &World) -> Value {
    let mut config = usual.clone();
    let Identity { chain_pem, key_pem } = &world.proxy;
    config["identity"] = json!({ "certificate_chain_pem": chain_pem, "private_key_pem": key_pem });
    config["trust"] = json!({
        "anchors_pem": [world.authority.certificate_pem()],
        "revocation": "require",
        "crls": [sha256(&world.crl)],
    });
    config["partners"] = json!([{
        "name": "ACME",
        "certificate_sha256": [pki::fingerprint(&world.partner)],
        "ssid_codes": [PARTNER_CODE],
    }]);
    config["limits"] = json!({
        "max_sessions": MOST_SESSIONS,
        "max_sessions_per_address": MOST_SESSIONS,
        "max_unverified": MOST_SESSIONS,
        "inactivity_timeout_s": 3600,
    });
    config
}

/// The backend gives these CRLs, too.
pub fn serve(chain: &Chain, crls: Vec<Vec<u8>>) {
    let crls: HashMap<String, Vec<u8>> = crls.into_iter().map(|crl| (sha256(&crl), crl)).collect();
    chain.scripted_backend().set_script(move |request| {
        let crl = crls.get(request.path.strip_prefix("/proxy/v1/crls/")?)?;
        let headers = vec![("Content-Type".to_owned(), "application/pkix-crl".to_owned())];
        Some(Answer { status: 200, headers, body: crl.clone() })
    });
}
