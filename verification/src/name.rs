//! Distinguished names: comparison by RFC 5280, 7.1 (not of display forms), reading and writing of RFC 4514 text.
//!
//! Compared are attribute types and values, case and runs of spaces apart, whatever the string type. Unicode
//! composition is not normalised: a name written with combining accents differs from one without.

use crate::der::{self, Malformed, Reader};

const UTF8_STRING: u8 = 0x0c;
const NUMERIC_STRING: u8 = 0x12;
const PRINTABLE_STRING: u8 = 0x13;
const TELETEX_STRING: u8 = 0x14;
const IA5_STRING: u8 = 0x16;
const VISIBLE_STRING: u8 = 0x1a;
const UNIVERSAL_STRING: u8 = 0x1c;
const BMP_STRING: u8 = 0x1e;

/// subject serialNumber (2.5.4.5), where OFTP2 certificates carry the Odette identification.
pub(crate) const SERIAL_NUMBER: &[u8] = &[0x55, 0x04, 0x05];

/// Short names of attribute types: first what is written, the others are read too (RFC 4514, 3, and what OpenSSL shows).
const TYPES: &[(&[u8], &[&str])] = &[
    (&[0x55, 0x04, 0x03], &["CN", "commonName"]),
    (&[0x55, 0x04, 0x04], &["SN", "surname"]),
    (SERIAL_NUMBER, &["serialNumber"]),
    (&[0x55, 0x04, 0x06], &["C", "countryName"]),
    (&[0x55, 0x04, 0x07], &["L", "localityName"]),
    (&[0x55, 0x04, 0x08], &["ST", "stateOrProvinceName", "S"]),
    (&[0x55, 0x04, 0x09], &["STREET", "streetAddress"]),
    (&[0x55, 0x04, 0x0a], &["O", "organizationName"]),
    (&[0x55, 0x04, 0x0b], &["OU", "organizationalUnitName"]),
    (&[0x55, 0x04, 0x0c], &["title"]),
    (&[0x55, 0x04, 0x0d], &["description"]),
    (&[0x55, 0x04, 0x11], &["postalCode"]),
    (&[0x55, 0x04, 0x2a], &["GN", "givenName"]),
    (&[0x55, 0x04, 0x2b], &["initials"]),
    (&[0x55, 0x04, 0x2e], &["dnQualifier"]),
    (&[0x55, 0x04, 0x61], &["organizationIdentifier"]),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x01], &["emailAddress", "E", "EMAIL"]),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x01], &["UID", "userId"]),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x19], &["DC", "domainComponent"]),
];

