//! What a record is about, beside its text: a closed set of fields with stable names, each bounded in length.
//!
//! A record brings them as keys of [`log`]; those that hold for all records of a process are set once ([`set_fields`]).
//! `seon_json` and `seon_eve` write them, `seon_layout` does not.

use std::sync::{PoisonError, RwLock};

use log::Record;
use serde::{Deserialize, Serialize};

use super::value_of;

macro_rules! fields {
    ($($(#[$doc:meta])* $variant:ident $name:literal $most:literal;)+) => {
        /// A field. Its place in this list is its number between processes of one daemon.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Field {
            $($(#[$doc])* $variant,)+
        }

        impl Field {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Its name in a record and in `seon_json`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// Octets that a value may have.
            pub(super) const fn most(self) -> usize {
                match self { $(Self::$variant => $most,)+ }
            }
        }
    };
}

fields! {
    /// Address and port of the other side.
    Peer "peer" 64;
    /// Address and port of this side.
    Local "local" 64;
    /// `incoming`, or `outgoing` where this side opened the connection.
    Direction "direction" 16;
    /// The partner by its configured name.
    Partner "partner" 128;
    /// Subject of the certificate that was shown (RFC 4514).
    CertificateSubject "certificate_subject" 512;
    /// Its issuer.
    CertificateIssuer "certificate_issuer" 512;
    /// Its serial number, hex pairs with colons.
    CertificateSerial "certificate_serial" 128;
    /// SHA-256 of it, 64 hex digits.
    CertificateSha256 "certificate_sha256" 64;
    /// `TLSv1.2` or `TLSv1.3`.
    TlsVersion "tls_version" 16;
    /// The cipher suite by its IANA name.
    TlsCipher "tls_cipher" 64;
    /// The key exchange group.
    TlsKeyExchange "tls_key_exchange" 64;
    /// Identification code in the Initiator's SSID.
    Code "oftp2_code" 32;
    /// The same of the Responder.
    ReplyCode "oftp2_reply_code" 32;
    /// Names of the files that were offered last, oldest first, one a line.
    Files "oftp2_files" 720;
    /// How many were offered in all.
    FileCount "oftp2_file_count" 20;
}

impl Field {
    fn by_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|field| field.name() == name)
    }
}

/// The fields of one record, each at most once, in the order of the list. One text holds all values: a gate reads many records.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fields {
    /// Which there are, and where the value of each ends.
    ends: Vec<(Field, u16)>,
    values: String,
}

impl Fields {
    /// No fields.
    pub(super) const NONE: &'static Self = &Self::new();

    const fn new() -> Self {
        Self { ends: Vec::new(), values: String::new() }
    }

    /// Of a record: its own, and those of the process that it does not set itself.
    pub(super) fn of(record: &Record<'_>) -> Self {
        let of_process = of_process();
        let mut fields = Self::new();
        for &field in Field::ALL {
            match value_of(record, field.name()) {
                Some(own) => fields.push(field, &bounded(own, field.most())),
                None => fields.push(field, of_process.get(field).unwrap_or_default()),
            }
        }
        fields
    }

    /// Adds one behind the last; an empty value is none.
    fn push(&mut self, field: Field, value: &str) {
        // All values together are far shorter than what this could not count.
        if !value.is_empty()
            && let Ok(end) = u16::try_from(self.values.len() + value.len())
        {
            self.values.push_str(value);
            self.ends.push((field, end));
        }
    }

    /// What a field says.
    pub fn get(&self, field: Field) -> Option<&str> {
        self.iter().find(|(known, _)| *known == field).map(|(_, value)| value)
    }

    /// All that are there.
    pub fn iter(&self) -> impl Iterator<Item = (Field, &str)> {
        let mut start = 0;
        self.ends.iter().map(move |&(field, end)| {
            let end = usize::from(end);
            (field, self.values.get(std::mem::replace(&mut start, end)..end).unwrap_or_default())
        })
    }

    /// Within the bounds that every child of ours keeps to.
    pub(super) fn is_sound(&self) -> bool {
        // A value that does not end where it should is empty.
        self.ends.is_sorted_by(|(one, _), (next, _)| one < next)
            && self.iter().all(|(field, value)| !value.is_empty() && value.len() <= field.most())
            && self.ends.last().map_or(0, |(_, end)| usize::from(*end)) == self.values.len()
    }

