//! What a session's log lines say of a deviation.

use std::fmt;

use oftp2_codec::Deviation;
use oftp2_codec::deviation::Handling;
use oftp2_codec::monitor::Place;
use proxylink::situation::Situation;

use crate::Which;

/// A deviation that was let through.
#[derive(Debug, Clone, Copy)]
pub struct Tolerated {
    /// Who showed it.
    pub by: Which,
    /// Which one.
    pub deviation: Deviation,
    /// The field in which it was seen first, if it is one of a field.
    pub place: Option<Place>,
}

impl Tolerated {
    /// Writes its line, as a warning where it is one.
    pub fn tell(&self) {
        if self.is_warning() {
            Situation::DeviationTolerated.warn(self);
        } else {
            Situation::DeviationTolerated.tell(self);
        }
    }

    fn is_warning(&self) -> bool {
        self.deviation.handling() == Handling::Warn
    }
}

impl fmt::Display for Tolerated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "from the {}: {}", self.by, self.deviation)?;
        if let Some(Place { field, position }) = self.place {
            write!(f, " ({field} at {position})")?;
        }
        match self.deviation.strict() {
            Some(reason) => write!(f, "; `conformance: strict` refuses it with ESID {:02}", reason.code()),
            None => f.write_str("; `conformance: strict` lets it pass too"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_who_what_where_and_what_strict_would_do() {
        let place = Some(Place { field: "SFIDDSN", position: 1 });
        let named = Tolerated { by: Which::Partner, deviation: Deviation::LeadingBlanks, place };
        assert_eq!(
            named.to_string(),
            "from the partner: D09: a text field is right-justified (SFIDDSN at 1); \
             `conformance: strict` refuses it with ESID 06"
        );
        assert!(named.is_warning());
        let passes = Tolerated { by: Which::Inside, deviation: Deviation::EndInsteadOfReady, place: None };
        assert!(passes.to_string().starts_with("from the inside: D23: "), "{passes}");
        assert!(passes.to_string().ends_with("ESID instead of an SSRM; `conformance: strict` lets it pass too"));
        assert!(!passes.is_warning());
    }
}
