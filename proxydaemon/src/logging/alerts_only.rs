//! The kind `seon_alerts`, a filter: lets an appender write refusals and violations alone, those that `seon_eve` tells as
//! `alert`. It has no settings.

use log::Record;
use log4rs::config::{Deserialize, Deserializers};
use log4rs::filter::{Filter, Response};

use super::eve::alert_of;

#[derive(Debug)]
struct AlertsOnly;

impl Filter for AlertsOnly {
    fn filter(&self, record: &Record<'_>) -> Response {
        if alert_of(record).is_some() { Response::Neutral } else { Response::Reject }
    }
}

/// `filters: [{ kind: seon_alerts }]` in a `.logrc`.
pub(super) struct FilterDeserializer;

/// It has no settings.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FilterConfig {}

impl Deserialize for FilterDeserializer {
    type Trait = dyn Filter;
    type Config = FilterConfig;

    fn deserialize(&self, _: FilterConfig, _: &Deserializers) -> anyhow::Result<Box<dyn Filter>> {
        Ok(Box::new(AlertsOnly))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logging::{Alert, set_alerts};

    #[test]
    fn what_is_no_alert_is_left_out() {
        set_alerts(|code| {
            let alert = Alert { number: 1, signature: "It is.", category: "Test", severity: 1 };
            (code == "an-alert").then_some(alert)
        });
        let passes = |code: &str| {
            let pairs = [("code", code)];
            matches!(AlertsOnly.filter(&Record::builder().key_values(&pairs).build()), Response::Neutral)
        };
        assert!(passes("an-alert"));
        assert!(!passes("none") && !passes(""));
    }
}