    /// Sets one, or takes it away with an empty value.
    fn set(&mut self, field: Field, value: &str) {
        let mut fields = Self::new();
        for &known in Field::ALL {
            fields.push(known, if known == field { value } else { self.get(known).unwrap_or_default() });
        }
        *self = fields;
    }
}

fn bounded(mut value: String, most: usize) -> String {
    const MARK: &str = "…";
    if value.len() > most {
        value.truncate(value.floor_char_boundary(most.saturating_sub(MARK.len())));
        value.push_str(MARK);
    }
    value
}

static OF_PROCESS: RwLock<Fields> = RwLock::new(Fields::new());

fn of_process() -> std::sync::RwLockReadGuard<'static, Fields> {
    OF_PROCESS.read().unwrap_or_else(PoisonError::into_inner)
}

/// Sets fields of all records that this process logs from now on, by their names, for a process that serves one session.
/// An empty value takes a field away; a name that is none is passed over.
pub fn set_fields(fields: impl IntoIterator<Item = (&'static str, String)>) {
    let mut of_process = OF_PROCESS.write().unwrap_or_else(PoisonError::into_inner);
    for (name, value) in fields {
        if let Some(field) = Field::by_name(name) {
            of_process.set(field, &bounded(value, field.most()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_lead_back() {
        for field in Field::ALL {
            assert_eq!(Field::by_name(field.name()), Some(*field));
        }
        assert_eq!(Field::by_name("code"), None);
    }

    #[test]
    fn values_are_set_replaced_taken_away_and_cut() {
        let mut fields = Fields::default();
        fields.set(Field::Partner, "ACME");
        fields.set(Field::Peer, "192.0.2.1:1");
        fields.set(Field::Partner, "OTHER");
        assert_eq!(fields.iter().collect::<Vec<_>>(), [(Field::Peer, "192.0.2.1:1"), (Field::Partner, "OTHER")]);
        assert!(fields.is_sound());
        fields.set(Field::Peer, "");
        assert_eq!((fields.get(Field::Peer), fields.get(Field::Partner)), (None, Some("OTHER")));
        assert_eq!(bounded("ü".repeat(20), 16), format!("{}…", "ü".repeat(6)));
    }

    #[test]
    fn a_record_has_its_own_fields_and_nothing_that_is_none() {
        let pairs = [("partner", "ACME"), ("unknown", "x"), ("oftp2_code", ""), ("direction", "incoming")];
        let fields = Fields::of(&Record::builder().key_values(&pairs).build());
        assert_eq!(fields.iter().collect::<Vec<_>>(), [(Field::Direction, "incoming"), (Field::Partner, "ACME")]);
    }

    #[test]
    fn ends_that_do_not_fit_the_values_are_unsound() {
        let fields = |ends: &[(Field, u16)], values: &str| Fields { ends: ends.to_vec(), values: values.to_owned() };
        assert!(fields(&[(Field::Peer, 2), (Field::Partner, 5)], "abüd").is_sound() && Fields::new().is_sound());
        let long = "x".repeat(Field::Direction.most() + 1);
        for unsound in [
            fields(&[(Field::Peer, 2), (Field::Partner, 3)], "abüd"),
            fields(&[(Field::Peer, 3), (Field::Partner, 5)], "abüd"),
            fields(&[(Field::Peer, 2), (Field::Partner, 6)], "abüd"),
            fields(&[(Field::Peer, 4), (Field::Partner, 2)], "abcd"),
            fields(&[(Field::Peer, 2), (Field::Partner, 2)], "ab"),
            fields(&[(Field::Partner, 2), (Field::Peer, 4)], "abcd"),
            fields(&[(Field::Peer, 2), (Field::Peer, 4)], "abcd"),
            fields(&[(Field::Direction, u16::try_from(long.len()).unwrap())], &long),
            fields(&[], "a"),
        ] {
            assert!(!unsound.is_sound(), "{unsound:?}");
        }
    }
}
