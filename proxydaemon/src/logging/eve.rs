//! The kind `seon_eve`: records as events in the EVE format of Suricata, one JSON object a line, for what already reads such
//! files (intrusion detection, SIEM). It has no settings.
//!
//! | Member | Meaning |
//! | --- | --- |
//! | `timestamp` | local time with microseconds and offset, `2026-03-01T12:00:00.123456+0100` |
//! | `flow_id` | number below 2^53, the same in all events of one session, in both daemons |
//! | `event_type` | `alert`: a refusal or violation; `oftp2`: another event of a connection; `engine`: an event of the daemon |
//! | `host` | name of this host |
//! | `src_ip`, `src_port`, `dest_ip`, `dest_port`, `proto` | who connected to whom; `proto` is `TCP`. An IPv4-mapped address stands as IPv4 |
//! | `log_level` | `TRACE` to `FATAL` |
//! | `alert` | `action` (`blocked`), `gid` (5024), `signature_id` (the situation's number), `rev`, `signature` (its sentence), `category`, `severity` (1 is the gravest, 3 the least) |
//! | `tls` | `subject`, `issuerdn`, `serial`, `fingerprint` (SHA-256, hex pairs with colons) of the certificate that the peer showed; `version` (`TLS 1.3`), `cipher_suite`, `key_exchange` |
//! | `oftp2` | `session`, `situation` (code), `message`, `direction`, `partner`, `code` and `reply_code` (SSIDCODE of Initiator and Responder), `files` (list of SFIDDSN), `file_count` |
//! | `engine` | `role`, `pid`, `code`, `message`, of an event that has no connection |
//!
//! A member without value is left out, and so is an object without members. An appender for alerts alone has the filter
//! `seon_alerts`.

use std::net::SocketAddr;
use std::sync::OnceLock;

use chrono::{DateTime, Local};
use log::Record;
use log4rs::config::{Deserialize, Deserializers};
use log4rs::encode::{Encode, Write};

use super::field::{Field, Fields};
use super::json::Object;
use super::{Threshold, value_of};

/// What makes a situation an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alert {
    /// The situation's number, which stays.
    pub number: u32,
    /// What it means, in a sentence.
    pub signature: &'static str,
    /// Of what kind it is.
    pub category: &'static str,
    /// 1 is the gravest, 3 the least.
    pub severity: u8,
}

static ALERTS: OnceLock<fn(&str) -> Option<Alert>> = OnceLock::new();

/// Says which codes are alerts. Once, before the log is started.
pub fn set_alerts(of_code: fn(&str) -> Option<Alert>) {
    // A second time would say the same.
    let _ = ALERTS.set(of_code);
}

/// What makes a record an alert, if it is one.
pub(super) fn alert_of(record: &Record<'_>) -> Option<Alert> {
    let code = value_of(record, "code")?;
    ALERTS.get().and_then(|of_code| of_code(&code))
}

/// Generator of our alerts among those of others: the number of the RFC.
const GENERATOR: u64 = 5024;
/// Integers up to here are exact in every reader of JSON.
const LARGEST_FLOW: u64 = (1 << 53) - 1;

#[derive(Debug)]
pub(super) struct SeonEve {
    host: String,
}

impl SeonEve {
    pub(super) fn new() -> Self {
        Self { host: crate::host_name() }
    }

    fn line(&self, time: DateTime<Local>, record: &Record<'_>, alert: Option<Alert>) -> String {
        let fields = Fields::of(record);
        let own = |key| value_of(record, key);
        let (session, code, message) = (own("session"), own("code"), record.args().to_string());
        let address = |field| fields.get(field).and_then(|text| text.parse::<SocketAddr>().ok());
        let (peer, local) = (address(Field::Peer), address(Field::Local));
        let of_connection = peer.is_some() || session.is_some();

        let mut line = Object::new();
        line.text("timestamp", &time.format("%Y-%m-%dT%H:%M:%S%.6f%z").to_string());
        if let Some(flow) = flow(session.as_deref(), &fields) {
            line.number("flow_id", flow);
        }
        line.text(
            "event_type",
            match alert {
                Some(_) => "alert",
                None if of_connection => "oftp2",
                None => "engine",
            },
        );
        line.text("host", &self.host);
        let outgoing = fields.get(Field::Direction) == Some("outgoing");
        let (source, destination) = if outgoing { (local, peer) } else { (peer, local) };
        for (ip, port, address) in [("src_ip", "src_port", source), ("dest_ip", "dest_port", destination)] {
            if let Some(address) = address {
                line.text(ip, &address.ip().to_canonical().to_string());
                // An offence is an address's, of whatever port.
                if address.port() != 0 {
                    line.number(port, address.port().into());
                }
            }
        }
        if peer.is_some() {
            line.text("proto", "TCP");
        }
        line.text("log_level", Threshold::of(record.metadata()).name());
        if let Some(alert) = alert {
            let mut object = Object::new();
            object.text("action", "blocked").number("gid", GENERATOR).number("signature_id", alert.number.into());
            object.number("rev", 1).text("signature", alert.signature).text("category", alert.category);
            line.object("alert", object.number("severity", alert.severity.into()));
        }
        line.object("tls", &tls(&fields));
        if of_connection {
            let mut object = Object::new();
            object.text_if("session", session.as_deref()).text_if("situation", code.as_deref());
            object.text("message", &message);
            line.object("oftp2", oftp2(&mut object, &fields));
        } else {
            let mut object = Object::new();
            object.text_if("role", own("role").as_deref());
            if let Some(pid) = own("pid").and_then(|pid| pid.parse().ok()) {
                object.number("pid", pid);
            }
            line.object("engine", object.text_if("code", code.as_deref()).text("message", &message));
        }
        line.into_line()
    }
}

