//! The kind `pattern`: that of log4rs, which writes what is wrong with a pattern into each line, and goes on. Here it is a
//! mistake of the `.logrc`.

use chrono::format::{Item, StrftimeItems};
use log::Record;
use log4rs::config::{Deserialize, Deserializers};
use log4rs::encode::Encode;
use log4rs::encode::pattern::PatternEncoder;
use log4rs::encode::writer::simple::SimpleWriter;

use super::appender::Opening;

/// What log4rs writes in the place of something that it does not understand begins with this.
const ERROR: &str = "{ERROR: ";

/// `kind: pattern` in a `.logrc`.
pub(super) struct PatternDeserializer {
    pub(super) opening: Opening,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PatternConfig {
    pattern: Option<String>,
}

impl Deserialize for PatternDeserializer {
    type Trait = dyn Encode;
    type Config = PatternConfig;

    fn deserialize(&self, config: PatternConfig, _: &Deserializers) -> anyhow::Result<Box<dyn Encode>> {
        let Some(pattern) = config.pattern else { return Ok(Box::new(PatternEncoder::default())) };
        let encoder = PatternEncoder::new(&pattern);
        // A gate that goes on keeps the log that it has.
        if self.opening != Opening::Again
            && let Some(mistake) = mistake(&pattern, &encoder)
        {
            anyhow::bail!("pattern `{pattern}`: {mistake}");
        }
        Ok(Box::new(encoder))
    }
}

/// What is wrong with a pattern, as a record without a message shows it. What is cut off by a width is not seen.
fn mistake(pattern: &str, encoder: &PatternEncoder) -> Option<String> {
    // First of all: a time that cannot be written would end the process, at each record.
    if let Some(format) = formats_of_time(pattern).find(|format| StrftimeItems::new(format).any(|it| it == Item::Error))
    {
        return Some(format!("`{format}` is no format of a time"));
    }
    let mut line = SimpleWriter(Vec::new());
    if let Err(error) = encoder.encode(&mut line, &Record::builder().args(format_args!("")).build()) {
        return Some(format!("nothing can be written by it: {error}"));
    }
    let line = String::from_utf8_lossy(&line.0);
    let (_, found) = line.split_once(ERROR)?;
    Some(found.split_once('}').map_or(found, |(found, _)| found).to_owned())
}

/// What stands in `{d(…)}` and `{date(…)}`.
fn formats_of_time(pattern: &str) -> impl Iterator<Item = &str> {
    let of = |name| pattern.split(name).skip(1).filter_map(|rest| rest.split(')').next());
    of("{d(").chain(of("{date("))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_in_a_pattern_is_found_and_nothing_else_is_one() {
        for (pattern, expected) in [
            ("{d} {l} {t} - {m}{n}", None),
            ("{d(%Y-%m-%dT%H:%M:%S%.3f%:z)} {({l}):5.5} {h({m})} {X(key)(none)} {P} {M} {f}:{L}{n}", None),
            ("{{literal}} {m} ERROR: {n}", None),
            ("{zzz} {l}", Some("unknown formatter `zzz`")),
            ("{m} {l", Some("expected '")),
            ("{m} }", Some("unmatched '")),
            ("{d(%Y)(mars)}", Some("invalid timezone `mars`")),
            ("{h({zzz})}", Some("unknown formatter `zzz`")),
            ("{d(%Q)}", Some("`%Q` is no format of a time")),
            ("{m} {date(%H:%M)(utc)} {date(%H:%)(utc):30}", Some("`%H:%` is no format of a time")),
        ] {
            let found = mistake(pattern, &PatternEncoder::new(pattern));
            let as_expected = match (&found, expected) {
                (None, None) => true,
                (Some(found), Some(expected)) => found.starts_with(expected),
                _ => false,
            };
            assert!(as_expected, "{pattern}: {found:?}, {expected:?} expected");
        }
    }
}
