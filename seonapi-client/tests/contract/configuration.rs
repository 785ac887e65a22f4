//! A configuration as the contract writes it: defaults, what is ignored, what is refused and where.

use std::net::IpAddr;
use std::time::Duration;

use seonapi_client::{
    ApiError, Conformance, ExtendedKeyUsage, ProxyConfig, Revocation, TlsVersion, TunnelDirection, UnknownPartners,
};
use serde_json::{Value, json};

const ID: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

fn smallest() -> Value {
    json!({
        "version": 1,
        "proxy_id": format!("{ID}px"),
        "listen": {"tls_port": 6619},
        "identity": {"certificate_chain_pem": "chain", "private_key_pem": "key"},
        "trust": {},
        "receive_daemon": {"host": "station.example"},
    })
}

fn read(json: &Value) -> ProxyConfig {
    ProxyConfig::from_json(json.to_string().as_bytes()).unwrap()
}

/// The smallest configuration with the member at this JSON pointer set.
fn with(pointer: &str, value: Value) -> Value {
    let mut json = smallest();
    let (parent, member) = pointer.rsplit_once('/').unwrap();
    json.pointer_mut(parent).unwrap()[member] = value;
    json
}

#[test]
fn missing_members_have_the_defaults_of_the_contract() {
    let config = read(&smallest());
    let everywhere: [IpAddr; 2] = ["0.0.0.0".parse().unwrap(), "::".parse().unwrap()];
    assert_eq!(config.listen.addresses, everywhere);
    assert!(config.listen.proxy_protocol_from.is_empty());
    assert_eq!(config.outgoing_ip, None);
    assert_eq!((config.receive_daemon.port, config.receive_daemon.proxy_protocol), (3305, false));
    assert!(config.tunnels.is_empty() && config.clients.is_empty() && config.partners.is_empty());
    assert_eq!((config.trust.revocation, config.trust.min_tls_version), (Revocation::Prefer, TlsVersion::Tls12));
    assert!(config.trust.anchors_pem.is_empty() && config.trust.pinned_pem.is_empty());
    assert!(config.trust.crls.is_empty() && config.trust.known_crl_urls.is_empty());
    assert_eq!(config.unknown_partners, UnknownPartners::Refuse);
    let limits = &config.limits;
    assert_eq!((limits.max_sessions, limits.max_sessions_per_address, limits.max_unverified), (1000, 20, 100));
    assert_eq!(limits.handshake_timeout, Duration::from_secs(30));
    assert_eq!(limits.pairing_timeout, Duration::from_secs(10));
    assert_eq!(limits.inactivity_timeout, Duration::from_secs(300));
    assert_eq!(limits.drain_timeout, Duration::from_secs(60));
    assert_eq!((limits.max_exchange_buffer, limits.offender_refuse), (99_999, Duration::ZERO));
}

#[test]
fn a_partner_a_client_and_a_tunnel_have_their_defaults_too() {
    let mut json = with("/partners", json!([{"name": "ACME"}]));
    json["clients"] = json!([{"address": "10.0.0.1", "listen_port": 3306}]);
    json["tunnels"] = json!([{"name": "t", "direction": "incoming", "listen": "0.0.0.0:22", "connect": "in:22", "allow_from": ["192.0.2.1"]}]);
    let config = read(&json);
    let [partner] = config.partners.try_into().unwrap();
    assert!(partner.enabled && partner.certificate_sha256.is_empty() && partner.subjects.is_empty());
    assert!(partner.issuers.is_empty() && partner.ssid_codes.is_empty() && partner.allow_from.is_empty());
    assert_eq!((partner.address, partner.server_name, partner.listen_port), (None, None, None));
    assert_eq!((partner.max_sessions, partner.outgoing_ip, partner.revocation), (None, None, None));
    assert_eq!(partner.conformance, Conformance::Standard);
    assert_eq!(partner.extended_key_usage, ExtendedKeyUsage::Require);
    let [client] = config.clients.try_into().unwrap();
    assert_eq!((client.name, client.listen_port), (None, 3306));
    assert_eq!(client.allow_from.iter().map(ToString::to_string).collect::<Vec<_>>(), ["127.0.0.0/8"]);
    let [tunnel] = config.tunnels.try_into().unwrap();
    assert_eq!((tunnel.max_sessions, tunnel.direction), (100, TunnelDirection::Incoming));
}