fn tls(fields: &Fields) -> Object {
    let mut tls = Object::new();
    tls.text_if("subject", fields.get(Field::CertificateSubject));
    tls.text_if("issuerdn", fields.get(Field::CertificateIssuer));
    tls.text_if("serial", fields.get(Field::CertificateSerial));
    tls.text_if("fingerprint", fields.get(Field::CertificateSha256).map(with_colons).as_deref());
    tls.text_if("version", fields.get(Field::TlsVersion).map(|version| version.replace("TLSv", "TLS ")).as_deref());
    tls.text_if("cipher_suite", fields.get(Field::TlsCipher));
    tls.text_if("key_exchange", fields.get(Field::TlsKeyExchange));
    tls
}

fn oftp2<'a>(object: &'a mut Object, fields: &Fields) -> &'a Object {
    object.text_if("direction", fields.get(Field::Direction)).text_if("partner", fields.get(Field::Partner));
    object.text_if("code", fields.get(Field::Code)).text_if("reply_code", fields.get(Field::ReplyCode));
    if let Some(files) = fields.get(Field::Files) {
        object.texts("files", files.lines());
    }
    if let Some(count) = fields.get(Field::FileCount).and_then(|count| count.parse().ok()) {
        object.number("file_count", count);
    }
    object
}

/// Hex digits in pairs, as people compare fingerprints.
fn with_colons(digits: &str) -> String {
    let mut pairs = String::with_capacity(digits.len() * 2);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && place % 2 == 0 {
            pairs.push(':');
        }
        pairs.push(digit);
    }
    pairs
}

/// A number for the session; without one for the connection, by its two ends.
fn flow(session: Option<&str>, fields: &Fields) -> Option<u64> {
    let (one, other) = match session {
        Some(session) => (session, ""),
        None => (fields.get(Field::Peer)?, fields.get(Field::Local).unwrap_or_default()),
    };
    // FNV-1a: the same in every build on every machine, which a hash map's is not. It guards nothing.
    let octets = one.bytes().chain([0]).chain(other.bytes());
    let hash = octets
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, octet| (hash ^ u64::from(octet)).wrapping_mul(0x0000_0100_0000_01b3));
    Some(hash & LARGEST_FLOW)
}

impl Encode for SeonEve {
    fn encode(&self, w: &mut dyn Write, record: &Record<'_>) -> anyhow::Result<()> {
        Ok(w.write_all(self.line(Local::now(), record, alert_of(record)).as_bytes())?)
    }
}

/// `encoder: { kind: seon_eve }` in a `.logrc`.
pub(super) struct EveDeserializer;

/// It has no settings.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EveConfig {}

impl Deserialize for EveDeserializer {
    type Trait = dyn Encode;
    type Config = EveConfig;

