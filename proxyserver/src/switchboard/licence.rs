//! The licence while the proxyserver runs: warnings before its end, its end, and a file that was changed meanwhile.
//!
//! The gate opens the file, every few seconds when asked; this role reads it, as nothing that was signed by an issuer is
//! too much for it, and it could not open a file itself.

use std::fs::File;
use std::os::fd::OwnedFd;

use license::{IssuerKey, Licence, LicenceError};

use super::*;

/// How often the file is looked at.
pub(super) const LOOK: Duration = Duration::from_secs(5);
/// Longest time between two looks at the clock, which may be set.
const CLOCK: Duration = Duration::from_secs(60);

/// What is known of the licence beside the one in force.
#[derive(Default)]
pub(super) struct Watch {
    /// It has ended.
    pub(super) expired: bool,
    /// The last warning that the licence ends, by its days.
    warned: Option<u32>,
    /// That warning, while nobody is linked who could bring it to the backend.
    unreported: Option<String>,
    /// What was wrong with the file at the last look, and whether that was told: a file may be looked at while it is
    /// being written.
    wrong: Option<(&'static str, bool)>,
}

impl Switchboard {
    /// Looks at the clock, and says when to do so again.
    pub(super) fn check_licence(&mut self) -> Duration {
        let now = SystemTime::now();
        let until = self.licence.grant().valid_until;
        if !self.watch.expired && self.licence.has_expired(now) {
            self.watch.expired = true;
            let text = format!("it was valid until {}", license::moment(until));
            Situation::LicenceExpired.tell(&text);
            self.to_gate(&FromSwitchboard::LicenceExpired, &[]);
            self.report(Situation::LicenceExpired, text, None);
        }
        let due = licence_warning(self.licence.days_left(now));
        if !self.watch.expired && due.is_some_and(|due| self.watch.warned.is_none_or(|warned| due < warned)) {
            self.watch.warned = due;
            let text = format!("it is valid until {}", license::moment(until));
            Situation::LicenceExpires.tell(&text);
            self.watch.unreported = Some(text);
        }
        self.report_licence();
        // The second after the last one.
        let left = u64::try_from(until.timestamp()).ok().map(|until| UNIX_EPOCH + Duration::from_secs(until + 1));
        let left = left.and_then(|end| end.duration_since(now).ok()).filter(|_| !self.watch.expired);
        left.map_or(CLOCK, |left| CLOCK.min(left + Duration::from_millis(10)))
    }

    pub(super) fn report_licence(&mut self) {
        if self.linked.is_some()
            && let Some(text) = self.watch.unreported.take()
        {
            self.report(Situation::LicenceExpires, text, None);
        }
    }

    /// The gate has opened the file, or could not, with this error. Whether the clock is to be looked at anew.
    pub(super) fn licence_opened(&mut self, error: Option<String>, descriptors: Vec<OwnedFd>) -> bool {
        let read = match descriptors.into_iter().next() {
            Some(file) => Licence::from_file(File::from(file), &IssuerKey::built_in()),
            None => Err(LicenceError::Gone(error.unwrap_or_default())),
        };
        let own = self.licence.grant().proxy_id;
        match read {
            Ok(read) if read == *self.licence.as_licence() => self.watch.wrong = None,
            read => match read.and_then(|read| read.check(own, SystemTime::now())) {
                Ok(valid) => {
                    self.renew_licence(valid);
                    return true;
                }
                Err(error) => self.licence_wrong(&error),
            },
        }
        false
    }

    fn renew_licence(&mut self, licence: ValidLicence) {
        let grant = licence.grant();
        let text = format!(
            "licensed to {} until {}; {} proxyclient(s) may link",
            escape(&grant.licensee),
            license::moment(grant.valid_until),
            licence.clients().len()
        );
        self.licence = Arc::new(licence);
        *self.port.licence.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&self.licence);
        let was_expired = self.watch.expired;
        self.watch = Watch::default();
        Situation::LicenceRenewed.tell(&text);
        self.report(Situation::LicenceRenewed, text, None);
        if was_expired {
            self.to_gate(&FromSwitchboard::LicenceValid, &[]);
        }
        self.end_unlicensed();
    }

    /// A client whose line was taken out of the file is linked no longer.
    fn end_unlicensed(&mut self) {
        let Some(linked) = &self.linked else { return };
        if self.licence.clients().iter().any(|client| KeyHash::of_spki(&client.key.spki()) == linked.key) {
            return;
        }
        let text = "its `client:` line was taken out of the licence file".to_owned();
        Situation::LinkClientUnlicensed.tell(format_args!("peer={}: {text}", linked.from));
        let goodbye = Goodbye { situation: Situation::LinkClientUnlicensed, text: text.clone() };
        self.send(FromServer::Goodbye(goodbye));
        self.unlink(&text);
    }

    /// Told when two looks in a row find the same fault, once as long as it lasts.
    fn licence_wrong(&mut self, error: &LicenceError) {
        let code = error.code();
        let told = match self.watch.wrong {
            Some((before, told)) if before == code => {
                if !told {
                    let text = format!("{code}: {error}");
                    Situation::LicenceUnusable.tell(&text);
                    self.report(Situation::LicenceUnusable, text, None);
                }
                true
            }
            _ => false,
        };
        self.watch.wrong = Some((code, told));
    }
}

/// The warning that is due when so many whole days are left: the latest of those whose time has come.
fn licence_warning(days_left: i64) -> Option<u32> {
    verification::WARNINGS.into_iter().filter(|days| days_left < i64::from(*days)).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_licence_is_warned_of_30_7_and_1_days_before_its_end() {
        let due = [(31, None), (30, None), (29, Some(30)), (7, Some(30)), (6, Some(7)), (1, Some(7)), (0, Some(1))];
        for (days_left, warning) in due {
            assert_eq!(licence_warning(days_left), warning, "{days_left}");
        }
    }
}