#[test]
fn unknown_members_are_ignored_everywhere() {
    let mut json = with("/listen/future", json!({"a": [1, {"b": null}]}));
    json["future"] = json!(1);
    json["partners"] = json!([{"name": "ACME", "future": "x"}]);
    json["limits"] = json!({"future": 1.5});
    assert_eq!(read(&json).partners.len(), 1);
}

#[test]
fn every_required_member_is_missed_by_name() {
    for (parent, member) in [
        ("", "version"),
        ("", "proxy_id"),
        ("", "listen"),
        ("", "identity"),
        ("", "receive_daemon"),
        ("/listen", "tls_port"),
        ("/receive_daemon", "host"),
        ("/identity", "certificate_chain_pem"),
        ("/identity", "private_key_pem"),
    ] {
        let mut json = smallest();
        json.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(member);
        let error = ProxyConfig::from_json(json.to_string().as_bytes()).unwrap_err();
        let ApiError::Config(error) = error else { panic!("{error}") };
        assert_eq!(error.reason, format!("missing field `{member}`"));
    }
}

#[test]
fn a_wrong_value_is_told_with_its_exact_place() {
    let partner = |member: &str, value: Value| with("/partners", json!([{"name": "A"}, {"name": "B", member: value}]));
    for (json, path, reason) in [
        (with("/version", json!(2)), "version", "version 2 is not known"),
        (with("/proxy_id", json!(ID)), "proxy_id", "no Proxy ID"),
        (with("/proxy_id", json!(format!("{}px", ID.to_uppercase()))), "proxy_id", "no Proxy ID"),
        (with("/listen/tls_port", json!(0)), "listen.tls_port", "1 to 65535"),
        (with("/listen/tls_port", json!("6619")), "listen.tls_port", "invalid type"),
        (with("/listen/addresses", json!(["0.0.0.0", "x"])), "listen.addresses[1]", "invalid IP address"),
        (with("/receive_daemon/host", json!("a b")), "receive_daemon.host", "neither a host name nor an address"),
        (with("/receive_daemon/port", json!(-1)), "receive_daemon.port", "1 to 65535"),
        (with("/outgoing_ip", json!("localhost")), "outgoing_ip", "invalid IP address"),
        (with("/trust/revocation", json!("sometimes")), "trust.revocation", "unknown variant"),
        (with("/trust/revocation", json!(null)), "trust.revocation", "expected"),
        (with("/trust/min_tls_version", json!("1.1")), "trust.min_tls_version", "unknown variant"),
        (with("/trust/crls", json!(["00"])), "trust.crls[0]", "no fingerprint"),
        (with("/unknown_partners", json!("maybe")), "unknown_partners", "unknown variant"),
        (with("/limits", json!({"max_exchange_buffer": 127})), "limits.max_exchange_buffer", "128 to 99999"),
        (with("/limits", json!({"max_exchange_buffer": 100_000})), "limits.max_exchange_buffer", "128 to 99999"),
        (with("/limits", json!({"drain_timeout_s": -1})), "limits.drain_timeout_s", "u32"),
        (with("/clients", json!([{"address": "10.0.0.1"}])), "clients[0]", "missing field `listen_port`"),
        (partner("name", json!(1)), "partners", ""),
        (partner("allow_from", json!(["10.0.0.0/8", "10.0.0.0/33"])), "partners[1].allow_from[1]", "no address range"),
        (partner("certificate_sha256", json!(["xx"])), "partners[1].certificate_sha256[0]", "no fingerprint"),
        (partner("ssid_codes", json!(["O0013", "X".repeat(26)])), "partners[1].ssid_codes[1]", "25"),
        (partner("address", json!("host")), "partners[1].address", "not host:port"),
        (partner("server_name", json!("")), "partners[1].server_name", "neither"),
        (partner("listen_port", json!(70_000)), "partners[1].listen_port", "1 to 65535"),
        (partner("conformance", json!("lax")), "partners[1].conformance", "unknown variant"),
        (partner("enabled", json!("yes")), "partners[1].enabled", "boolean"),
    ] {
        let text = serde_json::to_string_pretty(&json).unwrap();
        match ProxyConfig::from_json(text.as_bytes()).unwrap_err() {
            ApiError::Config(error) => {
                assert!(error.path.starts_with(path) && error.reason.contains(reason), "{path}, {reason}: {error}");
                assert!(error.line >= 1 && error.line <= text.lines().count(), "{error}");
            }
            other => panic!("{path}: {other}"),
        }
    }
}

