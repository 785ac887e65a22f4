//! The kind `seon_json`: one JSON object (RFC 8259) for each record, each on a line of its own. It has no settings.
//!
//! Names are stable; a member without value is left out. All values are text unless said otherwise.
//!
//! | Member | Meaning |
//! | --- | --- |
//! | `time` | RFC 3339 with milliseconds and the offset of the local zone |
//! | `level` | `TRACE`, `DEBUG`, `INFO`, `WARN`, `ERROR`, `FATAL` |
//! | `host` | name of this host |
//! | `role`, `pid` | which process logs: `gate`, `switchboard`, `agent`, `session`; `pid` is a number |
//! | `session` | the session, a UUID, the same in both daemons |
//! | `code` | the situation's kebab-case code |
//! | `message` | the text of the line |
//! | `advice` | what is to be done about it, for `ERROR` and `FATAL` |
//! | `peer`, `local` | both ends of the connection, `ADDRESS:PORT`, IPv6 in brackets |
//! | `direction` | `incoming`: the partner connected; `outgoing`: the proxy did |
//! | `partner` | the partner's configured name |
//! | `certificate_subject`, `certificate_issuer`, `certificate_serial`, `certificate_sha256` | the certificate that the peer showed: names in RFC 4514 form, hex pairs with colons, 64 hex digits |
//! | `tls_version`, `tls_cipher`, `tls_key_exchange` | what was agreed with the peer: `TLSv1.3`, IANA name of the suite, name of the group |
//! | `oftp2_code`, `oftp2_reply_code` | identification codes of Initiator and Responder (SSIDCODE) |
//! | `oftp2_files` | list: names (SFIDDSN) of the files that were offered last, at most sixteen |
//! | `oftp2_file_count` | number: how many were offered in all |
//!
//! ```text
//! {"time":"2026-03-01T12:00:00.123+01:00","level":"INFO","host":"dmz1","role":"session","pid":4711,"session":"…","code":"session-ended","message":"…","peer":"203.0.113.7:40112","partner":"ACME"}
//! ```

use chrono::{DateTime, Local};
use log::Record;
use log4rs::config::{Deserialize, Deserializers};
use log4rs::encode::{Encode, Write};

use super::advice::advice_for;
use super::field::{Field, Fields};
use super::json::Object;
use super::{Threshold, value_of};

#[derive(Debug)]
pub(super) struct SeonJson {
    host: String,
}

impl SeonJson {
    pub(super) fn new() -> Self {
        Self { host: crate::host_name() }
    }

    fn line(&self, time: DateTime<Local>, record: &Record<'_>) -> String {
        let mut line = Object::new();
        line.text("time", &time.format("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string());
        line.text("level", Threshold::of(record.metadata()).name()).text("host", &self.host);
        line.text_if("role", value_of(record, "role").as_deref());
        if let Some(pid) = value_of(record, "pid").and_then(|pid| pid.parse().ok()) {
            line.number("pid", pid);
        }
        line.text_if("session", value_of(record, "session").as_deref());
        line.text_if("code", value_of(record, "code").as_deref());
        line.text("message", &record.args().to_string());
        line.text_if("advice", advice_for(record));
        for (field, value) in Fields::of(record).iter() {
            match (field, value.parse()) {
                (Field::Files, _) => line.texts(field.name(), value.lines()),
                (Field::FileCount, Ok(count)) => line.number(field.name(), count),
                _ => line.text(field.name(), value),
            };
        }
        line.into_line()
    }
}

impl Encode for SeonJson {
    fn encode(&self, w: &mut dyn Write, record: &Record<'_>) -> anyhow::Result<()> {
        Ok(w.write_all(self.line(Local::now(), record).as_bytes())?)
    }
}

/// `encoder: { kind: seon_json }` in a `.logrc`.
pub(super) struct JsonDeserializer;

/// It has no settings.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct JsonConfig {}

impl Deserialize for JsonDeserializer {
    type Trait = dyn Encode;
    type Config = JsonConfig;

    fn deserialize(&self, _: JsonConfig, _: &Deserializers) -> anyhow::Result<Box<dyn Encode>> {
        Ok(Box::new(SeonJson::new()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeZone;
    use log::Level;
    use serde_json::{Value, json};

    fn written(pairs: &[(&str, &str)], level: Level, message: &str) -> Value {
        let pairs = &pairs;
        let record = &mut Record::builder();
        let time = Local.with_ymd_and_hms(2026, 3, 1, 12, 0, 0).unwrap();
        let layout = SeonJson { host: "dmz1".into() };
        let line = layout.line(time, &record.level(level).key_values(pairs).args(format_args!("{message}")).build());
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        let mut value: Value = serde_json::from_str(&line).unwrap();
        let time = value.as_object_mut().unwrap().remove("time").unwrap();
        DateTime::parse_from_rfc3339(time.as_str().unwrap()).unwrap();
        value
    }

    #[test]
    fn members_have_their_names_and_are_left_out_without_value() {
        let least = json!({ "level": "WARN", "host": "dmz1", "message": "a \"text\"\n" });
        assert_eq!(written(&[], Level::Warn, "a \"text\"\n"), least);
        let pairs: Vec<(&str, &str)> = Field::ALL
            .iter()
            .map(|field| match field {
                Field::Files => (field.name(), "ONE\nT\"WO"),
                Field::FileCount => (field.name(), "17"),
                field => (field.name(), field.name()),
            })
            .chain([("role", "session"), ("pid", "7"), ("session", "s"), ("code", "session-ended")])
            .collect();
        let all = written(&pairs, Level::Info, "m");
        let expected = json!({
            "level": "INFO", "host": "dmz1", "role": "session", "pid": 7, "session": "s", "code": "session-ended",
            "message": "m", "peer": "peer", "local": "local", "direction": "direction", "partner": "partner",
            "certificate_subject": "certificate_subject", "certificate_issuer": "certificate_issuer",
            "certificate_serial": "certificate_serial", "certificate_sha256": "certificate_sha256",
            "tls_version": "tls_version", "tls_cipher": "tls_cipher", "tls_key_exchange": "tls_key_exchange",
            "oftp2_code": "oftp2_code", "oftp2_reply_code": "oftp2_reply_code",
            "oftp2_files": ["ONE", "T\"WO"], "oftp2_file_count": 17,
        });
        assert_eq!(all, expected);
    }
}
