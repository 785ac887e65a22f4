//! How long nobody has been linked: told once, a minute after it began.

use std::time::Duration;

use tokio::time::Instant;

/// Until then a proxyclient may be on its way.
const AFTER: Duration = Duration::from_secs(60);

/// What to say of it.
pub const TEXT: &str = "no proxyclient has been linked for 60 s; partners find the port closed";

/// Whether somebody is linked, and since when nobody is.
#[derive(Debug)]
pub struct Absence {
    was_linked: bool,
    since: Instant,
    told: bool,
}

impl Absence {
    /// Nobody is linked yet.
    pub fn begin(now: Instant) -> Self {
        Self { was_linked: false, since: now, told: false }
    }

    /// When it is to be told, by whether somebody is linked now. However a link ended, it counts from then.
    pub fn due(&mut self, linked: bool, now: Instant) -> Option<Instant> {
        if std::mem::replace(&mut self.was_linked, linked) && !linked {
            (self.since, self.told) = (now, false);
        }
        (!linked && !self.told).then(|| self.since + AFTER)
    }

    /// It was told.
    pub fn told(&mut self) {
        self.told = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_once_a_minute_after_each_link_has_ended() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut absence = Absence::begin(start);
        assert_eq!((absence.due(false, at(0)), absence.due(false, at(59))), (Some(at(60)), Some(at(60))));
        absence.told();
        assert_eq!(absence.due(false, at(61)), None);
        assert_eq!(absence.due(true, at(70)), None);
        assert_eq!(absence.due(false, at(1000)), Some(at(1060)), "not at once, however long the link stood");
        assert_eq!(absence.due(true, at(1001)), None);
        assert_eq!(absence.due(false, at(1002)), Some(at(1062)));
    }
}