#[test]
fn a_tunnel_for_everybody_is_refused() {
    let tunnel = |allow: Value| json!([{"name": "t", "direction": "outgoing", "listen": "127.0.0.1:22", "connect": "in:22", "allow_from": allow}]);
    let error = ProxyConfig::from_json(with("/tunnels", tunnel(json!([]))).to_string().as_bytes()).unwrap_err();
    assert!(matches!(&error, ApiError::Config(error) if error.path == "tunnels[0].allow_from"), "{error}");
}

#[test]
fn a_client_is_found_by_any_form_of_its_address() {
    let at = |address: &str| read(&with("/clients", json!([{"address": address, "listen_port": 1}]))).clients.remove(0);
    for (configured, own, same) in [
        ("127.0.0.1", "::1", true),
        ("::1", "127.0.0.1", true),
        ("::ffff:10.0.0.1", "10.0.0.1", true),
        ("10.0.0.1", "::ffff:10.0.0.1", true),
        ("10.0.0.1", "10.0.0.2", false),
        ("127.0.0.1", "127.0.0.2", false),
    ] {
        assert_eq!(at(configured).is_at(own.parse().unwrap()), same, "{configured} {own}");
    }
}

#[test]
fn what_is_written_is_read_back_the_same() {
    let mut json = with(
        "/partners",
        json!([{"name": "ACME", "revocation": "require", "address": "[2001:db8::1]:6619", "allow_from": ["10.0.0.0/8"]}]),
    );
    json["limits"] = json!({"handshake_timeout_s": 5});
    let config = read(&json);
    assert_eq!(read(&serde_json::to_value(&config).unwrap()), config);
}

#[test]
fn a_private_key_in_the_wrong_place_is_not_told() {
    for (path, value) in [
        ("/identity", json!("very secret")),
        ("/identity/private_key_pem", json!(["very secret"])),
        ("/identity/private_key_pem", json!({ "very secret": 1 })),
        ("/identity/certificate_chain_pem", json!({ "very secret": 1 })),
    ] {
        let json = with(path, value).to_string();
        let told = ProxyConfig::from_json(json.as_bytes()).unwrap_err().to_string();
        assert!(told.contains("identity") && !told.contains("secret"), "{told}");
    }
}

#[test]
fn the_private_key_is_not_in_the_debug_form() {
    let json = with("/identity/private_key_pem", json!("very secret"));
    assert!(!format!("{:?}", read(&json)).contains("secret"));
}

#[test]
fn foreign_text_in_a_reason_is_escaped() {
    let json = with("/unknown_partners", json!("\u{1b}[31m\n"));
    let error = ProxyConfig::from_json(json.to_string().as_bytes()).unwrap_err().to_string();
    assert!(!error.contains(['\u{1b}', '\n']), "{error}");
}