/// Longest name shown. RFC 5280's upper bounds keep a usual name far below.
const SHOWN: usize = 512;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Value {
    Text(String),
    /// A value of another type, or text that is none, with tag and length.
    Other(Vec<u8>),
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Attribute {
    kind: Vec<u8>,
    value: Value,
}

/// A name, in the order of its encoding (RFC 4514 text is the other way round).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name(Vec<Vec<Attribute>>);

impl Name {
    /// From the content of the SEQUENCE.
    pub(crate) fn read(content: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(content);
        let mut relative_names = Vec::new();
        while !reader.is_empty() {
            let mut set = Reader::new(reader.expect(der::SET, "a relative name")?);
            let mut attributes = Vec::new();
            while !set.is_empty() {
                let mut pair = Reader::new(set.expect(der::SEQUENCE, "an attribute of a name")?);
                let kind = pair.expect(der::OBJECT_IDENTIFIER, "an attribute's type")?.to_vec();
                let value = pair.any("an attribute's value")?;
                pair.end("an attribute of a name")?;
                attributes.push(Attribute { kind, value: Value::read(value) });
            }
            relative_names.push(attributes);
        }
        Ok(Self(relative_names))
    }

    /// First text of an attribute of this type.
    pub(crate) fn text(&self, kind: &[u8]) -> Option<&str> {
        self.0.iter().flatten().find_map(|attribute| match &attribute.value {
            Value::Text(text) if attribute.kind == kind => Some(text.as_str()),
            _ => None,
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Equal octets for equal names (RFC 5280, 7.1), different ones for different names.
    pub(crate) fn canonical(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for attributes in &self.0 {
            let mut attributes: Vec<(&[u8], u8, Vec<u8>)> = attributes
                .iter()
                .map(|attribute| match &attribute.value {
                    Value::Text(text) => (attribute.kind.as_slice(), 0, folded(text).into_bytes()),
                    Value::Other(whole) => (attribute.kind.as_slice(), 1, whole.clone()),
                })
                .collect();
            attributes.sort();
            append_counted(&mut out, &[]);
            for (kind, form, value) in attributes {
                out.push(form);
                append_counted(&mut out, kind);
                append_counted(&mut out, &value);
            }
        }
        out
    }

    /// RFC 4514 text. What could confuse a reader of the log (controls, direction marks) is written as hex pairs.
    pub(crate) fn display(&self) -> String {
        let mut out = String::new();
        for attributes in self.0.iter().rev() {
            for (index, attribute) in attributes.iter().enumerate() {
                if !out.is_empty() {
                    out.push(if index == 0 { ',' } else { '+' });
                }
                attribute.display(&mut out);
            }
        }
        bounded(out, SHOWN)
    }
}

/// Cuts long text, and shows that it did.
pub(crate) fn bounded(mut text: String, most: usize) -> String {
    if text.chars().count() > most {
        let end = text.char_indices().nth(most).map_or(text.len(), |(index, _)| index);
        text.truncate(end);
        text.push('…');
    }
    text
}

fn append_counted(out: &mut Vec<u8>, octets: &[u8]) {
    out.extend_from_slice(&u32::try_from(octets.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(octets);
}

/// Lower case, spaces at the ends away, runs of them one (RFC 4518, 2.6.1).
fn folded(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().flat_map(char::to_lowercase).collect()
}

impl Value {
    fn read(element: der::Element<'_>) -> Self {
        let content = element.content;
        let text = match element.tag {
            UTF8_STRING => str::from_utf8(content).ok().map(str::to_owned),
            // Tolerated: UTF-8 or Latin 1 where the type allows less; certificates in use have it.
            NUMERIC_STRING | PRINTABLE_STRING | IA5_STRING | VISIBLE_STRING | TELETEX_STRING => Some(
                str::from_utf8(content)
                    .map_or_else(|_| content.iter().copied().map(char::from).collect(), str::to_owned),
            ),
            BMP_STRING => {
                let (units, odd) = content.as_chunks::<2>();
                let units = units.iter().map(|unit| u16::from_be_bytes(*unit));
                char::decode_utf16(units).collect::<Result<String, _>>().ok().filter(|_| odd.is_empty())
            }
            UNIVERSAL_STRING => {
                let (units, odd) = content.as_chunks::<4>();
                let characters = units.iter().map(|unit| char::from_u32(u32::from_be_bytes(*unit)));
                characters.collect::<Option<String>>().filter(|_| odd.is_empty())
            }
            _ => None,
        };
        text.map_or_else(|| Self::Other(element.whole.to_vec()), Self::Text)
    }
}

impl Attribute {
    fn display(&self, out: &mut String) {
        match TYPES.iter().find(|(kind, _)| *kind == self.kind) {
            Some((_, names)) => out.push_str(names.first().copied().unwrap_or_default()),
            None => out.push_str(&der::dotted(&self.kind)),
        }
        out.push('=');
        match &self.value {
            Value::Text(text) => escape(text, out),
            Value::Other(whole) => {
                out.push('#');
                whole.iter().take(SHOWN).for_each(|octet| out.push_str(&format!("{octet:02x}")));
            }
        }
    }
}

/// RFC 4514, 2.4.
fn escape(text: &str, out: &mut String) {
    let last = text.chars().count().saturating_sub(1);
    for (index, character) in text.chars().enumerate() {
        match character {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => out.extend(['\\', character]),
            '#' if index == 0 => out.push_str("\\#"),
            ' ' if index == 0 || index == last => out.push_str("\\ "),
            ' '..='~' => out.push(character),
            _ if character.is_alphanumeric() => out.push(character),
            _ => character.encode_utf8(&mut [0; 4]).bytes().for_each(|octet| out.push_str(&format!("\\{octet:02x}"))),
        }
    }
}

/// Why text is no RFC 4514 name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAName {
    /// Nothing there.
    #[error("a name is expected, such as CN=ACME,O=ACME AG,C=DE")]
    Empty,
    /// A part without `=`.
    #[error("\"{0}\" has no `=`: a comma inside a value is written `\\,`")]
    NoEquals(String),
    /// An attribute type that is neither known nor an object identifier.
    #[error("\"{0}\" is no attribute type; write its object identifier")]
    Type(String),
    /// A value that RFC 4514 does not allow.
    #[error("the value of {0} is not written as RFC 4514 has it")]
    Value(String),
}

impl std::str::FromStr for Name {
    type Err = NotAName;

    /// RFC 4514, 3: the last relative name first.
    fn from_str(text: &str) -> Result<Self, NotAName> {
        if text.trim().is_empty() {
            return Err(NotAName::Empty);
        }
        let mut relative_names = Vec::new();
        let mut attributes = Vec::new();
        for (part, ends_relative_name) in parts(text) {
            let (kind, value) = part.split_once('=').ok_or_else(|| NotAName::NoEquals(part.trim().to_owned()))?;
            let kind = kind.trim();
            let octets = attribute_type(kind).ok_or_else(|| NotAName::Type(kind.to_owned()))?;
            let value = attribute_value(value).ok_or_else(|| NotAName::Value(kind.to_owned()))?;
            attributes.push(Attribute { kind: octets, value });
            if ends_relative_name {
                relative_names.push(std::mem::take(&mut attributes));
            }
        }
        relative_names.reverse();
        Ok(Self(relative_names))
    }
}

/// The parts between unescaped `,` and `+`, and whether a relative name ends after each.
fn parts(text: &str) -> Vec<(&str, bool)> {
    let mut parts = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (index, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' | ';' | '+' => {
                parts.push((text.get(start..index).unwrap_or_default(), character != '+'));
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push((text.get(start..).unwrap_or_default(), true));
    parts
}

fn attribute_type(text: &str) -> Option<Vec<u8>> {
    let known = TYPES.iter().find(|(_, names)| names.iter().any(|name| name.eq_ignore_ascii_case(text)));
    if let Some((kind, _)) = known {
        return Some(kind.to_vec());
    }
    let text =
        if text.get(..4).is_some_and(|prefix| prefix.eq_ignore_ascii_case("OID.")) { text.get(4..)? } else { text };
    let numbers: Vec<u64> = text.split('.').map(|number| number.parse().ok()).collect::<Option<_>>()?;
    let [first, second, rest @ ..] = numbers.as_slice() else { return None };
    if *first > 2 || (*first < 2 && *second > 39) {
        return None;
    }
    let mut out = Vec::new();
    for number in std::iter::once(first.checked_mul(40)?.checked_add(*second)?).chain(rest.iter().copied()) {
        let groups = (64 - number.leading_zeros()).div_ceil(7).max(1);
        for group in (0..groups).rev() {
            let seven = u8::try_from(number >> (7 * group) & 0x7f).ok()?;
            out.push(if group == 0 { seven } else { seven | 0x80 });
        }
    }
    Some(out)
}

fn attribute_value(text: &str) -> Option<Value> {
    let text = text.trim_start_matches(' ');
    if let Some(digits) = text.strip_prefix('#') {
        let octets = hex(digits.trim_end_matches(' '))?;
        let mut reader = Reader::new(&octets);
        let element = reader.any("value").ok()?;
        reader.end("value").ok()?;
        return Some(Value::read(element));
    }
    let mut octets = Vec::new();
    let mut kept = 0; // spaces at the end count only when escaped
    let mut rest = text.as_bytes();
    while let Some((&octet, after)) = rest.split_first() {
        rest = after;
        match octet {
            b'\\' => {
                let (&escaped, after) = rest.split_first()?;
                if escaped.is_ascii_hexdigit() {
                    let (pair, after) = rest.split_at_checked(2)?;
                    octets.extend(hex(str::from_utf8(pair).ok()?)?);
                    rest = after;
                } else if b" \"#+,;<=>\\".contains(&escaped) {
                    octets.push(escaped);
                    rest = after;
                } else {
                    return None;
                }
                kept = octets.len();
            }
            b'"' | b'<' | b'>' => return None,
            b' ' => octets.push(octet),
            _ => {
                octets.push(octet);
                kept = octets.len();
            }
        }
    }
    octets.truncate(kept);
    String::from_utf8(octets).ok().map(Value::Text)
}

fn hex(digits: &str) -> Option<Vec<u8>> {
    let (pairs, odd) = digits.as_bytes().as_chunks::<2>();
    if !odd.is_empty() || pairs.is_empty() {
        return None;
    }
    pairs
        .iter()
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).ok().filter(|pair| !pair.starts_with('+'))?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> Result<Name, NotAName> {
        text.parse()
    }

    /// Examples of RFC 4514, 4, and of what people write.
    #[test]
    fn text_is_read_as_rfc_4514_has_it() {
        let equal = [
            ("UID=jsmith,DC=example,DC=net", "uid=JSmith, dc=Example, DC=NET"),
            ("OU=Sales+CN=J.  Smith,DC=example,DC=net", "CN=J. Smith+OU=Sales,DC=example,DC=net"),
            (r#"CN=James \"Jim\" Smith\, III,DC=example"#, r"CN=James \22Jim\22 Smith\2C III,DC=example"),
            (r"CN=Before\0dAfter,DC=example,DC=net", r"CN=Before\0DAfter,DC=example,DC=net"),
            ("1.3.6.1.4.1.1466.0=#04024869", "OID.1.3.6.1.4.1.1466.0=#04024869"),
            (r"CN=Lu\C4\8Di\C4\87", "CN=Lučić"),
            ("2.5.4.3=ACME", "CN=ACME"),
            ("CN=#0c0441434d45", "CN=ACME"),
            ("CN=#130441434d45", "CN=ACME"),
            ("CN=ACME;O=ACME AG", "CN=ACME,O=ACME AG"),
            (r"CN=\ ACME\ ", "CN=ACME"),
            (r"CN=\#1", r"CN=\231"),
            ("O=MÜLLER", "O=müller"),
            ("SERIALNUMBER=O0013", "serialNumber=o0013"),
            ("E=edi@example.com", "emailAddress=EDI@EXAMPLE.COM"),
            ("CN=", "CN=  "),
        ];
        for (one, other) in equal {
            assert_eq!(parsed(one).unwrap().canonical(), parsed(other).unwrap().canonical(), "{one} and {other}");
        }
        let different = [
            ("CN=A,O=B", "O=B,CN=A"),
            ("CN=A,O=B", "CN=A+O=B"),
            ("CN=A", "CN=A,O="),
            ("CN=A", "OU=A"),
            ("CN=AB", "CN=A B"),
            (r"CN=A\,O=B", "CN=A,O=B"),
            ("CN=A", r"CN=A\00"),
            ("1.2.3=#04024869", "1.2.3=#04024868"),
            ("CN=#04024869", "CN=Hi"),
        ];
        for (one, other) in different {
            assert_ne!(parsed(one).unwrap().canonical(), parsed(other).unwrap().canonical(), "{one} and {other}");
        }
    }

    #[test]
    fn text_that_is_no_name_says_why() {
        let value = |kind: &str| NotAName::Value(kind.to_owned());
        let kind = |kind: &str| NotAName::Type(kind.to_owned());
        for (text, reason) in [
            ("", NotAName::Empty),
            ("   ", NotAName::Empty),
            ("ACME", NotAName::NoEquals("ACME".to_owned())),
            ("CN=ACME,", NotAName::NoEquals(String::new())),
            ("CN=ACME, Inc", NotAName::NoEquals("Inc".to_owned())),
            ("=ACME", kind("")),
            ("XY=ACME", kind("XY")),
            ("1=ACME", kind("1")),
            ("1.40.1=ACME", kind("1.40.1")),
            ("3.1=ACME", kind("3.1")),
            ("1.2.=ACME", kind("1.2.")),
            (r"CN=ACME\", value("CN")),
            (r"CN=\g", value("CN")),
            (r"CN=\4", value("CN")),
            (r"CN=\ff", value("CN")),
            ("CN=\"ACME\"", value("CN")),
            ("CN=A<B", value("CN")),
            ("CN=#", value("CN")),
            ("CN=#0", value("CN")),
            ("CN=#zz", value("CN")),
            ("CN=#+1+1", value("CN")),
            ("CN=#0c0541434d45", value("CN")),
            ("CN=#0c0441434d4500", value("CN")),
        ] {
            assert_eq!(parsed(text), Err(reason), "{text}");
        }
    }

    #[test]
    fn what_could_deceive_in_a_log_is_written_as_octets() {
        let shown = |text: &str| {
            Name(vec![vec![Attribute { kind: TYPES[0].0.to_vec(), value: Value::Text(text.to_owned()) }]]).display()
        };
        for (text, expected) in [
            ("a\nb", r"CN=a\0ab"),
            ("a\u{1b}[31m", r"CN=a\1b[31m"),
            ("a\u{202e}b", r"CN=a\e2\80\aeb"),
            ("a\u{0}", r"CN=a\00"),
            ("a\"b", "CN=a\\\"b"),
            ("a\\b", r"CN=a\\b"),
            (" a ", r"CN=\ a\ "),
            ("#a", r"CN=\#a"),
            ("a,b+c;d<e>f", r"CN=a\,b\+c\;d\<e\>f"),
            ("Müller", "CN=Müller"),
        ] {
            assert_eq!(shown(text), expected, "{text:?}");
        }
        let long = shown(&"x".repeat(2000));
        assert_eq!((long.chars().count(), long.ends_with('…')), (SHOWN + 1, true));
    }

    fn attribute() -> impl Strategy<Value = Attribute> {
        let kinds = prop_oneof![
            proptest::sample::select(TYPES).prop_map(|(kind, _)| kind.to_vec()),
            Just(vec![0x2a, 0x03, 0x87, 0x67]),
        ];
        let text = prop_oneof![any::<String>(), "[ ,+\"\\\\<>;#=a-c]{0,12}"].prop_map(Value::Text);
        (kinds, text).prop_map(|(kind, value)| Attribute { kind, value })
    }

    proptest! {
        #[test]
        fn what_is_shown_can_be_configured(attributes in prop::collection::vec(prop::collection::vec(attribute(), 1..3), 1..5)) {
            let name = Name(attributes);
            let shown = name.display();
            prop_assume!(!shown.ends_with('…'));
            prop_assert_eq!(parsed(&shown).unwrap().canonical(), name.canonical(), "{}", shown);
            prop_assert!(!shown.chars().any(char::is_control));
        }

        #[test]
        fn reading_never_panics(text in any::<String>(), octets in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parsed(&text);
            let _ = Name::read(&octets).map(|name| (name.display(), name.canonical()));
        }
    }
}
