//! `seon_backend` with a configuration file of its own, made of what the contract calls the configuration.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Map, Value, json};

use super::{Process, Scratch, Trouble, binary};
use crate::station::Identity;

const CONFIG: &str = "seon_backend.toml";

/// It, running.
pub(super) struct Started {
    pub process: Process,
    /// What goes behind `-U`.
    pub url: String,
    /// Its one security token.
    pub token: String,
    /// Its configuration file.
    pub config: PathBuf,
}

/// Writes the files, makes a security token, and starts it.
pub(super) fn start(scratch: &Scratch, https: &Identity, config: &Value) -> Result<Started, Trouble> {
    for (name, identity) in [("backend", https), ("proxy", &proxy_identity(config))] {
        scratch.write(&format!("{name}.pem"), &identity.chain_pem)?;
        scratch.write(&format!("{name}.key"), &identity.key_pem)?;
    }
    let lists = [("anchors.pem", "anchors_pem"), ("pinned.pem", "pinned_pem")];
    for (file, member) in lists {
        let certificates = config["trust"][member].as_array().into_iter().flatten().filter_map(Value::as_str);
        scratch.write(file, certificates.collect::<String>())?;
    }
    let config = scratch.write(CONFIG, toml(config))?;
    let token = Process::run(
        "seon_backend token new",
        Command::new(binary("seon_backend")?).args(["token", "new", "--name", "harness", "--config"]).arg(&config),
    )?;
    let mut serve = Command::new(binary("seon_backend")?);
    let process = Process::start("seon_backend", serve.args(["serve", "--config"]).arg(&config))?;
    let line = process.wait_for_text("listening on ")?;
    let address = line.rsplit(' ').next().unwrap_or_default();
    let address = address.trim_start_matches("https://").trim_end_matches('/').to_owned();
    let url = format!("https://{address}/seonapi/index.php");
    Ok(Started { process, url, token: token.trim().to_owned(), config })
}

/// The session records that it lists.
pub(super) fn session_records(config: &Path) -> Result<Vec<Value>, Trouble> {
    let mut list = Command::new(binary("seon_backend")?);
    let said = Process::run("seon_backend sessions", list.args(["sessions", "--json", "--config"]).arg(config))?;
    said.lines().map(|line| serde_json::from_str(line).map_err(|error| Trouble(format!("{line}: {error}")))).collect()
}

fn proxy_identity(config: &Value) -> Identity {
    let text = |member: &str| config["identity"][member].as_str().unwrap_or_default().to_owned();
    Identity { chain_pem: text("certificate_chain_pem"), key_pem: text("private_key_pem") }
}

/// The configuration file: certificates and keys by the names of their files, the rest under the contract's names.
fn toml(config: &Value) -> String {
    let mut file = Map::new();
    file.insert(
        "backend".into(),
        json!({
            "listen": "127.0.0.1:0",
            "certificate_chain": "backend.pem",
            "private_key": "backend.key",
            "database": "seon_backend.sqlite",
        }),
    );
    file.insert("identity".into(), json!({ "certificate_chain": "proxy.pem", "private_key": "proxy.key" }));
    let mut proxy = Map::new();
    for (name, value) in config.as_object().into_iter().flatten() {
        match name.as_str() {
            "version" | "identity" => {}
            "proxy_id" | "outgoing_ip" | "unknown_partners" => {
                proxy.insert(name.clone(), value.clone());
            }
            "trust" => {
                let mut trust = value.clone();
                if let Some(trust) = trust.as_object_mut() {
                    for (list, file) in [("anchors_pem", "anchors.pem"), ("pinned_pem", "pinned.pem")] {
                        if trust.remove(list).is_some_and(|list| list.as_array().is_some_and(|list| !list.is_empty())) {
                            trust.insert(list.trim_end_matches("_pem").into(), json!([file]));
                        }
                    }
                    trust.remove("crls");
                }
                file.insert(name.clone(), trust);
            }
            _ => {
                file.insert(name.clone(), value.clone());
            }
        }
    }
    file.insert("proxy".into(), Value::Object(proxy));
    file.iter().map(|(name, value)| format!("{name} = {}\n", inline(value))).collect()
}

/// A value as TOML has it: as in JSON, but for objects, and without null.
fn inline(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let members = members.iter().filter(|(_, value)| !value.is_null());
            let members: Vec<String> = members.map(|(name, value)| format!("{name} = {}", inline(value))).collect();
            format!("{{ {} }}", members.join(", "))
        }
        Value::Array(values) => format!("[{}]", values.iter().map(inline).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_names_certificates_by_their_files() {
        let config = json!({
            "version": 1,
            "proxy_id": "00px",
            "outgoing_ip": null,
            "listen": { "addresses": ["127.0.0.1"], "tls_port": 6619 },
            "identity": { "certificate_chain_pem": "C", "private_key_pem": "K" },
            "trust": { "anchors_pem": ["A"], "revocation": "off" },
            "partners": [{ "name": "ACME", "address": null }],
        });
        assert_eq!(
            toml(&config).lines().filter(|line| !line.starts_with("backend")).collect::<Vec<_>>(),
            [
                r#"identity = { certificate_chain = "proxy.pem", private_key = "proxy.key" }"#,
                r#"listen = { addresses = ["127.0.0.1"], tls_port = 6619 }"#,
                r#"partners = [{ name = "ACME" }]"#,
                r#"proxy = { proxy_id = "00px" }"#,
                r#"trust = { anchors = ["anchors.pem"], revocation = "off" }"#,
            ]
        );
    }
}