    fn deserialize(&self, _: EveConfig, _: &Deserializers) -> anyhow::Result<Box<dyn Encode>> {
        Ok(Box::new(SeonEve::new()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeZone;
    use log::Level;
    use serde_json::{Value, json};

    const ALERT: Alert =
        Alert { number: 77, signature: "A peer broke a rule.", category: "Protocol violation", severity: 2 };

    fn written(pairs: &[(&str, &str)], alert: Option<Alert>) -> Value {
        let pairs = &pairs;
        let record = &mut Record::builder();
        let time = Local.with_ymd_and_hms(2026, 3, 1, 12, 0, 0).unwrap();
        let record = record.level(Level::Error).key_values(pairs).args(format_args!("text\n"));
        let line = SeonEve { host: "dmz1".into() }.line(time, &record.build(), alert);
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        let mut value: Value = serde_json::from_str(&line).unwrap();
        let time = value.as_object_mut().unwrap().remove("timestamp").unwrap();
        let (time, zone) = time.as_str().unwrap().split_at("2026-03-01T12:00:00.000000".len());
        assert_eq!(time, "2026-03-01T12:00:00.000000");
        assert!(zone.len() == 5 && zone.starts_with(['+', '-']), "{zone}");
        value
    }

    #[test]
    fn a_violation_is_an_alert_with_all_that_is_known() {
        let sha256 = "ab".repeat(32);
        let mut pairs = vec![
            ("role", "session"),
            ("session", "7f3a"),
            ("code", "oftp2-protocol-violation"),
            ("peer", "[::ffff:203.0.113.7]:40112"),
            ("local", "192.0.2.1:6619"),
            ("direction", "incoming"),
            ("partner", "ACME"),
            ("certificate_subject", "CN=\"A\\\"C\",O=x"),
            ("certificate_issuer", "CN=CA"),
            ("certificate_serial", "01:02"),
            ("certificate_sha256", &sha256),
            ("tls_version", "TLSv1.3"),
            ("tls_cipher", "TLS_AES_256_GCM_SHA384"),
            ("tls_key_exchange", "X25519"),
            ("oftp2_code", "O0013ACME"),
            ("oftp2_reply_code", "O0013HOME"),
            ("oftp2_files", "ONE\nTWO"),
            ("oftp2_file_count", "2"),
        ];
        let alert = written(&pairs, Some(ALERT));
        let flow = alert["flow_id"].as_u64().unwrap();
        assert!(flow <= LARGEST_FLOW);
        let expected = json!({
            "flow_id": flow, "event_type": "alert", "host": "dmz1", "log_level": "ERROR",
            "src_ip": "203.0.113.7", "src_port": 40112, "dest_ip": "192.0.2.1", "dest_port": 6619, "proto": "TCP",
            "alert": {
                "action": "blocked", "gid": 5024, "signature_id": 77, "rev": 1, "signature": "A peer broke a rule.",
                "category": "Protocol violation", "severity": 2,
            },
            "tls": {
                "subject": "CN=\"A\\\"C\",O=x", "issuerdn": "CN=CA", "serial": "01:02",
                "fingerprint": (["ab"; 32].join(":")), "version": "TLS 1.3",
                "cipher_suite": "TLS_AES_256_GCM_SHA384", "key_exchange": "X25519",
            },
            "oftp2": {
                "session": "7f3a", "situation": "oftp2-protocol-violation", "message": "text\n", "direction": "incoming",
                "partner": "ACME", "code": "O0013ACME", "reply_code": "O0013HOME", "files": ["ONE", "TWO"],
                "file_count": 2,
            },
        });
        assert_eq!(alert, expected);

        pairs[5].1 = "outgoing";
        let outgoing = written(&pairs, None);
        assert_eq!((&outgoing["event_type"], &outgoing["flow_id"]), (&json!("oftp2"), &json!(flow)));
        assert_eq!((&outgoing["src_ip"], &outgoing["dest_port"]), (&json!("192.0.2.1"), &json!(40112)));
        assert_eq!(outgoing.get("alert"), None);
    }

    #[test]
    fn what_has_no_connection_is_of_the_engine() {
        let told = written(&[("role", "gate"), ("pid", "7"), ("code", "link-up")], None);
        let expected = json!({
            "event_type": "engine", "host": "dmz1", "log_level": "ERROR",
            "engine": { "role": "gate", "pid": 7, "code": "link-up", "message": "text\n" },
        });
        assert_eq!(told, expected);
        let alert = written(&[("role", "switchboard")], Some(ALERT));
        assert_eq!((&alert["event_type"], &alert["engine"]["role"]), (&json!("alert"), &json!("switchboard")));
    }

    #[test]
    fn a_flow_without_session_is_known_by_its_ends() {
        let flow = |pairs: &[(&str, &str)]| written(pairs, None)["flow_id"].as_u64();
        let ends = [("peer", "203.0.113.7:1"), ("local", "192.0.2.1:6619")];
        assert!(flow(&ends).is_some());
        assert_eq!(flow(&ends), flow(&ends));
        assert_ne!(flow(&ends), flow(&[("peer", "203.0.113.7:2"), ("local", "192.0.2.1:6619")]));
        assert_eq!(flow(&[("local", "192.0.2.1:6619")]), None);
    }
}
