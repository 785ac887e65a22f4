//! The kind `seon_layout`: one line for each record, in fixed columns.
//!
//! `TIME LEVEL ROLE[PID] SESSION CODE MESSAGE`, separated by one space (LEVEL padded to five), `-` where there is none:
//!
//! ```text
//! 2026-03-01T12:00:00.123+01:00 INFO  switchboard[4711] - link-up client=inside1: linked
//! ```
//!
//! What is to be done about an ERROR or a FATAL stands behind its message, after `To do:`, where its code has advice.
//!
//! Line breaks, control characters and characters that turn the direction of writing are escaped in the message, so that
//! nobody can make a line that was not logged.

use std::fmt::Write as _;

use chrono::{DateTime, Local, SecondsFormat};
use log::Record;
use log::kv::{Error, Key, Value, VisitSource};
use log4rs::config::{Deserialize, Deserializers};
use log4rs::encode::{Encode, Write};

use super::Threshold;
use super::advice::advice_for;

#[derive(Debug)]
pub(super) struct SeonLayout;

impl Encode for SeonLayout {
    fn encode(&self, w: &mut dyn Write, record: &Record<'_>) -> anyhow::Result<()> {
        Ok(w.write_all(line(Local::now(), record).as_bytes())?)
    }
}

/// The whole line, with the line break.
fn line(time: DateTime<Local>, record: &Record<'_>) -> String {
    let mut columns = Columns::default();
    // A visitor of ours does not fail.
    let _ = record.key_values().visit(&mut columns);
    let [role, pid, session, code] = columns.0.map(|value| value.unwrap_or_else(|| "-".to_owned()));
    let mut line = time.to_rfc3339_opts(SecondsFormat::Millis, false);
    line.reserve(512);
    // Nor does writing into a string.
    let _ = write!(line, " {:<5} {role}[{pid}] {session} {code} ", Threshold::of(record.metadata()));
    match record.args().as_str() {
        Some(message) => escape_into(&mut line, message),
        None => escape_into(&mut line, &record.args().to_string()),
    }
    if let Some(advice) = advice_for(record) {
        let end = if line.ends_with('.') { "" } else { "." };
        let _ = write!(line, "{end} To do: {advice}");
    }
    line.push('\n');
    line
}

/// What a record says of the columns: role, PID, session, code. Of a key that comes twice the first one counts.
#[derive(Default)]
struct Columns([Option<String>; 4]);

impl<'kvs> VisitSource<'kvs> for Columns {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        let [role, pid, session, code] = &mut self.0;
        let column = match key.as_str() {
            "role" => role,
            "pid" => pid,
            "session" => session,
            "code" => code,
            _ => return Ok(()),
        };
        if column.is_none() {
            *column = Some(value.to_string()).filter(|text| !text.is_empty());
        }
        Ok(())
    }
}

fn escape_into(line: &mut String, message: &str) {
    for c in message.chars() {
        match c {
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            c if c.is_control() || breaks_or_turns(c) => line.extend(c.escape_unicode()),
            c => line.push(c),
        }
    }
}

/// Line and paragraph separator, and the marks that change the direction of writing.
pub(super) fn breaks_or_turns(c: char) -> bool {
    matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `encoder: { kind: seon_layout }` in a `.logrc`. It has no settings.
pub(super) struct LayoutDeserializer;

#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LayoutConfig {}

impl Deserialize for LayoutDeserializer {
    type Trait = dyn Encode;
    type Config = LayoutConfig;

    fn deserialize(&self, _: LayoutConfig, _: &Deserializers) -> anyhow::Result<Box<dyn Encode>> {
        Ok(Box::new(SeonLayout))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeZone;
    use log::Level;

    fn written(pairs: &[(&str, &str)], message: &str) -> String {
        let time = Local.with_ymd_and_hms(2026, 3, 1, 12, 0, 0).unwrap();
        let pairs = &pairs;
        let whole =
            line(time, &Record::builder().level(Level::Info).key_values(pairs).args(format_args!("{message}")).build());
        let (time, rest) = whole.split_once(' ').unwrap();
        DateTime::parse_from_rfc3339(time).unwrap();
        rest.to_owned()
    }

    #[test]
    fn columns_stand_in_their_order() {
        let pairs = [("code", "link-up"), ("session", "7f3a"), ("pid", "4711"), ("role", "switchboard")];
        assert_eq!(written(&pairs, "client=inside1"), "INFO  switchboard[4711] 7f3a link-up client=inside1\n");
        assert_eq!(written(&[], "text"), "INFO  -[-] - - text\n");
    }

    #[test]
    fn advice_stands_behind_errors_that_have_some() {
        super::super::set_advice(|code| (code == "of-advice").then_some("See the network."));
        let line = |level, code: &str| {
            let pairs = &[("code", code)];
            let record = &mut Record::builder();
            line(Local::now(), &record.level(level).key_values(&pairs).args(format_args!("m")).build())
        };
        assert!(line(Level::Error, "of-advice").ends_with(" of-advice m. To do: See the network.\n"));
        assert!(line(Level::Info, "of-advice").ends_with(" of-advice m\n"));
        assert!(line(Level::Error, "link-up").ends_with(" link-up m\n"));
    }

    #[test]
    fn no_message_makes_a_second_line_or_moves_the_cursor() {
        let evil = "a\nb\r\tc\u{1b}[2Jd\u{0}\u{7f}\u{85}\u{2028}\u{202e}ü";
        let expected = "INFO  -[-] - - a\\nb\\r\\tc\\u{1b}[2Jd\\u{0}\\u{7f}\\u{85}\\u{2028}\\u{202e}ü\n";
        assert_eq!(written(&[], evil), expected);
    }
}
